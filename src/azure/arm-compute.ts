import type { ComputeManagementClient, Disk, VirtualMachine as ArmMachine } from '@azure/arm-compute';
import { TidemarkError } from '../errors.ts';
import {
  assertDisk,
  assertMachine,
  assertRanges,
  assertSource,
  assertTags,
  isUnfinished,
  requireSameOwner,
  requireSameSize,
  requireTags,
  type Tags,
  UNFINISHED,
  UPLOAD_TAG,
} from '../failover/compute-guards.ts';
import type { Compute, DiskSpec, MachineSpec, ManagedDisk, Resumable, VirtualMachine } from '../failover/compute.ts';
import { FOOTER_BYTES } from '../seed/vhd-footer.ts';
import { type ArmClientOptions, COMPUTE_TIMES, type ComputeTimes, openArmClient } from './arm-client.ts';
import { armStatus, computeError, isAmbiguous } from './arm-errors.ts';
import { actionOf, ArmOperations, type OperationContext, pauseFor, unlessMissing } from './arm-operations.ts';
import { diskBody, diskOf, machineBody, machineOf } from './arm-resources.ts';
import { accessSeconds, writePages } from './arm-upload.ts';

/** Looks at a resource, and requests for what it lacks, before a call gives up. */
const MAX_ROUNDS = 4;
const SETTLING = new Set(['Creating', 'Deleting', 'Updating']);

export interface ArmComputeOptions extends Omit<ArmClientOptions, 'times'> {
  readonly resourceGroup: string;
  readonly location: string;
  /** Resource id of the account that the sources of imports are in. */
  readonly storageAccountId: string;
  readonly times?: ComputeTimes;
}

type Begin = Parameters<ArmOperations['run']>[1];

/** Managed disks and machines of one resource group, through the SDK. */
export class ArmCompute implements Compute {
  readonly #client: ComputeManagementClient;
  readonly #operations: ArmOperations;
  readonly #options: ArmComputeOptions;
  readonly #times: ComputeTimes;

  constructor(options: ArmComputeOptions) {
    const { times = COMPUTE_TIMES } = options;
    this.#options = options;
    this.#times = times;
    this.#client = openArmClient({ ...options, times });
    this.#operations = new ArmOperations(this.#client, options.endpoint, times);
  }

  async importDisk(spec: DiskSpec, sourceUrl: string, resumable: Resumable, signal: AbortSignal): Promise<ManagedDisk> {
    assertDisk(spec);
    assertSource(sourceUrl);
    const { storageAccountId } = this.#options;
    const creationData = { createOption: 'Import', sourceUri: sourceUrl, storageAccountId };
    return this.#createDisk(spec, { creationData, tags: spec.tags }, resumable, signal);
  }

  async uploadDisk(
    spec: DiskSpec,
    source: Parameters<Compute['uploadDisk']>[1],
    resumable: Resumable,
    signal: AbortSignal,
  ): Promise<ManagedDisk> {
    assertDisk(spec);
    assertRanges(spec, source.ranges);
    const whole = await this.#wholeUpload(spec, resumable, signal);
    if (whole !== undefined) return whole;
    const creationData = { createOption: 'Upload', uploadSizeBytes: spec.sizeBytes + FOOTER_BYTES };
    const tags = { ...spec.tags, [UPLOAD_TAG]: UNFINISHED };
    await this.#createDisk(spec, { creationData, tags }, resumable, signal);
    await writePages(spec, await this.#grantWrite(spec.name, accessSeconds(source.ranges), signal), source, signal);
    await this.#revoke(spec.name, signal);
    const { resourceGroup } = this.#options;
    await this.#change({ verb: 'update', resource: `disks/${spec.name}`, signal }, (options) =>
      this.#client.disks.update(resourceGroup, spec.name, { tags: { ...spec.tags } }, options),
    );
    const disk = await this.findDisk(spec.name, signal);
    if (disk === undefined) throw gone(spec.name);
    return disk;
  }

  /** The disk, when an earlier upload has ended; a part of one is deleted, since nobody knows what of it was written. */
  async #wholeUpload(spec: DiskSpec, resumable: Resumable, signal: AbortSignal): Promise<ManagedDisk | undefined> {
    const context: OperationContext = { verb: 'create', resource: `disks/${spec.name}`, resumable, signal };
    await this.#operations.resume(context);
    const disk = await this.#settled(context, () => this.#getDisk(spec.name, signal));
    if (disk === undefined) return undefined;
    requireSameOwner(`disk ${spec.name}`, spec.tags, disk.tags ?? {});
    if (!isUnfinished(disk.tags ?? {}) && disk.provisioningState === 'Succeeded') return accepted(spec, disk);
    await this.#discardDisk(disk, { resource: context.resource, signal });
    return undefined;
  }

  async #grantWrite(name: string, durationInSeconds: number, signal: AbortSignal): Promise<string> {
    const { resourceGroup } = this.#options;
    const request = { access: 'Write', durationInSeconds };
    const result = await this.#change({ verb: 'grant', resource: `disks/${name}`, signal }, (options) =>
      this.#client.disks.grantAccess(resourceGroup, name, request, options),
    );
    const { accessSAS } = (result ?? {}) as { readonly accessSAS?: unknown };
    if (typeof accessSAS === 'string') return accessSAS;
    throw new TidemarkError('COMPUTE_UNAVAILABLE', `Azure gave no write access to disk ${name}`);
  }

  async #revoke(name: string, signal: AbortSignal): Promise<void> {
    await this.#change({ verb: 'revoke', resource: `disks/${name}`, signal }, (options) =>
      this.#client.disks.revokeAccess(this.#options.resourceGroup, name, options),
    );
  }

  /** Finds the disk, or what an earlier process began of it, or makes it. */
  async #createDisk(
    spec: DiskSpec,
    special: Pick<Disk, 'creationData' | 'tags'>,
    resumable: Resumable,
    signal: AbortSignal,
  ): Promise<ManagedDisk> {
    const { resourceGroup, location } = this.#options;
    const { name } = spec;
    const body = diskBody(spec, location, special);
    const disk = await this.#ensure<Disk>({
      context: { verb: 'create', resource: `disks/${name}`, resumable, signal },
      get: () => this.#getDisk(name, signal),
      require: (found) => requireSameOwner(`disk ${name}`, spec.tags, found.tags ?? {}),
      discard: (found) => this.#discardDisk(found, { resource: `disks/${name}`, signal }),
      begin: (options) => this.#client.disks.createOrUpdate(resourceGroup, name, body, options),
    });
    return accepted(spec, disk);
  }

  async createMachine(spec: MachineSpec, resumable: Resumable, signal: AbortSignal): Promise<VirtualMachine> {
    assertMachine(spec);
    const { resourceGroup, location } = this.#options;
    const { name } = spec;
    const machine = await this.#ensure<ArmMachine>({
      context: { verb: 'create', resource: `virtualMachines/${name}`, resumable, signal },
      get: () => this.#getMachine(name, signal),
      require: (found) => requireSameOwner(`machine ${name}`, spec.tags, found.tags ?? {}),
      // A machine that failed holds its disks; a repeated request mends it.
      discard: async () => undefined,
      begin: (options) =>
        this.#client.virtualMachines.createOrUpdate(resourceGroup, name, machineBody(spec, location), options),
    });
    return machineOf(machine);
  }

  async findDisk(name: string, signal: AbortSignal): Promise<ManagedDisk | undefined> {
    const disk = await this.#getDisk(name, signal);
    return disk === undefined ? undefined : diskOf(disk);
  }

  async findMachine(name: string, signal: AbortSignal): Promise<VirtualMachine | undefined> {
    const machine = await this.#getMachine(name, signal);
    return machine === undefined ? undefined : machineOf(machine);
  }

  async deleteMachine(name: string, tags: Tags, resumable: Resumable, signal: AbortSignal): Promise<void> {
    assertTags(tags);
    await this.#remove<ArmMachine>({
      context: { verb: 'delete', resource: `virtualMachines/${name}`, resumable, signal },
      get: () => this.#getMachine(name, signal),
      require: (found) => requireTags(`machine ${name}`, tags, found.tags ?? {}),
      discard: async () => undefined,
      begin: (options) => this.#client.virtualMachines.delete(this.#options.resourceGroup, name, options),
    });
  }

  async deleteDisk(name: string, tags: Tags, resumable: Resumable, signal: AbortSignal): Promise<void> {
    assertTags(tags);
    await this.#remove<Disk>({
      context: { verb: 'delete', resource: `disks/${name}`, resumable, signal },
      get: () => this.#getDisk(name, signal),
      require: (found) => requireTags(`disk ${name}`, tags, found.tags ?? {}),
      discard: (found) => this.#endAccess(found, signal),
      begin: (options) => this.#client.disks.delete(this.#options.resourceGroup, name, options),
    });
  }

  #getDisk(name: string, signal: AbortSignal): Promise<Disk | undefined> {
    return this.#read(`get disks/${name}`, signal, () =>
      this.#client.disks.get(this.#options.resourceGroup, name, { abortSignal: signal }),
    );
  }

  #getMachine(name: string, signal: AbortSignal): Promise<ArmMachine | undefined> {
    return this.#read(`get virtualMachines/${name}`, signal, () =>
      this.#client.virtualMachines.get(this.#options.resourceGroup, name, { abortSignal: signal }),
    );
  }

  async #read<T>(action: string, signal: AbortSignal, read: () => Promise<T>): Promise<T | undefined> {
    signal.throwIfAborted();
    try {
      return await unlessMissing(read());
    } catch (error) {
      signal.throwIfAborted();
      throw computeError(error, action);
    }
  }

  /** Looks, and makes what is not there, until it is there whole; each round ends with another look. */
  async #ensure<T extends Disk | ArmMachine>(plan: Plan<T>): Promise<T> {
    const { context } = plan;
    await this.#operations.resume(context);
    for (let round = 1; ; round++) {
      const found = await this.#settled(context, () => plan.get());
      if (found !== undefined) {
        plan.require(found);
        if (found.provisioningState === 'Succeeded') return found;
        await plan.discard(found);
      }
      if (round === MAX_ROUNDS)
        throw new TidemarkError('COMPUTE_UNAVAILABLE', `${actionOf(context)}: not there after it was made`);
      await this.#beginOrLook(plan, round);
    }
  }

  async #remove<T extends Disk | ArmMachine>(plan: Plan<T>): Promise<void> {
    const { context } = plan;
    await this.#operations.resume(context);
    for (let round = 1; ; round++) {
      const found = await this.#settled(context, () => plan.get());
      if (found === undefined) return;
      plan.require(found);
      if (round === MAX_ROUNDS)
        throw new TidemarkError('COMPUTE_UNAVAILABLE', `${actionOf(context)}: still there after it was deleted`);
      await plan.discard(found);
      await this.#beginOrLook(plan, round);
    }
  }

  /** Begins the operation. An answer that was lost, or a conflict with what it began, is for the next round's look to judge. */
  async #beginOrLook<T>({ context, begin }: Plan<T>, round: number): Promise<void> {
    const outcome = await this.#operations.run(context, begin);
    if (!outcome.accepted) await this.#pauseOrThrow(context, outcome.error, round);
  }

  /** One of the operations that have no token: a repetition has the same outcome. */
  async #change(context: OperationContext, begin: Begin): Promise<unknown> {
    for (let round = 1; ; round++) {
      const outcome = await this.#operations.run(context, begin);
      if (outcome.accepted) return outcome.result;
      await this.#pauseOrThrow(context, outcome.error, round);
    }
  }

  /** @throws TidemarkError unless the request may have been carried out, or conflicts with one that was */
  async #pauseOrThrow(context: OperationContext, error: unknown, round: number): Promise<void> {
    const unclear = isAmbiguous(error) || (armStatus(error) === 409 && round > 1);
    if (!unclear || round >= MAX_ROUNDS - 1) throw computeError(error, actionOf(context));
    const { firstDelayMs } = this.#times;
    const delayMs = firstDelayMs * 2 ** (round - 1) * (0.5 + this.#options.random() / 2);
    await pauseFor(delayMs, context.signal);
  }

  /** The resource once nothing changes it any more; undefined when it is not there. */
  async #settled<T extends Disk | ArmMachine>(
    context: OperationContext,
    get: () => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const { pollMs, operationMs } = this.#times;
    for (let waitedMs = 0; ; waitedMs += pollMs) {
      const found = await get();
      if (found === undefined || !SETTLING.has(found.provisioningState ?? '')) return found;
      if (waitedMs >= operationMs) {
        const message = `${actionOf(context)}: still ${found.provisioningState} after ${waitedMs} ms`;
        throw new TidemarkError('COMPUTE_UNAVAILABLE', message);
      }
      await pauseFor(pollMs, context.signal);
    }
  }

  async #endAccess(disk: Disk, signal: AbortSignal): Promise<void> {
    if (disk.diskState === 'ActiveUpload' || disk.diskState === 'ActiveSAS') await this.#revokeQuietly(disk, signal);
  }

  /** Of a disk that is about to be deleted: that its content is no VHD is no matter then. */
  async #revokeQuietly(disk: Disk, signal: AbortSignal): Promise<void> {
    try {
      await this.#revoke(disk.name ?? '', signal);
    } catch (error) {
      if (!(error instanceof TidemarkError) || error.code !== 'COMPUTE_REFUSED') throw error;
    }
  }

  /** Deletes a disk of ours that never became whole. */
  async #discardDisk(disk: Disk, { resource, signal }: Pick<OperationContext, 'resource' | 'signal'>): Promise<void> {
    await this.#endAccess(disk, signal);
    const name = disk.name ?? '';
    await this.#change({ verb: 'delete', resource, signal }, (options) =>
      this.#client.disks.delete(this.#options.resourceGroup, name, options),
    );
  }
}

interface Plan<T> {
  readonly context: OperationContext;
  get(): Promise<T | undefined>;
  /** @throws TidemarkError COMPUTE_CONFLICT for a stranger's */
  require(found: T): void;
  /** What goes before `begin` when something unfinished is there. */
  discard(found: T): Promise<void>;
  readonly begin: Begin;
}

const gone = (name: string): TidemarkError =>
  new TidemarkError('COMPUTE_UNAVAILABLE', `disk ${name} is gone right after it was made`);

/** @throws TidemarkError COMPUTE_CONFLICT when it has another size */
function accepted(spec: DiskSpec, disk: Disk): ManagedDisk {
  const found = diskOf(disk);
  requireSameSize(`disk ${spec.name}`, spec.sizeBytes, found.sizeBytes);
  return found;
}
