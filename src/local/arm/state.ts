/** What the emulator remembers: resources and operations, in one JSON file that is replaced at each change. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFile } from './certificate.ts';

export type VolumeType = 'disks' | 'snapshots';
export type ResourceType = VolumeType | 'virtualMachines';
export type ProvisioningState = 'Creating' | 'Deleting' | 'Failed' | 'Succeeded' | 'Updating';

interface Resource {
  readonly id: string;
  readonly name: string;
  readonly location: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly zones: readonly string[];
  readonly provisioningState: ProvisioningState;
  readonly timeCreated: string;
}

/** A managed disk or a snapshot of one; its bytes are a page blob of its own. */
export interface Volume extends Resource {
  readonly type: VolumeType;
  readonly sku: string;
  /** As it was asked for. */
  readonly creationData: Readonly<Record<string, unknown>>;
  readonly sizeBytes: number;
  readonly blob: string;
  readonly diskState: 'Unattached' | 'Attached' | 'ReadyToUpload' | 'ActiveUpload' | 'ActiveSAS';
  /** Id of the machine that it is attached to. */
  readonly managedBy: string | null;
  /** Other properties, given back as they came: osType, hyperVGeneration, encryption. */
  readonly properties: Readonly<Record<string, unknown>>;
}

export interface Machine extends Resource {
  readonly type: 'virtualMachines';
  readonly properties: Readonly<Record<string, unknown>>;
  readonly diskIds: readonly string[];
}

export interface Operation {
  readonly id: string;
  readonly kind: 'create' | 'delete' | 'grant' | 'revoke';
  /** Id of the resource. */
  readonly target: string;
  readonly status: 'InProgress' | 'Succeeded' | 'Failed';
  readonly startedAt: string;
  readonly error: { readonly code: string; readonly message: string } | null;
  /** Status requests until its work begins, and how it is to end: faults on request. */
  readonly pollsLeft: number;
  readonly failure: { readonly code: string; readonly message: string } | null;
  /** Of a grant. */
  readonly access: { readonly level: 'Read' | 'Write'; readonly seconds: number } | null;
}

/** Operations that have ended are forgotten beyond this many, the oldest first. */
const MAX_OPERATIONS = 1000;

interface StateFile {
  readonly version: 1;
  readonly volumes: readonly Volume[];
  readonly machines: readonly Machine[];
  readonly operations: readonly Operation[];
}

/** ARM compares resource ids without regard to case. */
export const keyOf = (id: string): string => id.toLowerCase();

export class ArmState {
  readonly #file: string;
  readonly #volumes = new Map<string, Volume>();
  readonly #machines = new Map<string, Machine>();
  readonly #operations = new Map<string, Operation>();

  /** Goes on with what an earlier process left in `folder`. */
  constructor(folder: string) {
    mkdirSync(folder, { recursive: true });
    this.#file = join(folder, 'state.json');
    if (!existsSync(this.#file)) return;
    const stored = JSON.parse(readFileSync(this.#file, 'utf8')) as StateFile;
    if (stored.version !== 1) throw new Error(`${this.#file} has version ${String(stored.version)}`);
    for (const volume of stored.volumes) this.#volumes.set(keyOf(volume.id), volume);
    for (const machine of stored.machines) this.#machines.set(keyOf(machine.id), machine);
    for (const operation of stored.operations) this.#operations.set(operation.id, operation);
  }

  volume(id: string): Volume | undefined {
    return this.#volumes.get(keyOf(id));
  }

  machine(id: string): Machine | undefined {
    return this.#machines.get(keyOf(id));
  }

  operation(id: string): Operation | undefined {
    return this.#operations.get(id);
  }

  /** Resources of one type whose ids begin with `prefix`, by id. */
  list(type: ResourceType, prefix: string): (Volume | Machine)[] {
    const all = type === 'virtualMachines' ? [...this.#machines] : [...this.#volumes];
    return all
      .filter(([key, resource]) => resource.type === type && key.startsWith(keyOf(prefix)))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, resource]) => resource);
  }

  get unfinished(): readonly Operation[] {
    return [...this.#operations.values()].filter(({ status }) => status === 'InProgress');
  }

  isBusy(id: string): boolean {
    return this.unfinished.some(({ target }) => keyOf(target) === keyOf(id));
  }

  /** All changes of one step together: after a crash either all of them are there or none. */
  change(step: {
    readonly volumes?: readonly Volume[];
    readonly machines?: readonly Machine[];
    readonly operations?: readonly Operation[];
    readonly removed?: readonly string[];
  }): void {
    for (const volume of step.volumes ?? []) this.#volumes.set(keyOf(volume.id), volume);
    for (const machine of step.machines ?? []) this.#machines.set(keyOf(machine.id), machine);
    for (const operation of step.operations ?? []) this.#operations.set(operation.id, operation);
    for (const id of step.removed ?? []) {
      this.#volumes.delete(keyOf(id));
      this.#machines.delete(keyOf(id));
    }
    this.#forgetOperations();
    const stored: StateFile = {
      version: 1,
      volumes: [...this.#volumes.values()],
      machines: [...this.#machines.values()],
      operations: [...this.#operations.values()],
    };
    replaceFile(this.#file, JSON.stringify(stored));
  }

  #forgetOperations(): void {
    const surplus = this.#operations.size - MAX_OPERATIONS;
    if (surplus <= 0) return;
    const ended = [...this.#operations.values()].filter(({ status }) => status !== 'InProgress');
    for (const { id } of ended.slice(0, surplus)) this.#operations.delete(id);
  }
}
