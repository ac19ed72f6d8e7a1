/** Re-reads record tables, without payload, to find what a stretch of a log has changed. */
import { overlay, type ChangedExtent } from '../coalesce/change-list.ts';
import { coalesce, type Span } from '../coalesce/coalesce.ts';
import { decodeHead, peekHeader } from '../log/decode.ts';
import type { LogKey } from '../log/seal.ts';
import type { DecodedSegment } from '../log/segment.ts';
import { TidemarkError } from '../errors.ts';
import { KIB } from '../model/sizes.ts';
import type { LogStream } from '../model/names.ts';
import { atBlob, tailOf, type LogPosition, type SegmentTail } from './log-reader.ts';
import type { LogStore } from './log-store.ts';

/** Enough for the header and 2,000 records: nearly always one request. */
const FIRST_READ_BYTES = 64 * KIB;

export interface ReadChangesOptions {
  readonly store: LogStore;
  readonly stream: LogStream;
  readonly diskSizeBytes: number;
  readonly key: LogKey | undefined;
  readonly from: LogPosition;
  readonly to: LogPosition;
  readonly signal: AbortSignal;
}

/** What a stretch of a log has changed. */
export interface ChangesBetween {
  /** Extents that its records write or zero; their checksums are unknown. */
  readonly changes: readonly ChangedExtent[];
  /** Time of its last write or discard; null when it holds none. */
  readonly lastChangeUs: number | null;
}

/**
 * What the records from `from` to `to` change.
 * @throws TidemarkError LOG_SEGMENT_MISSING and other LOG_* codes when the log is not what it was when it was applied
 */
export async function readChangesBetween(options: ReadChangesOptions): Promise<ChangesBetween> {
  const { from, to } = options;
  let changes: ChangedExtent[] = [];
  let lastChangeUs: number | null = null;
  let { sequence, previous } = from;
  let firstRecord = from.record;
  while (sequence < to.sequence || (sequence === to.sequence && firstRecord < to.record)) {
    const head = await readHead(options, sequence, previous);
    const stop = sequence === to.sequence ? to.record : head.records.length;
    const spans = head.records
      .slice(firstRecord, stop)
      .filter((record): record is typeof record & Span => record.kind === 'write' || record.kind === 'discard');
    lastChangeUs = spans.at(-1)?.timeUs ?? lastChangeUs; // times never descend along a log
    changes = overlay(
      changes,
      coalesce(spans).map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes, checksum: 'unknown' })),
    );
    previous = tailOf(head);
    sequence++;
    firstRecord = 0;
  }
  return { changes, lastChangeUs };
}

/**
 * The tail of a segment that was applied long ago, for a reader that begins behind it; null before the first segment.
 * @param digest what the segment must have
 * @throws TidemarkError LOG_SEGMENT_MISSING, LOG_CHAIN and other LOG_* codes
 */
export async function readTail(
  options: Omit<ReadChangesOptions, 'from' | 'to'>,
  sequence: number,
  digest: string,
): Promise<SegmentTail | null> {
  if (sequence === 0) return null;
  const tail = tailOf(await readHead(options, sequence, null));
  if (tail.digest.toString('hex') === digest) return tail;
  const error = new TidemarkError('LOG_CHAIN', `segment ${sequence} is not the one that the point was made of`);
  throw atBlob(error, options.stream, sequence);
}

async function readHead(
  { store, stream, diskSizeBytes, key, signal }: Omit<ReadChangesOptions, 'from' | 'to'>,
  sequence: number,
  previous: SegmentTail | null,
): Promise<DecodedSegment> {
  try {
    let bytes = await store.readHead(stream, sequence, FIRST_READ_BYTES, signal);
    if (bytes === undefined)
      throw new TidemarkError('LOG_SEGMENT_MISSING', `segment ${sequence} was applied and is gone`);
    const { headBytes, totalBytes: blobBytes } = peekHeader(bytes);
    if (headBytes > bytes.length) bytes = (await store.readHead(stream, sequence, headBytes, signal)) ?? bytes;
    const expected = { stream, diskSizeBytes, sequence, blobBytes, ...(previous === null ? {} : { previous }) };
    return decodeHead(bytes, expected, key);
  } catch (error) {
    throw atBlob(error, stream, sequence);
  }
}
