/**
 * Pure. Walks one disk's records to its next stop.
 *
 * The walk is the same whatever the segments are: it sees records and watermarks only.
 */
import type { LogRecord } from '../log/record.ts';
import { boundaryAtOrAfter } from '../model/time.ts';
import { isStopMark, type CutRules, type Stop } from './plan.ts';

export interface WalkLimits {
  readonly rules: CutRules;
  /** The group's next five-minute boundary; null until every disk's initial copy is complete. Unused in groups without boundaries. */
  readonly boundaryUs: number | null;
}

/** What to do with the next record: it belongs to the window, it is none of this group's business, or the walk stops before it. */
export type Step = 'take' | 'pass' | 'stop-at-boundary' | 'stop-at-mark';

/** During its initial copy a disk never stops: there is nothing consistent to cut. */
export function stepAt(record: LogRecord, baseCompleteUs: number | null, limits: WalkLimits): Step {
  if (baseCompleteUs !== null && record.timeUs >= ownBoundaryUs(baseCompleteUs, limits)) return 'stop-at-boundary';
  if (record.kind === 'write' || record.kind === 'discard') return 'take';
  const isStop = record.kind === 'mark' && baseCompleteUs !== null && isStopMark(limits.rules, record.markKind);
  return isStop ? 'stop-at-mark' : 'pass';
}

/** The stop of a disk whose received records are all taken. */
export function stopAtEnd(watermarkUs: number | null, baseCompleteUs: number | null, limits: WalkLimits): Stop {
  const reached =
    watermarkUs !== null && baseCompleteUs !== null && watermarkUs >= ownBoundaryUs(baseCompleteUs, limits);
  return { at: reached ? 'boundary' : 'end' };
}

/**
 * Whether a disk that stands at a mark also stands at the boundary. `following` are the records behind the mark that are known,
 * `watermarkUs` the watermark of the last known segment.
 */
export function boundaryReachedBehindMark(
  following: Iterable<LogRecord>,
  watermarkUs: number,
  limits: WalkLimits,
): boolean | 'unknown' {
  if (!limits.rules.boundaries) return false;
  const boundaryUs = limits.boundaryUs ?? Number.POSITIVE_INFINITY;
  for (const record of following) {
    if (record.timeUs >= boundaryUs) return true;
    if (record.kind === 'write' || record.kind === 'discard') return false;
  }
  return watermarkUs >= boundaryUs ? true : 'unknown';
}

/**
 * Where a disk stops at the latest. While other disks are still being copied this one waits at the first boundary after its own
 * copy; the group's first boundary, after the last copy, is that one or a later one.
 */
function ownBoundaryUs(baseCompleteUs: number, { rules, boundaryUs }: WalkLimits): number {
  if (!rules.boundaries) return Number.POSITIVE_INFINITY;
  return boundaryUs ?? boundaryAtOrAfter(baseCompleteUs);
}
