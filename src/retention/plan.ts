/**
 * Pure. Which recovery points stay and which go, with a reason for each.
 *
 * "Now" is the cut of the newest point, never the wall clock: a stalled source keeps its points. The rule for one point looks only
 * at its age and at its bucket, a fixed span of UTC source time. Every bucket is complete before its first point leaves the
 * two-hour window, so its keeper is settled by then: pruning after every new point, once a day or once a year leaves the same points.
 */
import { assert } from '../errors.ts';
import { HOUR_US, isoFromUs } from '../model/time.ts';
import type { Policy } from './policy.ts';

/** All points this close to the newest one stay (ASR's pruning table); a constant of the service, not a setting. */
export const KEEP_ALL_HOURS = 2;

export interface PointFact {
  readonly id: string;
  readonly kind: 'crash' | 'app' | 'latest';
  /** Source time of the cut in microseconds. */
  readonly cutUs: number;
  /** Made for a moment that somebody asked for, beside the points that follow from the log. */
  readonly isBuilt?: boolean;
}

/** Keeps a point whatever the policy says. */
export interface Hold {
  /** Id of the point. A hold on a point that is gone has no effect. */
  readonly point: string;
  readonly kind: 'pin' | 'job';
  /** The person who pinned it, or the job that uses it. */
  readonly owner: string;
  readonly reason: string;
  /** Wall-clock time in microseconds from which on it holds no longer; null: until it is taken away. */
  readonly expiresAtUs: number | null;
}

export interface PruneOptions {
  readonly holds: readonly Hold[];
  /**
   * The wall clock in microseconds. It only decides which holds have expired: their expiry is an appointment with a person, who
   * does not know the source's time. It never ages a point.
   */
  readonly nowUs: number;
}

export interface PruneItem {
  readonly id: string;
  /** One short phrase for an operator. */
  readonly reason: string;
}

/** Every point is in exactly one of the two; both are ordered by cut, oldest first. */
export interface PrunePlan {
  readonly keep: readonly PruneItem[];
  readonly remove: readonly PruneItem[];
}

interface Tier {
  /** The tier's bucket applies to points up to this age. */
  readonly maxAgeHours: number;
  readonly bucketHours: 1 | 2 | 4;
}

/**
 * ASR's pruning table. It names whole days; a retention between two rows takes the finer row, so that 24 h < retention < 48 h keeps
 * one point per hour and 7 d < retention < 8 d one per two hours. Buckets of 4 h hold two whole buckets of 2 h.
 */
function tiersOf(retentionHours: number): readonly Tier[] {
  if (retentionHours < 2 * 24) return [{ maxAgeHours: retentionHours, bucketHours: 1 }];
  if (retentionHours < 8 * 24) return [{ maxAgeHours: retentionHours, bucketHours: 2 }];
  return [
    { maxAgeHours: 7 * 24, bucketHours: 2 },
    { maxAgeHours: retentionHours, bucketHours: 4 },
  ];
}

/**
 * Never removes the newest point, the newest app-consistent one, or a point under a hold that has not expired. Otherwise a point
 * stays while it is not older than the retention and either lies in the two-hour window or wins its bucket: an app-consistent
 * point wins over others, then the newest. A winner that has itself passed the retention still wins, because it had been there
 * when its rivals were due.
 *
 * A built point takes nobody's place: it is neither the newest point nor the winner of a bucket, and it stays while it is not older than the
 * retention.
 *
 * @throws TidemarkError ASSERTION when two points have one id or a cut is no safe integer.
 */
export function planPrune(points: readonly PointFact[], policy: Policy, options: PruneOptions): PrunePlan {
  const ordered = points.toSorted(byCut);
  assert(new Set(ordered.map((point) => point.id)).size === ordered.length, 'two recovery points have the same id');
  assert(
    ordered.every((point) => Number.isSafeInteger(point.cutUs)),
    'a cut is no safe integer',
  );
  const rule = keepingRule(ordered, policy.retentionHours);
  const held = holdReasons(options);
  const keep: PruneItem[] = [];
  const remove: PruneItem[] = [];
  for (const point of ordered) {
    const verdict = rule(point);
    const hold = held.get(point.id);
    if (hold !== undefined) keep.push({ id: point.id, reason: hold });
    else (verdict.keep ? keep : remove).push({ id: point.id, reason: verdict.reason });
  }
  return { keep, remove };
}

interface Verdict {
  readonly keep: boolean;
  readonly reason: string;
}

/** What the policy alone says about a point. `ordered` is sorted by {@link byCut}. */
function keepingRule(ordered: readonly PointFact[], retentionHours: number): (point: PointFact) => Verdict {
  const newest = ordered.findLast(({ isBuilt }) => isBuilt !== true);
  const newestApp = ordered.findLast((point) => point.kind === 'app');
  const tiers = tiersOf(retentionHours);
  const winners = new Map(tiers.map((tier) => [tier.bucketHours, bucketWinners(ordered, tier.bucketHours)]));
  const isExpired = (point: PointFact): boolean =>
    point !== newestApp && (newest ?? point).cutUs - point.cutUs > retentionHours * HOUR_US;
  const keep = (reason: string): Verdict => ({ keep: true, reason });
  const remove = (reason: string): Verdict => ({ keep: false, reason });
  return (point) => {
    if (point === newest) return keep('newest point');
    if (point === newestApp) return keep('newest app-consistent point');
    const ageUs = (newest ?? point).cutUs - point.cutUs;
    const tier = tiers.find(({ maxAgeHours }) => ageUs <= maxAgeHours * HOUR_US);
    if (retentionHours === 0) return remove('the policy keeps no older points (retention 0)');
    if (tier === undefined) return remove(`older than the retention of ${hoursText(retentionHours)}`);
    if (point.isBuilt === true) return keep('made on demand, within the retention');
    if (ageUs <= KEEP_ALL_HOURS * HOUR_US) return keep(`within the last ${KEEP_ALL_HOURS} h`);
    const winner = winners.get(tier.bucketHours)?.get(bucketOf(point, tier.bucketHours));
    const bucket = bucketText(point, tier.bucketHours);
    if (winner !== undefined && winner !== point) return remove(lossText(winner, bucket, isExpired(winner)));
    return keep(`${point.kind === 'app' ? 'app-consistent point' : 'newest'} of ${bucket}`);
  };
}

const lossText = (winner: PointFact, bucket: string, isExpired: boolean): string =>
  isExpired
    ? `${winner.id} kept ${bucket} until it passed the retention`
    : `another point keeps ${bucket}: ${winner.id}`;

const bucketOf = (point: PointFact, bucketHours: number): number => Math.floor(point.cutUs / (bucketHours * HOUR_US));

/** The point that stays for each bucket. Points come in rising order, so that a later one of the same rank wins. */
function bucketWinners(ordered: readonly PointFact[], bucketHours: number): ReadonlyMap<number, PointFact> {
  const winners = new Map<number, PointFact>();
  for (const point of ordered) {
    if (point.isBuilt === true) continue;
    const bucket = bucketOf(point, bucketHours);
    if (winners.get(bucket)?.kind !== 'app' || point.kind === 'app') winners.set(bucket, point);
  }
  return winners;
}

/** Order of points of one instant: the order in which a group can come to make them. */
const RANK = { latest: 0, crash: 1, app: 2 } as const;

/** By cut; at one cut a built point comes first and the app-consistent one last; then by id, so that the order is total. */
export function byCut(a: PointFact, b: PointFact): number {
  if (a.cutUs !== b.cutUs) return a.cutUs - b.cutUs;
  const rank = rankOf(a) - rankOf(b);
  if (rank !== 0) return rank;
  return a.id < b.id ? -1 : Number(a.id > b.id);
}

const rankOf = ({ kind, isBuilt }: PointFact): number => (isBuilt === true ? -1 : RANK[kind]);

/** The hold that lasts longest, for each held point. */
function holdReasons({ holds, nowUs }: PruneOptions): ReadonlyMap<string, string> {
  const lastUs = (hold: Hold): number => hold.expiresAtUs ?? Number.POSITIVE_INFINITY;
  const longest = new Map<string, Hold>();
  for (const hold of holds) {
    if (lastUs(hold) <= nowUs) continue;
    const other = longest.get(hold.point);
    if (other === undefined || lastUs(hold) > lastUs(other)) longest.set(hold.point, hold);
  }
  return new Map([...longest].map(([id, hold]) => [id, holdText(hold)]));
}

function holdText(hold: Hold): string {
  const until = hold.expiresAtUs === null ? '' : ` until ${minuteText(hold.expiresAtUs)}`;
  return `${hold.kind === 'pin' ? 'pinned' : 'in use'} by ${hold.owner}${until}: ${hold.reason}`;
}

/** `hour 2026-11-23T04` or `the 4 hours from 2026-11-23T04`, UTC. */
function bucketText(point: PointFact, bucketHours: number): string {
  const startUs = bucketOf(point, bucketHours) * bucketHours * HOUR_US;
  const start = isoFromUs(startUs).slice(0, 13);
  return bucketHours === 1 ? `hour ${start}` : `the ${bucketHours} hours from ${start}`;
}

/** Minutes are enough for an appointment. */
const minuteText = (timeUs: number): string => `${isoFromUs(timeUs).slice(0, 16)}Z`;

const hoursText = (hours: number): string => (hours > 24 && hours % 24 === 0 ? `${hours / 24} days` : `${hours} h`);
