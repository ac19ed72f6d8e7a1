/** Reads one disk's replication log in sequence: verified, chained, a bounded number of segments ahead. */
import { TidemarkError } from '../errors.ts';
import { decodeSegment } from '../log/decode.ts';
import { MAX_SEGMENT_BYTES } from '../log/limits.ts';
import type { LogKey } from '../log/seal.ts';
import type { DecodedSegment } from '../log/segment.ts';
import { CONTAINERS, segmentName, type LogStream } from '../model/names.ts';
import type { LogStore } from './log-store.ts';

/** What the successor of a segment has to fit. */
export interface SegmentTail {
  readonly digest: Buffer;
  readonly endTimeUs: number;
  readonly recordsThrough: number;
  readonly streamStartUs: number;
}

/** The place before record `record` of segment `sequence`; `previous` is the tail of segment `sequence - 1`, null before the first. */
export interface LogPosition {
  readonly sequence: number;
  readonly record: number;
  readonly previous: SegmentTail | null;
}

export const STREAM_START: LogPosition = { sequence: 1, record: 0, previous: null };

export interface LoadedSegment {
  readonly bytes: Buffer;
  readonly segment: DecodedSegment;
}

export function tailOf({ header, digest, records }: DecodedSegment): SegmentTail {
  return {
    digest,
    endTimeUs: header.endTimeUs,
    recordsThrough: header.recordsBefore + records.length,
    streamStartUs: header.streamStartUs,
  };
}

/** Where a defect in the log is, for the event and for the person who looks at the blob. */
export function atBlob(error: unknown, stream: LogStream, sequence: number): unknown {
  if (!(error instanceof TidemarkError) || error.details['sequence'] !== undefined) return error;
  const blob = `${CONTAINERS.logs}/${segmentName(stream, sequence)}`;
  return new TidemarkError(error.code, `${blob}: ${error.message}`, {
    cause: error.cause ?? error,
    details: { ...error.details, blob, sequence },
  });
}

const isResync = (error: unknown): boolean => error instanceof TidemarkError && error.class === 'resync';

export interface LogReaderOptions {
  readonly store: LogStore;
  readonly stream: LogStream;
  readonly diskSizeBytes: number;
  readonly key: LogKey | undefined;
  /** Segments requested ahead of the one that is wanted; each is at most {@link MAX_SEGMENT_BYTES}. */
  readonly readAhead: number;
}

/** Names asked for in one listing. */
const LIST_LIMIT = 1000;

/**
 * Holds the segments from the oldest wanted one on; {@link release} lets go of older ones.
 * Not safe for concurrent calls: one walker owns one reader.
 */
export class LogReader {
  readonly #options: LogReaderOptions;
  readonly #held = new Map<number, LoadedSegment>();
  readonly #reads = new Map<number, Promise<Buffer | undefined>>();
  /** Sequences that are known to be there and not released. */
  readonly #listed = new Set<number>();
  #listedThrough = 0;

  constructor(options: LogReaderOptions) {
    this.#options = options;
  }

  /**
   * The segment `sequence`, or undefined when the log does not go that far yet. `previous` is the tail of the segment before it.
   * @throws TidemarkError LOG_* (class resync): a defect, with the blob's name in `details.blob`
   */
  async get(sequence: number, previous: SegmentTail | null, signal: AbortSignal): Promise<LoadedSegment | undefined> {
    const held = this.#held.get(sequence);
    if (held !== undefined) return held;
    const bytes = await this.#fetch(sequence, signal);
    if (bytes === undefined) return undefined;
    const loaded = { bytes, segment: this.#decode(bytes, sequence, previous) };
    this.#held.set(sequence, loaded);
    return loaded;
  }

  /**
   * Whether `sequence` is there, by asking for the blob itself: a listing may lag behind. One that is there is found by the next
   * {@link get}.
   */
  async probe(sequence: number, signal: AbortSignal): Promise<boolean> {
    const { store, stream } = this.#options;
    const isThere = (await store.readHead(stream, sequence, 1, signal)) !== undefined;
    if (isThere) this.#listed.add(sequence);
    return isThere;
  }

  /** Lets go of segments before `sequence`. */
  release(sequence: number): void {
    for (const held of this.#held.keys()) if (held < sequence) this.#held.delete(held);
    for (const listed of this.#listed) if (listed < sequence) this.#listed.delete(listed);
  }

  /** Lets go of all payload, for a disk that waits while others need the memory. */
  park(): void {
    this.#held.clear();
    this.#reads.clear();
  }

  #decode(bytes: Buffer, sequence: number, previous: SegmentTail | null): DecodedSegment {
    const { stream, diskSizeBytes, key } = this.#options;
    try {
      return decodeSegment(bytes, { stream, diskSizeBytes, sequence, ...(previous === null ? {} : { previous }) }, key);
    } catch (error) {
      throw atBlob(error, stream, sequence);
    }
  }

  async #fetch(sequence: number, signal: AbortSignal): Promise<Buffer | undefined> {
    if (!this.#listed.has(sequence) && !(await this.#list(sequence, signal))) return undefined;
    for (let ahead = sequence; ahead <= sequence + this.#options.readAhead; ahead++) {
      if (this.#listed.has(ahead) && !this.#reads.has(ahead) && !this.#held.has(ahead)) void this.#start(ahead, signal);
    }
    const read = this.#reads.get(sequence) ?? this.#start(sequence, signal);
    const bytes = await read.finally(() => this.#reads.delete(sequence));
    if (bytes === undefined) throw this.#missing('LOG_SEGMENT_MISSING', sequence, 'was listed and is gone');
    return bytes;
  }

  #start(sequence: number, signal: AbortSignal): Promise<Buffer | undefined> {
    const { store, stream } = this.#options;
    const read = store.read(stream, sequence, MAX_SEGMENT_BYTES, signal).catch((error: unknown) => {
      throw isResync(error) ? atBlob(error, stream, sequence) : error; // beyond the limit: a defect of the log, in this segment
    });
    read.catch(() => this.#forgetReads()); // reported by whoever awaits it; the next attempt asks anew
    this.#reads.set(sequence, read);
    return read;
  }

  #forgetReads(): void {
    this.#reads.clear();
    this.#listed.clear();
    this.#listedThrough = 0;
  }

  /** True when `sequence` is there. A later one without it is a gap: the source makes segments visible in order. */
  async #list(sequence: number, signal: AbortSignal): Promise<boolean> {
    const { store, stream } = this.#options;
    const from = Math.max(sequence, this.#listedThrough + 1);
    const refs = await store.list(stream, from, LIST_LIMIT, signal);
    for (const ref of refs) this.#listed.add(ref.sequence);
    this.#listedThrough = Math.max(this.#listedThrough, refs.at(-1)?.sequence ?? 0);
    if (this.#listed.has(sequence)) return true;
    if (this.#listedThrough < sequence) return false;
    // A listing may lag behind the blobs themselves, so ask for the blob before calling it a gap.
    const head = await store.readHead(stream, sequence, 1, signal);
    if (head === undefined) {
      throw this.#missing(
        'LOG_SEQUENCE_GAP',
        sequence,
        `is missing while ${refs[0]?.sequence ?? 'a later one'} is there`,
      );
    }
    this.#listed.add(sequence);
    return true;
  }

  #missing(code: 'LOG_SEQUENCE_GAP' | 'LOG_SEGMENT_MISSING', sequence: number, what: string): unknown {
    return atBlob(new TidemarkError(code, `segment ${sequence} ${what}`), this.#options.stream, sequence);
  }
}
