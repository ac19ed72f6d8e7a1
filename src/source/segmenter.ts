/** Pure. Decides where a disk's records are cut into segments, and what watermark each segment promises. */
import { assert } from '../errors.ts';
import { RECORD_BYTES } from '../log/layout.ts';
import type { LogRecord } from '../log/record.ts';
import type { SourceRecord } from './source-records.ts';

export interface SegmentLimits {
  /** A segment never holds more payload, except when one write alone does. */
  readonly payloadBytes: number;
  /** Bytes of the record table: 32 per record, and the marks' ids. */
  readonly tableBytes: number;
  /** Source time that a segment covers at most. */
  readonly ageUs: number;
}

/** A segment's content before it is encoded. Empty ones are heartbeats. */
export interface SegmentPlan {
  readonly firstTimeUs: number;
  /** Exclusive: every record that comes later has this time or a later one. */
  readonly endTimeUs: number;
  readonly entries: readonly SourceRecord[];
  readonly payloadBytes: number;
}

const tableBytesOf = (record: LogRecord): number =>
  RECORD_BYTES + (record.kind === 'mark' ? Buffer.byteLength(record.id) : 0);

/**
 * Depends on the records, the limits and where the last segment ended, and on nothing else: a source that was killed and begins
 * again at a segment's end cuts the rest as it would have been cut.
 */
export class Segmenter {
  readonly #limits: SegmentLimits;
  #firstTimeUs: number;
  #lastTimeUs: number;
  #entries: SourceRecord[] = [];
  #payloadBytes = 0;
  #tableBytes = 0;

  /** `firstTimeUs`: where the previous segment ended, or the stream's start. */
  constructor(firstTimeUs: number, limits: SegmentLimits) {
    this.#limits = limits;
    this.#firstTimeUs = firstTimeUs;
    this.#lastTimeUs = firstTimeUs;
  }

  #close(endTimeUs: number): SegmentPlan {
    assert(endTimeUs >= this.#lastTimeUs, 'a watermark is never before a record of its segment');
    const plan: SegmentPlan = {
      firstTimeUs: this.#firstTimeUs,
      endTimeUs,
      entries: this.#entries,
      payloadBytes: this.#payloadBytes,
    };
    this.#entries = [];
    this.#payloadBytes = 0;
    this.#tableBytes = 0;
    this.#firstTimeUs = endTimeUs;
    this.#lastTimeUs = endTimeUs;
    return plan;
  }

  /** When the open segment is full of age, empty or not. */
  get deadlineUs(): number {
    return this.#firstTimeUs + this.#limits.ageUs;
  }

  /** Closes the open segment at its deadline: no record before that is to come. */
  closeByAge(): SegmentPlan {
    return this.#close(this.deadlineUs);
  }

  /** Takes the next record, of a time before the deadline. Returns the segment that closes before it, when that is full. */
  add(entry: SourceRecord): SegmentPlan | undefined {
    const { timeUs } = entry.record;
    assert(timeUs >= this.#lastTimeUs, 'time goes backwards in a stream');
    assert(timeUs < this.deadlineUs, 'a segment is closed when it is full of age');
    const payloadBytes = entry.data?.length ?? 0;
    const tableBytes = tableBytesOf(entry.record);
    const full =
      this.#tableBytes + tableBytes > this.#limits.tableBytes ||
      this.#payloadBytes + payloadBytes > this.#limits.payloadBytes;
    const closed = full && this.#entries.length > 0 ? this.#close(timeUs) : undefined;
    this.#entries.push(entry);
    this.#payloadBytes += payloadBytes;
    this.#tableBytes += tableBytes;
    this.#lastTimeUs = timeUs;
    return closed;
  }

  /** The rest, through the final watermark. Nothing when the stream has come that far already and holds no more records. */
  finish(endTimeUs: number): SegmentPlan | undefined {
    return this.#entries.length > 0 || this.#firstTimeUs < endTimeUs ? this.#close(endTimeUs) : undefined;
  }
}
