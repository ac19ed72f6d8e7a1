/** A trace disk as a replication log's records: base copy, base-complete, then every entry at its stretched time. */
import { assert } from '../errors.ts';
import type { LogRecord } from '../log/record.ts';
import { readBaseCopy } from './base-copy.ts';
import type { TraceDisk } from './trace-folder.ts';
import { readTrace } from './trace-reader.ts';
import type { TraceEntry } from './trace-reader.ts';

/** A record with the payload of a write; `data` is absent for the other kinds. */
export interface SourceRecord {
  readonly record: LogRecord;
  readonly data?: Buffer;
}

export interface SourceRecordOptions {
  readonly files: TraceDisk;
  readonly diskSizeBytes: number;
  /** Source time of trace time 0 and of the base copy. */
  readonly startUs: number;
  /** Positive integer: microseconds of source time per microsecond of trace time. */
  readonly stretch: number;
  readonly signal: AbortSignal;
}

/** Exact: the product and the sum are safe integers, or the assertion fails. */
export function sourceTimeUs(startUs: number, traceTimeUs: number, stretch: number): number {
  const timeUs = startUs + traceTimeUs * stretch;
  assert(Number.isSafeInteger(traceTimeUs * stretch) && Number.isSafeInteger(timeUs), 'source time out of range');
  return timeUs;
}

function toRecord(entry: Exclude<TraceEntry, { kind: 'end' }>, timeUs: number): SourceRecord {
  if (entry.kind === 'mark') return { record: { kind: 'mark', timeUs, markKind: entry.markKind, id: entry.id } };
  const { offsetBytes, lengthBytes } = entry;
  if (entry.kind === 'discard') return { record: { kind: 'discard', timeUs, offsetBytes, lengthBytes } };
  return { record: { kind: 'write', timeUs, offsetBytes, lengthBytes }, data: entry.data };
}

/**
 * The whole stream, from its first record. Times never decrease. The same options give the same records.
 * @throws TidemarkError what `readBaseCopy` and `readTrace` throw
 */
export async function* sourceRecords(options: SourceRecordOptions): AsyncGenerator<SourceRecord, void, undefined> {
  const { files, diskSizeBytes, startUs, stretch, signal } = options;
  for await (const part of readBaseCopy({ imageFile: files.imageFile, diskSizeBytes, signal })) {
    const lengthBytes = part.data.length;
    yield { record: { kind: 'write', timeUs: startUs, offsetBytes: part.offsetBytes, lengthBytes }, data: part.data };
  }
  yield { record: { kind: 'base-complete', timeUs: startUs } };
  for await (const entry of readTrace({ files, diskSizeBytes, signal })) {
    if (entry.kind === 'end') return;
    yield toRecord(entry, sourceTimeUs(startUs, entry.traceTimeUs, stretch));
  }
}
