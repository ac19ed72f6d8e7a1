/**
 * Points that somebody asks for: `latest`, of everything that was received, and at a moment of the past.
 *
 *   own the group: drain, decide ─┬─▶ the seeds stand at it: write the intent, make the point
 *                                 ├─▶ there is such a point: it is the result
 *                                 └─▶ else write down what is built ─▶ give the group back ─▶ copy, replay ─▶ own it again, make the point
 *
 * What takes long is done while the group is not owned, so that its worker goes on; see docs/decisions/points-on-demand.md.
 */
import { measureBacklog } from '../drain/backlog.ts';
import { assert, TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { diskLabel, type LogStream } from '../model/names.ts';
import { HOUR_US, isoFromUs } from '../model/time.ts';
import { makePoint, type DiskAtCut } from '../points/make-point.ts';
import { isBuilt, pointFact, pointId, type Cut, type Manifest } from '../points/manifest.ts';
import { byCut } from '../retention/plan.ts';
import { pointCreated } from './facts.ts';
import { groupState } from './group-state.ts';
import type { OwnedGroup } from './group-owner.ts';
import { isBuilding, type Building } from './progress.ts';
import type { UpkeepOptions } from './upkeep.ts';

/** `latest`: everything received. Otherwise all writes before this time, in microseconds of source time. */
export type Moment = 'latest' | number;

export interface CreatedPoint {
  readonly point: Manifest;
  /** False when there was such a point already. */
  readonly created: boolean;
}

/** A point that is to be built on copies of an earlier one. */
export interface BuildPlan {
  readonly cut: Cut;
  readonly base: Manifest;
  readonly building: Building;
  /** In the order of the base's disks. */
  readonly disks: readonly { readonly stream: LogStream; readonly baseCompleteUs: number }[];
}

export interface OnDemandOptions extends UpkeepOptions {
  /** Applies everything received, and makes the points on the way. */
  readonly drainAll: () => Promise<void>;
}

/** How long the log and the base of a point that is being built are kept for it. An appointment, so the wall clock ends it. */
const BUILD_LIMIT_US = 6 * HOUR_US;
/** Each round applies at least one segment that a listing had not shown. */
const MAX_ROUNDS = 1000;
/** Disks asked about at the same time. */
const DISKS_AT_ONCE = 8;

/**
 * For the group's owner: the point when it is there or can be made on the seeds, else what has to be built.
 * @throws TidemarkError POINT_UNREACHABLE
 */
export async function beginPoint(options: OnDemandOptions, at: Moment): Promise<CreatedPoint | BuildPlan> {
  await options.drainAll();
  return at === 'latest' ? latestPoint(options) : pointAt(options, at);
}

async function latestPoint(options: OnDemandOptions): Promise<CreatedPoint | BuildPlan> {
  const { owned, drain } = options;
  await applyWhatIsThere(options);
  const state = groupState(owned.disks);
  if (state !== 'protected') throw unreachable(owned, `its state is ${state}`);
  const throughUs = await receivedThroughUs(options);
  const { newestPoint } = owned.progress;
  if (newestPoint !== null && throughUs <= newestPoint.cutUs) {
    const newest = owned.manifests.find(({ point }) => point === newestPoint.id);
    if (newest !== undefined && isOfThisEpoch(newest, owned)) return { point: newest, created: false };
    throw unreachable(owned, 'nothing was received since its newest point, which is of an earlier epoch');
  }
  const existing = findAt(owned, throughUs);
  if (existing !== undefined) return { point: existing, created: false };
  if (standsAt(owned, throughUs)) return { point: await drain.makeLatest(throughUs), created: true };
  return planBuild(options, { kind: 'latest', cutUs: throughUs, mark: null, isMoment: true });
}

/** Until every disk is known to hold nothing behind its place. */
async function applyWhatIsThere({ owned, drainAll, signal }: OnDemandOptions): Promise<void> {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    let isSure = true;
    for (const { drain } of owned.disks) isSure = (await drain.isSureOfSeed(signal)) && isSure;
    if (isSure || groupState(owned.disks) !== 'protected') return;
    await drainAll();
  }
  throw new TidemarkError('STORAGE_UNAVAILABLE', `the listing of the log of ${owned.group} does not catch up`);
}

async function pointAt(options: OnDemandOptions, atUs: number): Promise<CreatedPoint | BuildPlan> {
  const { owned } = options;
  const existing = findAt(owned, atUs);
  if (existing !== undefined) return { point: existing, created: false };
  const throughUs = await receivedThroughUs(options);
  if (atUs > throughUs)
    throw unreachable(owned, `${isoFromUs(atUs)} lies behind ${isoFromUs(throughUs)}, through which it is received`);
  return planBuild(options, { kind: 'crash', cutUs: atUs, mark: null, isMoment: true });
}

/**
 * The time before which everything of every disk is received. It may lie behind what can be on the seeds: a disk waits at a mark until
 * it is known whether the others have it.
 * @throws TidemarkError POINT_UNREACHABLE
 */
async function receivedThroughUs({ owned, ports, signal }: OnDemandOptions): Promise<number> {
  const times = await mapAll(owned.disks, DISKS_AT_ONCE, signal, async ({ drain }, either) => {
    if (drain.place.baseCompleteUs === null) return null;
    const seedUs = drain.throughUs(owned.progress.boundaryUs);
    if (seedUs === null || drain.stop.at === 'end') return seedUs;
    const behind = await measureBacklog(ports.logStore, drain.stream, drain.place.position.sequence, either);
    return Math.max(seedUs, behind.watermarkUs ?? 0);
  });
  if (times.some((timeUs) => timeUs === null)) throw unreachable(owned, 'a disk is not copied yet');
  return Math.min(...times.map(Number));
}

/** Whether each seed holds all writes before `timeUs`, and none of that time or later. */
const standsAt = ({ disks, progress }: OwnedGroup, timeUs: number): boolean =>
  disks.every(({ drain }) => {
    const throughUs = drain.throughUs(progress.boundaryUs) ?? -1;
    return throughUs >= timeUs && (drain.place.lastChangeUs ?? -1) < timeUs;
  });

/** A point of exactly the writes before `timeUs`: a mark's point may hold some of that very microsecond. */
const findAt = (owned: OwnedGroup, timeUs: number): Manifest | undefined =>
  owned.manifests.findLast(
    (manifest) => manifest.cutUs === timeUs && manifest.mark === null && isOfThisEpoch(manifest, owned),
  );

const isOfThisEpoch = ({ disks }: Manifest, owned: OwnedGroup): boolean =>
  disks.length === owned.disks.length &&
  owned.disks.every(({ drain: { stream } }) =>
    disks.some(
      ({ machine, disk, epoch }) => machine === stream.machine && disk === stream.disk && epoch === stream.epoch,
    ),
  );

/** Finds the point to build on, and writes down that it and its log are needed. */
async function planBuild({ owned, drain, ports }: OnDemandOptions, cut: Cut): Promise<BuildPlan> {
  const base = owned.manifests.findLast(
    (manifest) =>
      !isBuilt(manifest) &&
      isOfThisEpoch(manifest, owned) &&
      // What a mark's point holds may be of its very microsecond.
      (manifest.mark === null ? manifest.cutUs <= cut.cutUs : manifest.cutUs < cut.cutUs),
  );
  if (base === undefined) throw unreachable(owned, `it has no point from before ${isoFromUs(cut.cutUs)} to build on`);
  const disks = base.disks.map(({ machine, disk, sequence }) => {
    const known = owned.disks.find(({ drain: { stream } }) => stream.machine === machine && stream.disk === disk);
    assert(known !== undefined, 'the base has the disks of the group');
    const { baseCompleteUs } = known.drain.place;
    assert(baseCompleteUs !== null, 'a disk with a point is copied');
    // The segment before the base's place says whether the chain is the one that the base was made of.
    if (known.trimmedThrough >= Math.max(1, sequence - 1)) {
      throw unreachable(owned, `the log of ${machine}/${disk} from ${base.cut} on is deleted`);
    }
    return { stream: known.drain.stream, baseCompleteUs };
  });
  const expiresAtUs = ports.clock.nowUs() + BUILD_LIMIT_US;
  const building = { point: pointId(cut), base: base.point, expiresAtUs };
  await drain.save({ building });
  return { cut, base, building, disks };
}

/**
 * For the group's owner: makes the point whose copies are built.
 * @throws TidemarkError CONFLICT when another one is being built by now, or this one for too long
 */
export async function finishPoint(
  { owned, drain, ports, signal }: OnDemandOptions,
  { cut, base, building }: BuildPlan,
  disks: readonly DiskAtCut[],
): Promise<CreatedPoint> {
  const { group, manifests } = owned;
  await drain.finishDue();
  const committed = manifests.find(({ point }) => point === building.point); // by an attempt that did not live to know
  if (committed !== undefined) return { point: committed, created: true };
  if (!isBuilding(owned.progress, building)) {
    throw new TidemarkError('CONFLICT', `point ${building.point} of ${group} is no longer the one that is being built`);
  }
  const point = await makePoint({
    catalog: ports.catalog,
    group,
    cut,
    disks,
    previousPoint: base.point,
    createdAtUs: ports.clock.nowUs(),
    confirm: (either) => owned.lease.renew(either),
    signal,
  });
  manifests.push(point);
  manifests.sort((a, b) => byCut(pointFact(a), pointFact(b)));
  await drain.save({ building: null }, [pointCreated(point)]);
  return { point, created: true };
}

/** For the group's owner: what a build has left may go. */
export async function dropPoint({ owned, drain }: OnDemandOptions, { building }: BuildPlan): Promise<void> {
  if (isBuilding(owned.progress, building)) await drain.save({ building: null });
}

const unreachable = ({ group, disks }: OwnedGroup, why: string): TidemarkError =>
  new TidemarkError('POINT_UNREACHABLE', `no such point of group ${group} can be made: ${why}`, {
    details: { disks: disks.map(({ drain: { stream } }) => diskLabel(stream)).join(', ') },
  });
