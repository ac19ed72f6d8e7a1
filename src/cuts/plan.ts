/**
 * Pure. Which cut a group comes to next, from where each of its disks has stopped.
 *
 * Each disk is applied until its own next stop and no further: the next five-minute boundary, or a mark that the group cuts at. Where
 * it stops follows from its log alone, so the decision here does not depend on when, how often or in which order logs were read.
 */
import type { MarkKind } from '../log/record.ts';

/** Where a disk has stopped. Everything before the stop is on its seed, nothing after it. */
export type Stop =
  /** The log received so far is applied; it ends before the boundary and holds no mark, or the initial copy is not complete. */
  | { readonly at: 'end' }
  /** Every record before the boundary is applied, and the watermark says that no more will come. */
  | { readonly at: 'boundary' }
  /**
   * At a mark that lies before the boundary. `boundaryReached`: no write or discard lies between the mark and the boundary, and none
   * will come, so the disk stands at the boundary as well; 'unknown' until the log tells.
   */
  | {
      readonly at: 'mark';
      readonly id: string;
      readonly kind: MarkKind;
      readonly timeUs: number;
      readonly boundaryReached: boolean | 'unknown';
    };

export interface DiskStop {
  /** `machine/disk`, for reasons that operators read. */
  readonly label: string;
  readonly stop: Stop;
}

export type CutDecision =
  /** Some disk's log has not come far enough to tell. */
  | { readonly do: 'wait' }
  | { readonly do: 'cut'; readonly kind: MarkKind; readonly cutUs: number; readonly mark: string | null }
  /** The mark cannot be cut at: other disks have come to a later stop without it. */
  | {
      readonly do: 'skip-mark';
      readonly id: string;
      readonly kind: MarkKind;
      readonly timeUs: number;
      readonly missingOn: readonly string[];
    };

/** Which stops a group has. */
export interface CutRules {
  /** Single-machine groups are cut at five-minute boundaries of source time; others only at marks, as clocks of machines differ. */
  readonly boundaries: boolean;
  readonly crashMarks: boolean;
  readonly appMarks: boolean;
}

export function cutRules(machineCount: number, appMarks: boolean): CutRules {
  return { boundaries: machineCount === 1, crashMarks: machineCount > 1, appMarks };
}

export function isStopMark(rules: CutRules, kind: MarkKind): boolean {
  return kind === 'app' ? rules.appMarks : rules.crashMarks;
}

/**
 * Priority: a mark that all disks stand at; then a boundary that all disks have reached, one of them without a mark in between (so
 * that a mark cut at later has a later time); else the earliest mark is in somebody's way and is skipped. A mark that is on all disks but straddles a boundary is cut after the boundary, unless a disk wrote in between:
 * then the disks' parts of the mark are not of one moment, and it is skipped.
 *
 * @param boundaryUs the next five-minute boundary, for a decision that cuts at it
 */
export function decideCut(disks: readonly DiskStop[], boundaryUs: number): CutDecision {
  if (disks.length === 0 || disks.some(({ stop }) => stop.at === 'end')) return { do: 'wait' };
  const marks = disks.flatMap(({ stop }) => (stop.at === 'mark' ? [stop] : []));
  const [first] = marks;
  if (first === undefined) return { do: 'cut', kind: 'crash', cutUs: boundaryUs, mark: null };
  if (marks.length === disks.length && marks.every((mark) => isSameMark(mark, first))) {
    return { do: 'cut', kind: first.kind, cutUs: Math.max(...marks.map((mark) => mark.timeUs)), mark: first.id };
  }
  if (marks.length < disks.length) {
    if (marks.some((mark) => mark.boundaryReached === 'unknown')) return { do: 'wait' };
    if (marks.every((mark) => mark.boundaryReached === true)) {
      return { do: 'cut', kind: 'crash', cutUs: boundaryUs, mark: null };
    }
  }
  const earliest = marks.reduce((best, mark) => (isEarlier(mark, best) ? mark : best), first);
  return {
    do: 'skip-mark',
    id: earliest.id,
    kind: earliest.kind,
    timeUs: earliest.timeUs,
    missingOn: disks
      .filter(({ stop }) => !(stop.at === 'mark' && isSameMark(stop, earliest)))
      .map((disk) => disk.label),
  };
}

interface MarkIdentity {
  readonly id: string;
  readonly kind: MarkKind;
  readonly timeUs: number;
}

export const isSameMark = (a: Omit<MarkIdentity, 'timeUs'>, b: Omit<MarkIdentity, 'timeUs'>): boolean =>
  a.id === b.id && a.kind === b.kind;

/** Ids and kinds break ties, so that the order of the disks plays no part. */
function isEarlier(a: MarkIdentity, b: MarkIdentity): boolean {
  if (a.timeUs !== b.timeUs) return a.timeUs < b.timeUs;
  return a.id === b.id ? a.kind < b.kind : a.id < b.id;
}
