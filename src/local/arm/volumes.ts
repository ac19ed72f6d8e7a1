/** Managed disks and snapshots: how they are made, given access to, and deleted. */
import { randomUUID } from 'node:crypto';
import { ArmError, badRequest, conflict, resourceNotFound } from './arm-error.ts';
import type { Change, Operations } from './operations.ts';
import type { PageBlobs } from './page-blobs.ts';
import { type Answer, commonOf, isRecord, recordAt, type ResourceRequest, tagsOf, textAt } from './request.ts';
import type { ArmState, Operation, Volume, VolumeType } from './state.ts';
import { FOOTER_BYTES, requireFixedVhd, requireWholeMib } from './vhd-check.ts';

const GIB = 1024 ** 3;
/** Azure: a SAS of a disk lives 60 days at most. */
const MAX_ACCESS_SECONDS = 60 * 86_400;
const VALIDATION_LIMIT_MS = 30_000;

export interface VolumesOptions {
  readonly state: ArmState;
  readonly operations: () => Operations;
  /** Opened by the first request that needs the bytes. */
  readonly blobs: () => Promise<PageBlobs>;
}

export class Volumes {
  readonly #options: VolumesOptions;

  constructor(options: VolumesOptions) {
    this.#options = options;
  }

  async put(request: ResourceRequest): Promise<Answer> {
    const { state, operations } = this.#options;
    const existing = state.volume(request.id);
    if (state.isBusy(request.id)) throw busy(request.id);
    if (existing !== undefined && existing.provisioningState !== 'Failed') return this.#update(existing, request);
    const volume = await this.#plan(request);
    const operation = operations().begin({ kind: 'create', target: volume.id }, request.fault, { volumes: [volume] });
    return { status: 202, body: volumeBody(volume), operation };
  }

  /** Tags and SKU of a volume may change; where its bytes come from may not. */
  #update(existing: Volume, { body }: ResourceRequest): Answer {
    const properties = recordAt(body, 'properties');
    const wanted = properties['creationData'];
    if (wanted !== undefined && JSON.stringify(sorted(wanted)) !== JSON.stringify(sorted(existing.creationData))) {
      throw conflict('PropertyChangeNotAllowed', "Changing property 'creationData' is not allowed.");
    }
    const sku = recordAt(body, 'sku')['name'];
    const updated: Volume = {
      ...existing,
      ...(body['tags'] !== undefined && { tags: tagsOf(body) }),
      ...(typeof sku === 'string' && { sku }),
    };
    this.#options.state.change({ volumes: [updated] });
    return { status: 200, body: volumeBody(updated) };
  }

  /** @throws ArmError resource not found, or busy */
  patch(request: ResourceRequest): Answer {
    const existing = this.#options.state.volume(request.id);
    if (existing === undefined) throw resourceNotFound(request.id);
    if (this.#options.state.isBusy(request.id)) throw busy(request.id);
    return this.#update(existing, request);
  }

  /** Everything about the request that Azure refuses at once is refused here. */
  async #plan({ id, name = '', type, body }: ResourceRequest): Promise<Volume> {
    const volumeType = type as VolumeType;
    const { creationData: _, ...properties } = recordAt(body, 'properties');
    const creationData = recordAt(recordAt(body, 'properties'), 'creationData');
    if (!/^[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?$/.test(name)) {
      throw badRequest('InvalidResourceName', `The name '${name.slice(0, 100)}' is no name of a disk.`);
    }
    const option = textAt(creationData, 'createOption');
    if (type === 'snapshots' && option !== 'Copy') throw badRequest('InvalidParameter', 'A snapshot is a Copy.');
    const sizeBytes = await this.#sizeOf(name, option, creationData, properties);
    const sku = recordAt(body, 'sku')['name'];
    return {
      id,
      name,
      type: volumeType,
      ...commonOf(body),
      sku: typeof sku === 'string' ? sku : 'Standard_LRS',
      creationData,
      sizeBytes,
      blob: blobName(volumeType),
      provisioningState: 'Creating',
      diskState: option === 'Upload' ? 'ReadyToUpload' : 'Unattached',
      managedBy: null,
      timeCreated: new Date().toISOString(),
      properties,
    };
  }

  async #sizeOf(
    name: string,
    option: string,
    creationData: Readonly<Record<string, unknown>>,
    properties: Readonly<Record<string, unknown>>,
  ): Promise<number> {
    switch (option) {
      case 'Import': {
        const blobs = await this.#options.blobs();
        requireAccount(textAt(creationData, 'storageAccountId'), blobs.accountName);
        const signal = AbortSignal.timeout(VALIDATION_LIMIT_MS);
        const source = await blobs.source(textAt(creationData, 'sourceUri'), signal);
        return requireFixedVhd(source.name, source.blobBytes, source.footer);
      }
      case 'Upload': {
        const sizeBytes = Number(creationData['uploadSizeBytes']) - FOOTER_BYTES;
        requireWholeMib(name, sizeBytes);
        return sizeBytes;
      }
      case 'Copy':
        return this.#copied(creationData).sizeBytes;
      case 'Empty': {
        const sizeBytes = Number(properties['diskSizeGB']) * GIB;
        requireWholeMib(name, sizeBytes);
        return sizeBytes;
      }
      default:
        throw badRequest('InvalidParameter', `The createOption ${option} is not supported here.`);
    }
  }

  #copied(creationData: Readonly<Record<string, unknown>>): Volume {
    const id = textAt(creationData, 'sourceResourceId');
    const source = this.#options.state.volume(id);
    if (source === undefined) throw resourceNotFound(id);
    const ready = source.provisioningState === 'Succeeded' && !source.diskState.endsWith('Upload');
    if (!ready) throw conflict('OperationNotAllowed', `The source ${source.name} is not ready to be copied.`);
    return source;
  }

  remove({ id, fault }: ResourceRequest): Answer {
    const { state, operations } = this.#options;
    const volume = state.volume(id);
    if (volume === undefined) return { status: 204 };
    if (state.isBusy(id)) throw busy(id);
    if (volume.managedBy !== null) {
      throw conflict('OperationNotAllowed', `Disk ${volume.name} is attached to VM ${volume.managedBy}.`);
    }
    if (volume.diskState === 'ActiveSAS' || volume.diskState === 'ActiveUpload') {
      throw conflict(
        'OperationNotAllowed',
        `There is an active shared access signature outstanding for ${volume.name}.`,
      );
    }
    const deleting: Volume = { ...volume, provisioningState: 'Deleting' };
    const operation = operations().begin({ kind: 'delete', target: volume.id }, fault, { volumes: [deleting] });
    return { status: 202, operation };
  }

  act({ id, action, body, fault }: ResourceRequest): Answer {
    const { state, operations } = this.#options;
    const volume = state.volume(id);
    if (volume === undefined) throw resourceNotFound(id);
    if (state.isBusy(id)) throw busy(id);
    if (action?.toLowerCase() === 'endgetaccess') {
      return { status: 202, operation: operations().begin({ kind: 'revoke', target: volume.id }, fault) };
    }
    const access = accessOf(body);
    const states = access.level === 'Write' ? ['ReadyToUpload', 'ActiveUpload'] : ['Unattached', 'ActiveSAS'];
    if (volume.provisioningState !== 'Succeeded' || !states.includes(volume.diskState)) {
      throw conflict(
        'OperationNotAllowed',
        `${access.level} access to ${volume.name} is not possible in state ${volume.diskState}.`,
      );
    }
    return { status: 202, operation: operations().begin({ kind: 'grant', target: volume.id, access }, fault) };
  }

  /** The URL of a grant that has succeeded; undefined when the access has been ended since. */
  async accessUrl({ target, access, startedAt }: Operation): Promise<string | undefined> {
    const volume = this.#options.state.volume(target);
    if (volume === undefined || access === null) return undefined;
    if (volume.diskState !== (access.level === 'Write' ? 'ActiveUpload' : 'ActiveSAS')) return undefined;
    const expires = new Date(Date.parse(startedAt) + access.seconds * 1000);
    return (await this.#options.blobs()).grant(volume.blob, access.level, expires);
  }

  async perform({ kind, target, access }: Operation, signal: AbortSignal): Promise<Change> {
    const volume = this.#options.state.volume(target);
    if (volume === undefined) throw resourceNotFound(target);
    const blobs = await this.#options.blobs();
    switch (kind) {
      case 'create':
        await this.#fill(volume, blobs, signal);
        return { volumes: [{ ...volume, provisioningState: 'Succeeded' }] };
      case 'delete':
        await blobs.remove(volume.blob, signal);
        return { removed: [volume.id] };
      case 'grant':
        return { volumes: [{ ...volume, diskState: access?.level === 'Write' ? 'ActiveUpload' : 'ActiveSAS' }] };
      case 'revoke':
        break;
    }
    return this.#revoke(volume, blobs, signal);
  }

  /** A disk that could not be made stays and says so; one that could not be deleted is what it was. */
  undo({ kind, target }: Operation): Change {
    const volume = this.#options.state.volume(target);
    if (volume === undefined || kind === 'grant' || kind === 'revoke') return {};
    return { volumes: [{ ...volume, provisioningState: kind === 'create' ? 'Failed' : 'Succeeded' }] };
  }

  async #fill(volume: Volume, blobs: PageBlobs, signal: AbortSignal): Promise<void> {
    const { creationData, blob, sizeBytes } = volume;
    switch (creationData['createOption']) {
      case 'Import': {
        const source = await blobs.source(textAt(creationData, 'sourceUri'), signal);
        requireFixedVhd(source.name, source.blobBytes, source.footer);
        return blobs.copy(source, blob, signal);
      }
      case 'Copy':
        return blobs.copy(await blobs.managed(this.#copied(creationData).blob, signal), blob, signal);
      default:
        await blobs.create(blob, sizeBytes + FOOTER_BYTES, signal);
    }
  }

  /** Ends every access. An upload is a disk from here on, if what was written is a VHD. */
  async #revoke(volume: Volume, blobs: PageBlobs, signal: AbortSignal): Promise<Change> {
    if (volume.diskState !== 'ActiveUpload' && volume.diskState !== 'ActiveSAS') return {};
    const stale = volume.blob;
    const blob = blobName(volume.type);
    await blobs.rename(stale, blob, signal);
    const moved: Volume = { ...volume, blob, diskState: 'ReadyToUpload' };
    this.#options.state.change({
      volumes: [volume.diskState === 'ActiveSAS' ? { ...moved, diskState: 'ActiveSAS' } : moved],
    });
    await blobs.remove(stale, signal);
    if (volume.diskState === 'ActiveUpload') {
      const { blobBytes, footer } = await blobs.managed(blob, signal);
      requireFixedVhd(volume.name, blobBytes, footer);
    }
    return { volumes: [{ ...moved, diskState: 'Unattached' }] };
  }
}

const blobName = (type: VolumeType): string => `${type === 'disks' ? 'disk' : 'snapshot'}-${randomUUID()}.vhd`;

const busy = (id: string): ArmError =>
  conflict('AnotherOperationInProgress', `Another operation on '${id}' is in progress. Retry later.`);

/** @throws ArmError InvalidParameter */
function requireAccount(storageAccountId: string, name: string): void {
  if (
    new RegExp(
      `^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Storage/storageAccounts/${name}$`,
      'i',
    ).test(storageAccountId)
  )
    return;
  throw badRequest('InvalidParameter', `The storage account '${storageAccountId}' does not exist here.`);
}

/** @throws ArmError InvalidParameter */
function accessOf(body: Readonly<Record<string, unknown>>): NonNullable<Operation['access']> {
  const level = body['access'];
  const seconds = Number(body['durationInSeconds']);
  if ((level !== 'Read' && level !== 'Write') || !(seconds >= 1 && seconds <= MAX_ACCESS_SECONDS)) {
    throw badRequest('InvalidParameter', 'access is Read or Write; durationInSeconds is from 1 to 5184000.');
  }
  return { level, seconds };
}

/** With its keys in order, to be compared. */
function sorted(value: unknown): unknown {
  if (!isRecord(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** As Azure shows it. */
export function volumeBody(volume: Volume): Record<string, unknown> {
  const { id, name, type, location, tags, zones, sku, managedBy, properties } = volume;
  return {
    id,
    name,
    type: `Microsoft.Compute/${type}`,
    location,
    tags,
    ...(zones.length > 0 && { zones }),
    ...(managedBy !== null && { managedBy }),
    sku: { name: sku },
    properties: {
      ...properties,
      creationData: volume.creationData,
      diskSizeBytes: volume.sizeBytes,
      diskSizeGB: Math.ceil(volume.sizeBytes / GIB),
      diskState: volume.diskState,
      provisioningState: volume.provisioningState,
      timeCreated: volume.timeCreated,
    },
  };
}
