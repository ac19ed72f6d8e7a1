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

/**
 * Extents that the records from `from` to `to` write or zero; their checksums are unknown.
 * @throws TidemarkError LOG_SEGMENT_MISSING and other LOG_* codes when the log is not what it was when it was applied
 */
export async function readChangesBetween(options: ReadChangesOptions): Promise<ChangedExtent[]> {
  const { from, to } = options;
  let changes: ChangedExtent[] = [];
  let { sequence, previous } = from;
  let firstRecord = from.record;
  while (sequence < to.sequence || (sequence === to.sequence && firstRecord < to.record)) {
    const head = await readHead(options, sequence, previous);
    const stop = sequence === to.sequence ? to.record : head.records.length;
    const spans = head.records
      .slice(firstRecord, stop)
      .filter((record): record is typeof record & Span => record.kind === 'write' || record.kind === 'discard');
    changes = overlay(
      changes,
      coalesce(spans).map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes, checksum: 'unknown' })),
    );
    previous = tailOf(head);
    sequence++;
    firstRecord = 0;
  }
  return changes;
}

async function readHead(
  { store, stream, diskSizeBytes, key, signal }: ReadChangesOptions,
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
