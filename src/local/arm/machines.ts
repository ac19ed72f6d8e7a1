/** Virtual machines: only what they hold on to. Nothing runs. */
import { badRequest, conflict, resourceNotFound } from './arm-error.ts';
import type { Change, Operations } from './operations.ts';
import { type Answer, commonOf, isRecord, recordAt, type ResourceRequest, tagsOf, textAt } from './request.ts';
import { type ArmState, keyOf, type Machine, type Operation, type Volume } from './state.ts';

const NETWORK_INTERFACE =
  /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.Network\/networkInterfaces\/[^/]+$/i;
const MAX_LUN = 63;

export interface MachinesOptions {
  readonly state: ArmState;
  readonly operations: () => Operations;
}

export class Machines {
  readonly #options: MachinesOptions;

  constructor(options: MachinesOptions) {
    this.#options = options;
  }

  put(request: ResourceRequest): Answer {
    const { state, operations } = this.#options;
    const { id, name = '', body, fault } = request;
    if (state.isBusy(id)) throw busy(id);
    const existing = state.machine(id);
    const common = commonOf(body);
    const properties = recordAt(body, 'properties');
    const disks = this.#disksOf(id, properties, common.zones);
    requireInterfaces(properties);
    textAt(recordAt(properties, 'hardwareProfile'), 'vmSize');
    const machine: Machine = {
      id,
      name,
      type: 'virtualMachines',
      ...common,
      provisioningState: existing === undefined ? 'Creating' : 'Updating',
      timeCreated: existing?.timeCreated ?? new Date().toISOString(),
      properties,
      diskIds: disks.map((disk) => disk.id),
    };
    const detached = this.#attachedTo(id).filter((disk) => !disks.includes(disk));
    const volumes = [...disks.map((disk) => attached(disk, id)), ...detached.map(released)];
    const operation = operations().begin({ kind: 'create', target: id }, fault, { machines: [machine], volumes });
    return { status: existing === undefined ? 201 : 200, body: machineBody(machine), operation };
  }

  patch({ id, body }: ResourceRequest): Answer {
    const existing = this.#options.state.machine(id);
    if (existing === undefined) throw resourceNotFound(id);
    const updated: Machine = { ...existing, tags: tagsOf(body) };
    this.#options.state.change({ machines: [updated] });
    return { status: 200, body: machineBody(updated) };
  }

  /** Deletes the machine; its disks and network interfaces stay. */
  remove({ id, fault }: ResourceRequest): Answer {
    const { state, operations } = this.#options;
    const machine = state.machine(id);
    if (machine === undefined) return { status: 204 };
    if (state.isBusy(id)) throw busy(id);
    const deleting: Machine = { ...machine, provisioningState: 'Deleting' };
    const operation = operations().begin({ kind: 'delete', target: id }, fault, { machines: [deleting] });
    return { status: 202, operation };
  }

  async perform({ kind, target }: Operation): Promise<Change> {
    const machine = this.#options.state.machine(target);
    if (machine === undefined) throw resourceNotFound(target);
    if (kind === 'delete') return { removed: [machine.id], volumes: this.#attachedTo(machine.id).map(released) };
    return { machines: [{ ...machine, provisioningState: 'Succeeded' }] };
  }

  /** A machine that could not be made stays with its disks, as on Azure. */
  undo({ target }: Operation): Change {
    const machine = this.#options.state.machine(target);
    return machine === undefined ? {} : { machines: [{ ...machine, provisioningState: 'Failed' }] };
  }

  #attachedTo(id: string): Volume[] {
    const subscription = /^\/subscriptions\/[^/]+\//.exec(id)?.[0] ?? '';
    const disks = this.#options.state.list('disks', subscription) as Volume[];
    return disks.filter(({ managedBy }) => managedBy !== null && keyOf(managedBy) === keyOf(id));
  }

  /** The system disk, then the data disks. @throws ArmError when one of them cannot be attached */
  #disksOf(id: string, properties: Readonly<Record<string, unknown>>, zones: readonly string[]): Volume[] {
    const profile = recordAt(properties, 'storageProfile');
    const osDisk = recordAt(profile, 'osDisk');
    textAt(osDisk, 'osType');
    const dataDisks = (Array.isArray(profile['dataDisks']) ? profile['dataDisks'] : []).filter(isRecord);
    const luns = dataDisks.map(({ lun }) => lun);
    const isLun = (lun: unknown): boolean => Number.isInteger(lun) && Number(lun) >= 0 && Number(lun) <= MAX_LUN;
    if (!luns.every(isLun) || new Set(luns).size !== luns.length) {
      throw badRequest('InvalidParameter', `The LUNs of the data disks must differ, and be from 0 to ${MAX_LUN}.`);
    }
    const disks = [osDisk, ...dataDisks].map((entry) => this.#attachable(id, entry, zones));
    if (new Set(disks).size === disks.length) return disks;
    throw badRequest('InvalidParameter', 'A disk can be attached only once.');
  }

  #attachable(id: string, entry: Readonly<Record<string, unknown>>, zones: readonly string[]): Volume {
    if (textAt(entry, 'createOption') !== 'Attach') {
      throw badRequest('InvalidParameter', 'Only disks that exist are attached here: createOption Attach.');
    }
    const diskId = textAt(recordAt(entry, 'managedDisk'), 'id');
    const disk = this.#options.state.volume(diskId);
    if (disk?.type !== 'disks') throw resourceNotFound(diskId);
    const own = disk.managedBy !== null && keyOf(disk.managedBy) === keyOf(id);
    if (disk.managedBy !== null && !own) {
      throw conflict('ConflictingUserInput', `Disk '${disk.name}' is already owned by VM '${disk.managedBy}'.`);
    }
    if (disk.provisioningState !== 'Succeeded' || (disk.diskState !== 'Unattached' && !own)) {
      throw conflict('OperationNotAllowed', `Disk '${disk.name}' cannot be attached in state ${disk.diskState}.`);
    }
    if (disk.zones.length > 0 && disk.zones[0] !== zones[0]) {
      throw badRequest('BadRequest', `Disk '${disk.name}' is in zone ${disk.zones[0]}, and the VM is not.`);
    }
    return disk;
  }
}

const attached = (disk: Volume, id: string): Volume => ({ ...disk, managedBy: id, diskState: 'Attached' });
const released = (disk: Volume): Volume => ({ ...disk, managedBy: null, diskState: 'Unattached' });

const busy = (id: string) =>
  conflict('AnotherOperationInProgress', `Another operation on '${id}' is in progress. Retry later.`);

/** @throws ArmError LinkedInvalidPropertyId, InvalidParameter */
function requireInterfaces(properties: Readonly<Record<string, unknown>>): void {
  const interfaces = recordAt(properties, 'networkProfile')['networkInterfaces'];
  if (!Array.isArray(interfaces) || interfaces.length === 0) {
    throw badRequest('InvalidParameter', 'A virtual machine has at least one network interface.');
  }
  for (const entry of interfaces as unknown[]) {
    const id = isRecord(entry) ? entry['id'] : undefined;
    if (typeof id === 'string' && NETWORK_INTERFACE.test(id)) continue;
    throw badRequest(
      'LinkedInvalidPropertyId',
      `Property id '${String(id)}' at path 'properties.networkProfile.networkInterfaces' is invalid. Expect fully qualified resource Id.`,
    );
  }
}

/** As Azure shows it. */
export function machineBody({ id, name, location, tags, zones, properties, provisioningState }: Machine): unknown {
  return {
    id,
    name,
    type: 'Microsoft.Compute/virtualMachines',
    location,
    tags,
    ...(zones.length > 0 && { zones }),
    properties: { ...properties, provisioningState },
  };
}
