/**
 * Builds a point beside the seed disks: copies of an earlier point's snapshots, and on them the log up to the moment. The log is read,
 * checked, coalesced and applied by the code that drains it, whose stops are this one moment.
 */
import { SeedWriter } from '../apply/seed-writer.ts';
import { RateLimit } from '../apply/rate-limit.ts';
import { readDocument } from '../catalog/documents.ts';
import { pointCopyName, type CopyName } from '../copies/copy-store.ts';
import { LogReader, type SegmentTail } from '../drain/log-reader.ts';
import { readTail } from '../drain/read-tables.ts';
import { assert, TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName, type LogStream } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import type { DiskAtCut } from '../points/make-point.ts';
import { pointDisk, type ManifestDisk } from '../points/manifest.ts';
import type { SeedDisk } from '../seed/seed-store.ts';
import { DiskDrain, newCounters } from './disk-drain.ts';
import { READ_AHEAD } from './group-owner.ts';
import { keepLeases, RELEASE_LIMIT_MS, type KeptLeases } from './lease-keeper.ts';
import type { BuildPlan } from './on-demand.ts';
import type { WorkerPorts, WorkerSettings } from './ports.ts';
import { isBuilding, progressSchema } from './progress.ts';

/** Disks copied at the same time. */
const COPIES_AT_ONCE = 2;
/** Looks for segments that a listing does not show; they were there when the point was planned. */
const MAX_ROUNDS = 1000;

export interface BuildOptions {
  readonly group: string;
  readonly plan: BuildPlan;
  readonly ports: WorkerPorts;
  readonly settings: WorkerSettings;
  readonly signal: AbortSignal;
}

/** Copies that hold the point, under leases that are kept until it is closed. */
export interface BuiltCopies {
  readonly disks: readonly DiskAtCut[];
  close(): Promise<void>;
}

interface BuiltDisk {
  readonly stream: LogStream;
  readonly baseCompleteUs: number;
  readonly base: ManifestDisk;
  readonly copy: CopyName;
}

/**
 * Repeatable: whole copies of the same base are taken as they are, and applying the log again changes nothing.
 * @throws TidemarkError POINT_UNREACHABLE when the log is no longer there or cannot be trusted; OWNERSHIP_LOST, CONFLICT when
 * somebody else builds; what the ports throw
 */
export async function buildPoint(options: BuildOptions): Promise<BuiltCopies> {
  const { plan, ports, signal } = options;
  const { base, building } = plan;
  const disks = plan.disks.map(({ stream, baseCompleteUs }, index): BuiltDisk => {
    const disk = base.disks[index];
    assert(disk !== undefined, 'the plan has the disks of its base');
    return { stream, baseCompleteUs, base: disk, copy: pointCopyName(stream, building.point) };
  });
  await mapAll(disks, COPIES_AT_ONCE, signal, async ({ base: disk, copy }, either) => {
    await ports.copies.copy(pointDisk(base, disk), copy, {
      signal: either,
      confirm: (held) => requireBuilding(options, held),
    });
  });
  const opened: SeedDisk[] = [];
  let kept: KeptLeases | undefined;
  const close = async (): Promise<void> => {
    await kept?.stop();
    const closing = AbortSignal.timeout(RELEASE_LIMIT_MS);
    // What cannot be given back expires.
    await Promise.all(opened.map((seed) => seed.close(closing))).catch(() => undefined);
  };
  try {
    for (const { copy, base: disk } of disks) opened.push(await ports.copies.open(copy, disk.sizeBytes, signal));
    kept = keepLeases({ group: options.group, leases: opened }, ports.clock, signal);
    const atOnce = Math.max(1, Math.min(disks.length, options.settings.account.concurrency));
    const built = await mapAll(disks, atOnce, kept.signal, (disk, either, index) => {
      const seed = opened[index];
      assert(seed !== undefined, 'every copy is open');
      return replay({ ...options, signal: either }, { ...disk, seed, atOnce, holdsNothing: atOnce < disks.length });
    });
    return { disks: built, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** An attempt that was replaced must not touch the copies of the one that replaced it. @throws TidemarkError CONFLICT */
async function requireBuilding({ group, plan, ports }: BuildOptions, signal: AbortSignal): Promise<void> {
  const stored = await readDocument(ports.catalog, catalogName.progress(group), progressSchema, signal);
  if (stored !== undefined && isBuilding(stored.value, plan.building)) return;
  throw new TidemarkError(
    'CONFLICT',
    `point ${plan.building.point} of ${group} is no longer the one that is being built`,
  );
}

interface ReplayedDisk extends BuiltDisk {
  readonly seed: SeedDisk;
  readonly atOnce: number;
  readonly holdsNothing: boolean;
}

async function replay(options: BuildOptions, disk: ReplayedDisk): Promise<DiskAtCut> {
  const { signal } = options;
  const drain = await openReplay(options, disk).catch((error: unknown) => {
    throw asUnreachable(options, error);
  });
  await advanceTo(options, drain, disk);
  return {
    stream: disk.stream,
    sizeBytes: disk.base.sizeBytes,
    seed: disk.seed,
    copy: disk.copy,
    position: drain.place.position,
    snapshot: null, // the base's snapshot is another blob's
    changes: drain.changes,
    orphans: await disk.seed.listSnapshots(signal), // of an attempt at this point that was interrupted
  };
}

/** @throws TidemarkError POINT_UNREACHABLE when the log ends, or cannot be trusted, before the moment */
async function advanceTo(options: BuildOptions, drain: DiskDrain, disk: ReplayedDisk): Promise<void> {
  const { plan, settings, signal } = options;
  const limits = { rules: { boundaries: true, crashMarks: false, appMarks: false }, boundaryUs: plan.cut.cutUs };
  const windowBytes = settings.payloadBudgetBytes / disk.atOnce / 2;
  const onApplied = async (): Promise<void> => undefined;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    await drain.advance({ limits, windowBytes, holdsNothing: disk.holdsNothing, onApplied, signal });
    if (drain.stop.at === 'boundary') return;
    if (drain.defect !== undefined) throw asUnreachable(options, drain.defect);
    if (await drain.isSureOfSeed(signal)) {
      throw asUnreachable(
        options,
        new TidemarkError('LOG_SEGMENT_MISSING', `the log of ${drain.label} ends before it`),
      );
    }
  }
  throw new TidemarkError('STORAGE_UNAVAILABLE', `the listing of the log of ${drain.label} does not catch up`);
}

/** A drain of the copy that stands where the base was cut. */
async function openReplay({ ports, settings, signal }: BuildOptions, disk: ReplayedDisk): Promise<DiskDrain> {
  const { stream, base, seed, baseCompleteUs } = disk;
  const { sequence, record, logDigest, sizeBytes } = base;
  const source = { store: ports.logStore, stream, diskSizeBytes: sizeBytes, key: settings.key };
  const previous: SegmentTail | null = await readTail({ ...source, signal }, sequence - 1, logDigest);
  const { requestsPerDisk, account, key, rate } = settings;
  const limit = rate === undefined ? undefined : new RateLimit(rate, ports.clock);
  const counters = newCounters();
  return new DiskDrain({
    stream,
    sizeBytes,
    seed,
    reader: new LogReader({ ...source, readAhead: READ_AHEAD }),
    writer: new SeedWriter({ seed, requestsPerDisk, account, rate: limit, counters }),
    key,
    counters,
    place: {
      position: { sequence, record, previous },
      baseCompleteUs,
      watermarkUs: previous?.endTimeUs ?? null,
      lastChangeUs: null,
    },
    snapshot: null,
    changes: [],
  });
}

/** Defects of the log mean that it does not lead to the moment; other errors are what they are. */
function asUnreachable({ group, plan }: BuildOptions, error: unknown): unknown {
  if (!(error instanceof TidemarkError) || error.class !== 'resync') return error;
  const what = `no point of group ${group} at ${isoFromUs(plan.cut.cutUs)} can be built on ${plan.base.point}`;
  return new TidemarkError('POINT_UNREACHABLE', `${what}: ${error.message}`, { cause: error });
}
