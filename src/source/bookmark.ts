/** Where a stream ends in the cache: what a source that was stopped needs to go on, and the check that it is the same stream. */
import type { LogStore, LogUpload } from '../drain/log-store.ts';
import { TidemarkError } from '../errors.ts';
import { decodeSegment } from '../log/decode.ts';
import { MAX_SEGMENT_BYTES } from '../log/limits.ts';
import type { LogRecord } from '../log/record.ts';
import type { LogKey } from '../log/seal.ts';
import type { DecodedSegment } from '../log/segment.ts';
import { diskLabel, segmentName } from '../model/names.ts';
import type { LogStream } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import type { SourceRecord } from './source-records.ts';

/** How far back records are looked for behind heartbeats, to compare them. */
const MAX_HEARTBEATS_BACK = 64;

export interface Bookmark {
  /** The newest visible segment. */
  readonly last: DecodedSegment;
  /** The newest segment that holds records, when it is among the last ones and was not deleted yet. */
  readonly sample: DecodedSegment | undefined;
  /** Records in all visible segments. */
  readonly records: number;
}

export interface BookmarkOptions {
  readonly stream: LogStream;
  readonly diskSizeBytes: number;
  readonly upload: Pick<LogUpload, 'lastSequence'>;
  readonly log: Pick<LogStore, 'read'>;
  readonly key: LogKey | undefined;
  readonly signal: AbortSignal;
}

export const mismatch = (stream: LogStream, problem: string): TidemarkError =>
  new TidemarkError('SOURCE_MISMATCH', `${stream.group}/${diskLabel(stream)}: ${problem}`);

async function readSegment(options: BookmarkOptions, sequence: number): Promise<DecodedSegment | undefined> {
  const { stream, diskSizeBytes, log, key, signal } = options;
  const bytes = await log.read(stream, sequence, MAX_SEGMENT_BYTES, signal);
  if (bytes === undefined) return undefined;
  try {
    return decodeSegment(bytes, { stream, diskSizeBytes, sequence }, key);
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    throw new TidemarkError('SOURCE_MISMATCH', `segment ${segmentName(stream, sequence)}: ${error.message}`, {
      cause: error,
    });
  }
}

/**
 * Undefined for a stream without segments.
 * @throws TidemarkError SOURCE_MISMATCH when the newest segment cannot be read as one of this disk (its size, key or bytes)
 */
export async function readBookmark(options: BookmarkOptions): Promise<Bookmark | undefined> {
  const { stream, upload, signal } = options;
  const sequence = await upload.lastSequence(stream, signal);
  if (sequence === 0) return undefined;
  const last = await readSegment(options, sequence);
  if (last === undefined) {
    throw new TidemarkError('SOURCE_CONFLICT', `segment ${segmentName(stream, sequence)} was there and is gone`);
  }
  let sample: DecodedSegment | undefined = last;
  for (let back = sequence - 1; sample?.records.length === 0; back--) {
    const worthwhile = back >= 1 && back >= sequence - MAX_HEARTBEATS_BACK;
    sample = worthwhile ? await readSegment(options, back) : undefined;
  }
  return { last, sample, records: last.header.recordsBefore + last.records.length };
}

function sameRecord(a: LogRecord, b: LogRecord): boolean {
  if (a.kind !== b.kind || a.timeUs !== b.timeUs) return false;
  if (a.kind === 'mark' && b.kind === 'mark') return a.id === b.id && a.markKind === b.markKind;
  if ((a.kind === 'write' && b.kind === 'write') || (a.kind === 'discard' && b.kind === 'discard')) {
    return a.offsetBytes === b.offsetBytes && a.lengthBytes === b.lengthBytes;
  }
  return true;
}

/**
 * Takes from `records` what is shipped already, and checks on the way that it is the same stream.
 * @throws TidemarkError SOURCE_MISMATCH
 */
export async function skipShipped(
  stream: LogStream,
  bookmark: Bookmark,
  records: AsyncIterator<SourceRecord, void, undefined>,
): Promise<void> {
  const { last, sample } = bookmark;
  const sampleStart = sample?.header.recordsBefore ?? bookmark.records;
  for (let number = 0; number < bookmark.records; number++) {
    const next = await records.next();
    if (next.done === true) {
      throw mismatch(stream, `${bookmark.records} records are shipped, and the trace gives only ${number}`);
    }
    const { record } = next.value;
    const shipped = sample?.records[number - sampleStart];
    if (shipped !== undefined && !sameRecord(shipped, record)) {
      throw mismatch(stream, `record ${number} was shipped as ${describe(shipped)}, and now is ${describe(record)}`);
    }
    const latestUs = number < last.header.recordsBefore ? last.header.firstTimeUs : last.header.endTimeUs;
    if (record.timeUs > latestUs) {
      throw mismatch(stream, `record ${number} was shipped by ${isoFromUs(latestUs)}, and now is ${describe(record)}`);
    }
  }
}

function describe(record: LogRecord): string {
  const where = 'offsetBytes' in record ? ` of ${record.lengthBytes} bytes at ${record.offsetBytes}` : '';
  return `a ${record.kind}${where} at ${isoFromUs(record.timeUs)}`;
}
