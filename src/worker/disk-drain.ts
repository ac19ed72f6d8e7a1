/** One disk on its way along its log: read, verify, coalesce, apply, up to the next stop and never beyond. */
import type { SeedWriter, WriteCounters } from '../apply/seed-writer.ts';
import { overlay, type ChangedExtent } from '../coalesce/change-list.ts';
import { boundaryReachedBehindMark, stepAt, stopAtEnd, type WalkLimits } from '../cuts/cursor.ts';
import type { Stop } from '../cuts/plan.ts';
import { prepareWindow, type PreparedWindow, type WindowPart } from '../drain/window.ts';
import { tailOf, type LoadedSegment, type LogPosition, type LogReader } from '../drain/log-reader.ts';
import { assert, TidemarkError } from '../errors.ts';
import type { LogRecord } from '../log/record.ts';
import type { LogKey } from '../log/seal.ts';
import { diskLabel, type LogStream } from '../model/names.ts';
import { MIB } from '../model/sizes.ts';
import type { SeedDisk } from '../seed/seed-store.ts';

/** How far a disk is; each value is immutable. */
export interface DiskPlace {
  readonly position: LogPosition;
  /** Time of the base-complete record once it is passed. */
  readonly baseCompleteUs: number | null;
  /** End time of the last segment that is wholly passed. */
  readonly watermarkUs: number | null;
  /** Time of the last write or discard before the position; null when there was none since the newest point. */
  readonly lastChangeUs: number | null;
}

export interface DrainCounters extends WriteCounters {
  segments: number;
  logBytes: number;
  payloadBytes: number;
  liveBytes: number;
  /** Writes and discards of the log, each of which a naive drain would send by itself. */
  changes: number;
}

export const newCounters = (): DrainCounters => ({
  segments: 0,
  logBytes: 0,
  payloadBytes: 0,
  liveBytes: 0,
  changes: 0,
  putRequests: 0,
  putBytes: 0,
  clearRequests: 0,
  clearBytes: 0,
});

export interface DiskDrainOptions {
  readonly stream: LogStream;
  readonly sizeBytes: number;
  readonly seed: SeedDisk;
  readonly reader: LogReader;
  readonly writer: SeedWriter;
  readonly key: LogKey | undefined;
  readonly counters: DrainCounters;
  /** Everything before it is on the seed. */
  readonly place: DiskPlace;
  /** The snapshot of the newest point; null before the first. */
  readonly snapshot: string | null;
  /** What changed between the newest point and `place`. */
  readonly changes: readonly ChangedExtent[];
}

export interface AdvanceOptions {
  readonly limits: WalkLimits;
  /** Payload of a window that closes it; a window holds at least one segment. Two windows are in memory at once. */
  readonly windowBytes: number;
  /** Let go of segments that were read when the disk stops: the group has more disks than are applied at once. */
  readonly holdsNothing: boolean;
  /** Called after each window (with its payload) is on the seed and `place` has moved behind it, before the next one is sent. */
  readonly onApplied: (payloadBytes: number) => Promise<void>;
  readonly signal: AbortSignal;
}

/** A window of this much payload is sent at once when nothing else is being sent. */
const MIN_WINDOW_BYTES = 8 * MIB;

interface Collected {
  readonly parts: readonly WindowPart[];
  /** The place behind each part. */
  readonly places: readonly DiskPlace[];
  /** Undefined when the window is full and the walk goes on. */
  readonly stop: Stop | undefined;
}

export class DiskDrain {
  readonly stream: LogStream;
  readonly label: string;
  readonly sizeBytes: number;
  readonly seed: SeedDisk;
  place: DiskPlace;
  snapshot: string | null;
  changes: readonly ChangedExtent[];
  stop: Stop = { at: 'end' };
  /** The defect that ends this log, once it has been met; see {@link atDefect}. */
  defect: TidemarkError | undefined;
  /** At a mark, and the log ends in its defect before it is known whether the boundary is reached. */
  #endsBehindMark = false;
  #isSureOfSeed = false;
  readonly #options: DiskDrainOptions;

  constructor(options: DiskDrainOptions) {
    this.#options = options;
    this.stream = options.stream;
    this.label = diskLabel(options.stream);
    this.sizeBytes = options.sizeBytes;
    this.seed = options.seed;
    this.place = options.place;
    this.snapshot = options.snapshot;
    this.changes = options.changes;
  }

  /**
   * Applies everything up to the next stop, and sets `stop`. While one window is sent the next one is read and decoded; the slower
   * storage is, the larger windows become, and the more of their payload is buried before it is sent.
   */
  async advance(options: AdvanceOptions): Promise<void> {
    this.#endsBehindMark = false;
    if (this.isDefectApplied) {
      this.stop = { at: 'end' }; // nobody knows what changed since the newest point, so no cut may be made of it
      return;
    }
    let applying: Promise<void> = Promise.resolve();
    let isSending = false;
    let walk = this.place;
    let stop: Stop | undefined;
    try {
      while (stop === undefined) {
        const collected = await this.#collect(walk, { ...options, isSending: () => isSending });
        const { window, place, defect } = await this.#prepare(collected, walk);
        await applying;
        if (defect !== undefined) this.defect = defect;
        stop =
          defect === undefined ? collected.stop : stopAtEnd(place.watermarkUs, place.baseCompleteUs, options.limits);
        walk = place;
        const sound = defect === undefined ? collected.parts : collected.parts.slice(0, window.parts);
        applying = this.#apply({ ...window, logBytes: logBytesOf(sound) }, place, options);
        isSending = true;
        applying.finally(() => (isSending = false)).catch(() => undefined); // awaited below, but perhaps only after the next window has been read
      }
    } finally {
      await applying;
    }
    this.stop = stop;
    if (options.holdsNothing) this.#options.reader.park();
  }

  /** Everything sound is applied, and the log cannot be trusted from here on. */
  get atDefect(): boolean {
    return this.stop.at === 'end' ? this.#isDefective(this.place.position.sequence) : this.#endsBehindMark;
  }

  /** The defect lies in what is on the seed already: it was sound when it was applied. */
  get isDefectApplied(): boolean {
    const { sequence, record } = this.place.position;
    return this.#isDefective(record > 0 ? sequence : sequence - 1);
  }

  /** The time before which everything of the disk is on its seed; null when that is unknown. */
  throughUs(boundaryUs: number | null): number | null {
    const { stop } = this;
    if (stop.at === 'mark') return stop.timeUs;
    return stop.at === 'boundary' ? (boundaryUs ?? this.place.watermarkUs) : this.place.watermarkUs;
  }

  /**
   * Whether the seed is known to hold nothing behind `place`. An owner that died may have applied segments that it did not note; it
   * never went beyond a stop, and never into a segment that is not there. So a disk at a stop is sure, and one at the end of its log
   * is when storage says, asked for the next segment itself, that there is none; once, since nobody else writes from then on.
   * When it says that there is one, the next advance goes on.
   */
  async isSureOfSeed(signal: AbortSignal): Promise<boolean> {
    if (this.stop.at !== 'end' || this.#isSureOfSeed) return true;
    this.#isSureOfSeed = !(await this.#options.reader.probe(this.place.position.sequence, signal));
    return this.#isSureOfSeed;
  }

  /** Moves behind the mark that the disk stands at. */
  passMark(): void {
    assert(this.stop.at === 'mark', 'only a disk at a mark can pass it');
    const { position } = this.place;
    this.place = { ...this.place, position: { ...position, record: position.record + 1 } };
  }

  /** For a disk at a mark: reads on, without applying, until it is known whether the boundary is reached behind the mark. */
  async lookAhead(limits: WalkLimits, signal: AbortSignal): Promise<void> {
    if (this.stop.at !== 'mark') return;
    let { sequence, previous, record } = this.place.position;
    let boundaryReached: boolean | 'unknown' = 'unknown';
    while (boundaryReached === 'unknown') {
      const loaded = await this.#load({ sequence, previous, record }, signal);
      if (loaded === undefined) break;
      const { records, header } = loaded.segment;
      const first = sequence === this.place.position.sequence ? record + 1 : 0;
      boundaryReached = boundaryReachedBehindMark(records.slice(first), header.endTimeUs, limits);
      this.#options.reader.release(sequence);
      previous = tailOf(loaded.segment);
      sequence++;
    }
    this.#options.reader.park();
    this.#endsBehindMark = boundaryReached === 'unknown' && this.defect !== undefined;
    this.stop = { ...this.stop, boundaryReached };
  }

  async #collect(from: DiskPlace, options: AdvanceOptions & { readonly isSending: () => boolean }): Promise<Collected> {
    const { limits, windowBytes, isSending, signal } = options;
    const parts: WindowPart[] = [];
    const places: DiskPlace[] = [];
    let place = from;
    let payloadBytes = 0;
    for (;;) {
      const { position } = place;
      const end = stopAtEnd(place.watermarkUs, place.baseCompleteUs, limits);
      // Not into segments behind a boundary that is reached: its place in the log must not depend on how many are there by now.
      if (end.at === 'boundary') return { parts, places, stop: end };
      const loaded = await this.#load(position, signal);
      if (loaded === undefined) return { parts, places, stop: end };
      const { segment } = loaded;
      const isFull = payloadBytes + segment.payloadBytes > windowBytes;
      const isEnough = payloadBytes >= MIN_WINDOW_BYTES && !isSending();
      if (payloadBytes > 0 && (isFull || isEnough)) return { parts, places, stop: undefined };
      const walked = walkSegment(segment.records, place, limits);
      parts.push({ loaded, from: position.record, to: walked.place.position.record });
      payloadBytes += segment.payloadBytes;
      if (walked.stop !== undefined) {
        places.push(walked.place);
        return { parts, places, stop: walked.stop };
      }
      place = {
        ...walked.place,
        position: { sequence: position.sequence + 1, record: 0, previous: tailOf(segment) },
        watermarkUs: segment.header.endTimeUs,
      };
      places.push(place);
      this.#options.reader.release(position.sequence);
    }
  }

  /** A segment, or undefined at the end of what is there and what is sound. */
  async #load(position: LogPosition, signal: AbortSignal): Promise<LoadedSegment | undefined> {
    if (this.#isDefective(position.sequence)) return undefined;
    try {
      return await this.#options.reader.get(position.sequence, position.previous, signal);
    } catch (error) {
      if (!isDefect(error)) throw error;
      this.defect = error;
      return undefined;
    }
  }

  #isDefective(sequence: number): boolean {
    if (this.defect === undefined) return false;
    const bad = this.defect.details['sequence'];
    assert(typeof bad === 'number', `the defect ${this.defect.code} does not say where it is`);
    return sequence >= bad;
  }

  /** Decodes a window; a defect in it leaves the sound segments before it, and ends the log there. */
  async #prepare(
    { parts, places }: Collected,
    from: DiskPlace,
  ): Promise<{ window: PreparedWindow; place: DiskPlace; defect?: TidemarkError }> {
    const prepared = await prepareWindow(parts, this.#options.key);
    if (!('error' in prepared)) return { window: prepared, place: places.at(-1) ?? from };
    if (!isDefect(prepared.error)) throw prepared.error;
    const sound = parts.slice(0, prepared.part);
    const window = await prepareWindow(sound, this.#options.key);
    assert(!('error' in window), 'segments before the defect were sound a moment ago');
    return { window, place: places[prepared.part - 1] ?? from, defect: prepared.error };
  }

  async #apply(
    window: PreparedWindow & { logBytes: number },
    place: DiskPlace,
    { onApplied, signal }: AdvanceOptions,
  ): Promise<void> {
    if (isSamePlace(place, this.place)) return;
    const { writer, counters } = this.#options;
    const changed = await writer.write(window.requests, signal);
    this.changes = overlay(this.changes, changed);
    counters.segments += place.position.sequence - this.place.position.sequence;
    counters.logBytes += window.logBytes;
    counters.payloadBytes += window.payloadBytes;
    counters.liveBytes += window.liveBytes;
    counters.changes += window.changes;
    this.place = place;
    await onApplied(window.payloadBytes);
  }
}

/** Bytes of the segments that end in the window; one that is cut in two counts with its second part. */
const logBytesOf = (parts: readonly WindowPart[]): number =>
  parts.reduce((sum, { loaded: { segment }, to }) => sum + (to === segment.records.length ? segment.totalBytes : 0), 0);

const isSamePlace = (a: DiskPlace, b: DiskPlace): boolean =>
  a.position.sequence === b.position.sequence &&
  a.position.record === b.position.record &&
  a.baseCompleteUs === b.baseCompleteUs;

/** Only defects of the log itself end it; a missing key or a storage failure does not make the log bad. */
const isDefect = (error: unknown): error is TidemarkError => error instanceof TidemarkError && error.class === 'resync';

/** Walks the records of the place's segment to a stop or to the segment's end. */
function walkSegment(
  records: readonly LogRecord[],
  from: DiskPlace,
  limits: WalkLimits,
): { readonly place: DiskPlace; readonly stop?: Stop } {
  let { record } = from.position;
  let { baseCompleteUs, lastChangeUs } = from;
  const here = (): DiskPlace => ({ ...from, baseCompleteUs, lastChangeUs, position: { ...from.position, record } });
  for (; record < records.length; record++) {
    const entry = records[record];
    assert(entry !== undefined, 'records are dense');
    const step = stepAt(entry, baseCompleteUs, limits);
    if (step === 'stop-at-boundary') return { place: here(), stop: { at: 'boundary' } };
    if (step === 'stop-at-mark') {
      assert(entry.kind === 'mark', 'only marks stop a walk between boundaries');
      const { id, markKind, timeUs } = entry;
      return { place: here(), stop: { at: 'mark', id, kind: markKind, timeUs, boundaryReached: 'unknown' } };
    }
    if (entry.kind === 'base-complete') baseCompleteUs = entry.timeUs;
    if (step === 'take') lastChangeUs = entry.timeUs;
  }
  return { place: here() };
}
