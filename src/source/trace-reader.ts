/**
 * Reads a dm-log-writes log (kernel Documentation/admin-guide/device-mapper/log-writes.rst) together with its times.
 *
 * Little endian. Log sector 0: `u64 magic, u64 version, u64 nr_entries, u32 sectorsize`. Each entry begins on a log sector of its own:
 * `u64 sector, u64 nr_sectors, u64 flags, u64 data_len`; a mark's text follows in the same sector, a write's data in the next ones.
 */
import { TidemarkError } from '../errors.ts';
import { MAX_CHUNK_BYTES, MAX_MARK_ID_BYTES } from '../log/limits.ts';
import type { MarkKind } from '../log/record.ts';
import { ByteReader, readBytes } from './byte-source.ts';
import { readTimes } from './trace-times.ts';

/** Kernel drivers/md/dm-log-writes.c: WRITE_LOG_MAGIC, WRITE_LOG_VERSION and the flags. */
export const TRACE_MAGIC = 0x6a_7366_7773_6872n;
export const TRACE_VERSION = 1n;
export const TRACE_FLAGS = { flush: 1, fua: 2, discard: 4, mark: 8, metadata: 16 } as const;
export const TRACE_ENTRY_BYTES = 32;
/** The longest write of a replication log. A longer one is handed over in consecutive parts of one time. */
export const MAX_WRITE_BYTES = MAX_CHUNK_BYTES;

interface EntryTime {
  /** Microseconds of trace time. */
  readonly traceTimeUs: number;
}

export type TraceEntry =
  | (EntryTime & {
      readonly kind: 'write';
      readonly offsetBytes: number;
      /** 512 to {@link MAX_WRITE_BYTES}, and the length of `data`. */
      readonly lengthBytes: number;
      readonly data: Buffer;
    })
  | (EntryTime & { readonly kind: 'discard'; readonly offsetBytes: number; readonly lengthBytes: number })
  | (EntryTime & { readonly kind: 'mark'; readonly markKind: MarkKind; readonly id: string })
  /** Last of all: the time of the log's last entry, whatever that was. */
  | (EntryTime & { readonly kind: 'end' });

export interface TraceFiles {
  readonly logFile: string;
  readonly timesFile: string;
}

export interface ReadTraceOptions {
  readonly files: TraceFiles;
  readonly diskSizeBytes: number;
  readonly signal: AbortSignal;
}

interface RawEntry {
  readonly index: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly flags: number;
  readonly textBytes: number;
  readonly sector: Buffer;
}

const MARK_PREFIXES: readonly (readonly [string, MarkKind])[] = [
  ['app-consistent', 'app'],
  ['crash-consistent', 'crash'],
];

const markKindOf = (text: string): MarkKind | undefined =>
  MARK_PREFIXES.find(([prefix]) => text.startsWith(prefix))?.[1];

const invalid = (file: string, problem: string): TidemarkError =>
  new TidemarkError('TRACE_INVALID', `${file}: ${problem}`, { details: { file } });

interface TraceHeader {
  readonly entries: number;
  readonly sectorBytes: number;
}

/** Reads log sector 0. */
async function readHeader(file: string, bytes: ByteReader): Promise<TraceHeader> {
  const head = await bytes.read(512, 'the header');
  if (head.readBigUInt64LE(0) !== TRACE_MAGIC) throw invalid(file, 'it does not begin with the dm-log-writes magic');
  const version = head.readBigUInt64LE(8);
  if (version !== TRACE_VERSION) throw invalid(file, `version ${version} is unknown; version 1 is read`);
  const entries = Number(head.readBigUInt64LE(16));
  const sectorBytes = head.readUInt32LE(24);
  if (sectorBytes !== 512 && sectorBytes !== 4096) throw invalid(file, `log sectors of ${sectorBytes} bytes`);
  if (!Number.isSafeInteger(entries)) throw invalid(file, `${entries} entries`);
  await bytes.read(sectorBytes - 512, 'the header');
  return { entries, sectorBytes };
}

interface EntrySource {
  readonly file: string;
  readonly bytes: ByteReader;
  readonly sectorBytes: number;
  readonly diskSizeBytes: number;
}

async function readRawEntry(source: EntrySource, index: number): Promise<RawEntry> {
  const sector = await source.bytes.read(source.sectorBytes, `entry ${index}`);
  const offsetBytes = Number(sector.readBigUInt64LE(0)) * source.sectorBytes;
  const lengthBytes = Number(sector.readBigUInt64LE(8)) * source.sectorBytes;
  const flags = Number(sector.readBigUInt64LE(16) & 0xffn);
  const textBytes = Number(sector.readBigUInt64LE(24));
  const room = source.sectorBytes - TRACE_ENTRY_BYTES;
  if ((flags & TRACE_FLAGS.mark) !== 0 && (textBytes > room || lengthBytes > 0)) {
    throw invalid(source.file, `entry ${index} is a mark of ${textBytes} characters and ${lengthBytes} bytes`);
  }
  if (lengthBytes > 0 && !(offsetBytes + lengthBytes <= source.diskSizeBytes)) {
    throw new TidemarkError(
      'TRACE_OUTSIDE_DISK',
      `${source.file}: entry ${index} ends at byte ${offsetBytes + lengthBytes} of a disk of ${source.diskSizeBytes} bytes`,
      { details: { file: source.file, entry: index } },
    );
  }
  return { index, offsetBytes, lengthBytes, flags, textBytes, sector };
}

function readMark(file: string, raw: RawEntry, traceTimeUs: number): TraceEntry | undefined {
  const padded = raw.sector.subarray(TRACE_ENTRY_BYTES, TRACE_ENTRY_BYTES + raw.textBytes);
  const end = padded.indexOf(0);
  const text = padded.subarray(0, end < 0 ? padded.length : end);
  const id = text.toString('utf8');
  if (!Buffer.from(id, 'utf8').equals(text)) throw invalid(file, `the text of mark ${raw.index} is not UTF-8`);
  const markKind = markKindOf(id);
  if (markKind !== undefined && text.length > MAX_MARK_ID_BYTES) {
    throw invalid(file, `mark ${raw.index} has ${text.length} bytes of text; ${MAX_MARK_ID_BYTES} is the limit`);
  }
  return markKind === undefined ? undefined : { kind: 'mark', traceTimeUs, markKind, id };
}

async function* readEntry(source: EntrySource, index: number, traceTimeUs: number): AsyncGenerator<TraceEntry> {
  const raw = await readRawEntry(source, index);
  if ((raw.flags & TRACE_FLAGS.mark) !== 0) {
    const mark = readMark(source.file, raw, traceTimeUs);
    if (mark !== undefined) yield mark;
    return;
  }
  const { offsetBytes, lengthBytes } = raw;
  if (lengthBytes === 0) return;
  if ((raw.flags & TRACE_FLAGS.discard) !== 0) {
    yield { kind: 'discard', traceTimeUs, offsetBytes, lengthBytes };
    return;
  }
  for (let done = 0; done < lengthBytes;) {
    const part = Math.min(MAX_WRITE_BYTES, lengthBytes - done);
    const data = await source.bytes.read(part, `the data of entry ${index}`);
    yield { kind: 'write', traceTimeUs, offsetBytes: offsetBytes + done, lengthBytes: part, data };
    done += part;
  }
}

/**
 * The log's writes, discards and consistency marks in order, then one `end`. Flushes and other marks are left out. Memory: one
 * part of a write, and one zstd window (at most 128 MiB) per compressed file.
 * @throws TidemarkError TRACE_NOT_FOUND, TRACE_INVALID, TRACE_TRUNCATED, TRACE_TIMES_INVALID, or TRACE_OUTSIDE_DISK
 */
export async function* readTrace(options: ReadTraceOptions): AsyncGenerator<TraceEntry, void, undefined> {
  const { logFile: file, timesFile } = options.files;
  const bytes = new ByteReader(file, readBytes(file, options.signal));
  const times = readTimes(timesFile, options.signal);
  try {
    const header = await readHeader(file, bytes);
    const source: EntrySource = { file, bytes, sectorBytes: header.sectorBytes, diskSizeBytes: options.diskSizeBytes };
    let lastUs = 0;
    for (let index = 0; index < header.entries; index++) {
      options.signal.throwIfAborted();
      const time = await times.next();
      if (time.done === true) throw rowCount(timesFile, `has ${index} rows for ${header.entries} log entries`);
      lastUs = time.value;
      yield* readEntry(source, index, lastUs);
    }
    if ((await times.next()).done !== true) {
      throw rowCount(timesFile, `has more rows than the log's ${header.entries} entries`);
    }
    await bytes.drain();
    yield { kind: 'end', traceTimeUs: lastUs };
  } finally {
    await bytes.close();
    await times.return();
  }
}

const rowCount = (file: string, problem: string): TidemarkError =>
  new TidemarkError('TRACE_TIMES_INVALID', `${file} ${problem}`, { details: { file } });
