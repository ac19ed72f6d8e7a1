/**
 * Owning a group: the leases, the progress document and the disks as they were left.
 *
 * Nothing is trusted that was not read after the leases were taken. An owner that meets an error is closed and opened anew; it never
 * repairs its memory.
 */
import type { FairSlots } from '../apply/fair-slots.ts';
import { RateLimit } from '../apply/rate-limit.ts';
import { SeedWriter } from '../apply/seed-writer.ts';
import type { Lease } from '../catalog/catalog.ts';
import { createDocument, readDocument } from '../catalog/documents.ts';
import { getGroup, isFailedOver, type GroupDocument } from '../catalog/groups.ts';
import { LogReader } from '../drain/log-reader.ts';
import { readChangesBetween } from '../drain/read-tables.ts';
import { assert, TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import type { Manifest } from '../points/manifest.ts';
import { listPoints } from '../points/point-store.ts';
import { sweepChanges, sweepCopies, sweepOrphans } from '../points/sweep.ts';
import type { SeedDisk, SnapshotInfo } from '../seed/seed-store.ts';
import { vhdFooter } from '../seed/vhd-footer.ts';
import { DiskDrain, type DrainCounters } from './disk-drain.ts';
import type { WorkerPorts, WorkerSettings } from './ports.ts';
import {
  liveBuilding,
  logPosition,
  newDiskProgress,
  newProgress,
  progressSchema,
  type Building,
  type DiskProgress,
  type ProgressDocument,
} from './progress.ts';

/** Segments requested ahead of the one being decoded, per disk. */
export const READ_AHEAD = 3;

export interface OwnedDisk {
  readonly drain: DiskDrain;
  /** Snapshots that no manifest names and that a coming point may adopt. */
  orphans: readonly SnapshotInfo[];
  /** What the progress document says of the disk beyond its place. */
  state: DiskProgress['state'];
  cut: DiskProgress['cut'];
  baseAppliedBytes: number;
  trimmedThrough: number;
  defect: DiskProgress['defect'];
}

export interface OwnedGroup {
  readonly group: string;
  readonly lease: Lease;
  readonly disks: readonly OwnedDisk[];
  /** Oldest first. */
  readonly manifests: Manifest[];
  progress: ProgressDocument;
  etag: string;
  close(signal: AbortSignal): Promise<void>;
}

export interface OpenOptions {
  readonly document: GroupDocument;
  readonly ports: WorkerPorts;
  readonly settings: WorkerSettings;
  readonly account: FairSlots;
  readonly counters: DrainCounters;
  readonly signal: AbortSignal;
}

/** Takes the group away from whoever owns it. @throws TidemarkError when storage refuses or the documents do not fit */
export async function openGroup(options: OpenOptions): Promise<OwnedGroup> {
  const { document, ports, signal } = options;
  const { group } = document;
  const wanted = document.machines.flatMap(({ machine, disks }) => disks.map((disk) => ({ machine, ...disk })));
  const name = catalogName.progress(group);
  const fresh = newProgress(group, wanted.map(newDiskProgress), ports.clock.nowUs());
  await createDocument(ports.catalog, name, progressSchema, fresh, signal); // exists: the usual case
  const lease = await ports.catalog.takeLease(name, signal);
  const seeds: SeedDisk[] = [];
  try {
    for (const disk of wanted) {
      const key = { group, machine: disk.machine, disk: disk.disk };
      seeds.push(await ports.seeds.open(key, disk.sizeBytes, vhdFooter(key, disk.sizeBytes), signal));
    }
    // Whoever was slow until here has taken the seeds from a later owner, whose place is ahead: not a byte may be written then.
    await lease.renew(signal);
    const stored = await readDocument(ports.catalog, name, progressSchema, signal);
    assert(stored !== undefined, `${name} was there when its lease was taken`);
    await requireCurrent(document, ports, signal);
    const building = liveBuilding(stored.value, ports.clock.nowUs());
    const manifests = await sweep({ document, ports, lease, building, signal });
    const disks: OwnedDisk[] = [];
    for (const [index, disk] of wanted.entries()) {
      const known = stored.value.disks.find((other) => isSameEpoch(other, disk));
      const seed = seeds[index];
      assert(seed !== undefined, 'every seed is open');
      assert(
        stored.value.disks.every((other) => !isSameDisk(other, disk) || other.epoch <= disk.epoch),
        `${name} is ahead of the group's epochs`,
      );
      // A new epoch begins with a base copy of what is not zero, so what the last epoch left must be.
      if (known === undefined) await seed.clearPages(0, disk.sizeBytes, signal);
      const progress = known ?? newDiskProgress(disk);
      disks.push(await openDisk({ ...options, lease, progress, seed, sizeBytes: disk.sizeBytes, manifests }));
    }
    const complete = disks.every(({ drain }) => drain.place.baseCompleteUs !== null);
    return {
      group,
      lease,
      disks,
      manifests: [...manifests],
      progress: withFreshIds(
        // What was due on disks of an earlier epoch is due no more.
        complete
          ? { ...stored.value, building }
          : { ...stored.value, boundaryUs: null, latestUs: null, building: null },
        ports.clock.nowUs(),
      ),
      etag: stored.etag,
      close: (closing) => release(lease, seeds, closing),
    };
  } catch (error) {
    await release(lease, seeds, signal).catch(() => undefined); // what cannot be given back expires; the first error is the one to tell
    throw error;
  }
}

interface SweptGroup extends Pick<OpenOptions, 'document' | 'ports' | 'signal'> {
  readonly lease: Lease;
  readonly building: Building | null;
}

/** All points of the group, once what interrupted work has left of others is gone. */
async function sweep({ document, ports, lease, building, signal }: SweptGroup): Promise<readonly Manifest[]> {
  const options = {
    catalog: ports.catalog,
    copies: ports.copies,
    group: document.group,
    manifests: await listPoints(ports.catalog, document.group, signal),
    building: building?.point,
    confirm: (either: AbortSignal) => lease.renew(either),
    signal,
  };
  const manifests = await sweepCopies(options);
  await sweepChanges({ ...options, manifests });
  return manifests;
}

/**
 * What is wanted was read before the lease was taken; another owner may have ended that and begun a new epoch since.
 * @throws TidemarkError CONFLICT
 */
async function requireCurrent(document: GroupDocument, { catalog }: WorkerPorts, signal: AbortSignal): Promise<void> {
  const current = await getGroup(catalog, document.group, signal);
  const essence = (group: GroupDocument): string =>
    JSON.stringify([group.wanted, group.machines, group.discardBeforeEpoch, isFailedOver(group)]);
  if (essence(current) !== essence(document)) {
    throw new TidemarkError('CONFLICT', `group ${document.group} was changed while it was being opened`);
  }
}

/**
 * No message of this owner gets an id that an earlier owner may have sent already, also when storage has lost what that one wrote last:
 * as a new outbox does, it counts on from the time in milliseconds.
 */
function withFreshIds(progress: ProgressDocument, nowUs: number): ProgressDocument {
  const { outbox } = progress;
  return { ...progress, outbox: { ...outbox, nextSequence: Math.max(outbox.nextSequence, Math.floor(nowUs / 1000)) } };
}

interface DiskEpoch {
  readonly machine: string;
  readonly disk: string;
  readonly epoch: number;
}

const isSameDisk = (a: Omit<DiskEpoch, 'epoch'>, b: Omit<DiskEpoch, 'epoch'>): boolean =>
  a.machine === b.machine && a.disk === b.disk;

const isSameEpoch = (a: DiskEpoch, b: DiskEpoch): boolean => isSameDisk(a, b) && a.epoch === b.epoch;

async function release(lease: Lease, seeds: readonly SeedDisk[], signal: AbortSignal): Promise<void> {
  await Promise.all([lease.release(signal), ...seeds.map((seed) => seed.close(signal))]);
}

interface OpenDiskOptions extends OpenOptions {
  readonly lease: Lease;
  readonly progress: DiskProgress;
  readonly seed: SeedDisk;
  readonly sizeBytes: number;
  readonly manifests: readonly Manifest[];
}

async function openDisk(options: OpenDiskOptions): Promise<OwnedDisk> {
  const { document, ports, settings, account, counters, progress, seed, sizeBytes, signal } = options;
  const { machine, disk, epoch } = progress;
  const stream = { group: document.group, machine, disk, epoch };
  const source = { store: ports.logStore, stream, diskSizeBytes: sizeBytes, key: settings.key };
  const position = logPosition(progress.applied);
  const applied = { ...source, from: logPosition(progress.cut), to: position, signal };
  const between = await readChangesBetween(applied).catch(defectOf);
  const { changes, lastChangeUs } = between instanceof TidemarkError ? { changes: [], lastChangeUs: null } : between;
  const rate = settings.rate === undefined ? undefined : new RateLimit(settings.rate, ports.clock);
  const { requestsPerDisk, key } = settings;
  const drain = new DiskDrain({
    stream,
    sizeBytes,
    seed,
    reader: new LogReader({ ...source, readAhead: READ_AHEAD }),
    writer: new SeedWriter({ seed, requestsPerDisk, account, group: document.group, rate, counters }),
    key,
    counters,
    place: { position, baseCompleteUs: progress.baseCompleteUs, watermarkUs: progress.watermarkUs, lastChangeUs },
    snapshot: progress.snapshot,
    changes,
  });
  // What is on the seed is no longer in the log, so nobody knows what changed: the group stops here.
  if (between instanceof TidemarkError) drain.defect = between;
  const { state, cut, baseAppliedBytes, trimmedThrough, defect } = progress;
  const confirm = (either: AbortSignal): Promise<void> => options.lease.renew(either);
  const orphans = await sweepOrphans(seed, { manifests: options.manifests, confirm, signal });
  return { drain, orphans, state, cut, baseAppliedBytes, trimmedThrough, defect };
}

/** The error when it is the log's; throws any other. */
function defectOf(error: unknown): TidemarkError {
  if (error instanceof TidemarkError && error.class === 'resync') return error;
  throw error;
}
