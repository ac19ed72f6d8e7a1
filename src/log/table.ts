/** Pure. Reads a segment's table: the chunks, the records, and where in the chunks each record's payload lies. */
import { isUtf8 } from 'node:buffer';
import { assert, TidemarkError } from '../errors.ts';
import { SECTOR_BYTES } from '../model/sizes.ts';
import type { ParsedHeader } from './header.ts';
import { CHUNK, CHUNK_BYTES, defect, KIND, MARK_KIND, readU64, RECORD, RECORD_BYTES, TAG_BYTES } from './layout.ts';
import { MAX_CHUNK_BYTES, MAX_MARK_ID_BYTES, MAX_SEGMENT_PAYLOAD_BYTES } from './limits.ts';
import type { LogRecord } from './record.ts';
import type { ChunkInfo, DecodedSegment } from './segment.ts';

export type ParsedTable = Pick<
  DecodedSegment,
  'records' | 'chunks' | 'chunkOfRecord' | 'offsetInChunk' | 'payloadBytes'
>;

/**
 * `bytes` holds header and table, and the table's digest was checked.
 * @throws TidemarkError LOG_CHUNK_SIZE, LOG_TABLE_PAYLOAD, LOG_TOO_LARGE, LOG_RECORD_*, LOG_MARK_TEXT
 */
export function parseTable(bytes: Buffer, parsed: ParsedHeader): ParsedTable {
  const chunks = readChunks(bytes, parsed);
  const { records, textsEnd } = readRecords(bytes, parsed);
  const tableEnd = parsed.headerBytes + parsed.tableBytes;
  if (textsEnd !== tableEnd) {
    const where = { offset: textsEnd, field: 'texts' };
    throw defect('LOG_MARK_TEXT', `the ids of the marks leave ${tableEnd - textsEnd} bytes of the table over`, where);
  }
  return { records, chunks, ...placePayload(records, chunks, parsed.headerBytes) };
}

function readChunks(bytes: Buffer, { headerBytes, recordCount, chunkCount, ...parsed }: ParsedHeader): ChunkInfo[] {
  const tableAt = headerBytes + recordCount * RECORD_BYTES;
  const copy = Buffer.from(bytes.subarray(tableAt, tableAt + chunkCount * CHUNK_BYTES));
  const overhead = parsed.sealed ? TAG_BYTES : 0;
  const chunks: ChunkInfo[] = [];
  let offsetBytes = parsed.headBytes;
  let payloadBytes = 0;
  for (let i = 0; i < chunkCount; i++) {
    const at = i * CHUNK_BYTES;
    const storedBytes = copy.readUInt32LE(at + CHUNK.storedBytes);
    const rawBytes = copy.readUInt32LE(at + CHUNK.rawBytes);
    const body = storedBytes - overhead;
    if (rawBytes < SECTOR_BYTES || rawBytes > MAX_CHUNK_BYTES || body < 1 || body > rawBytes) {
      const where = { offset: tableAt + at, field: `chunk ${i}` };
      throw defect('LOG_CHUNK_SIZE', `a chunk of ${rawBytes} bytes stored in ${storedBytes} cannot be`, where);
    }
    chunks.push({ storedBytes, rawBytes, offsetBytes, sha256: copy.subarray(at + CHUNK.sha256, at + CHUNK_BYTES) });
    offsetBytes += storedBytes;
    payloadBytes += rawBytes;
  }
  if (offsetBytes !== parsed.totalBytes) {
    const where = { offset: tableAt, field: 'chunks' };
    throw defect('LOG_TABLE_PAYLOAD', 'the chunks do not add up to the stored bytes that the header names', where);
  }
  if (payloadBytes > MAX_SEGMENT_PAYLOAD_BYTES) {
    const where = { offset: tableAt, field: 'chunks' };
    throw defect('LOG_TOO_LARGE', `the payload is ${payloadBytes} bytes before compression`, where);
  }
  return chunks;
}

function readRecords(bytes: Buffer, parsed: ParsedHeader): { records: LogRecord[]; textsEnd: number } {
  const { headerBytes, recordCount, chunkCount } = parsed;
  const { diskSizeBytes, firstTimeUs, endTimeUs } = parsed.header;
  const records: LogRecord[] = [];
  let textAt = headerBytes + recordCount * RECORD_BYTES + chunkCount * CHUNK_BYTES;
  let earliestUs = firstTimeUs;
  for (let i = 0; i < recordCount; i++) {
    const at = headerBytes + i * RECORD_BYTES;
    const timeUs = readU64(bytes, at + RECORD.timeUs);
    if (timeUs < earliestUs || timeUs > endTimeUs) throw wrongTime(at, i, timeUs, { earliestUs, endTimeUs });
    earliestUs = timeUs;
    const kind = bytes.readUInt8(at + RECORD.kind);
    if (bytes.readUInt32LE(at + RECORD.reserved) !== 0) throw wrongField(at, i, 'reserved');
    if (kind === KIND.write || kind === KIND.discard) {
      records.push(readRange(bytes, at, i, { kind, timeUs, diskSizeBytes }));
      continue;
    }
    if (kind !== KIND.mark && kind !== KIND['base-complete']) {
      throw defect('LOG_RECORD_KIND', `record ${i} has kind ${kind}`, { offset: at, field: 'kind' });
    }
    if (readU64(bytes, at + RECORD.offsetBytes) !== 0) throw wrongField(at, i, 'offsetBytes');
    if (readU64(bytes, at + RECORD.lengthBytes) !== 0) throw wrongField(at, i, 'lengthBytes');
    if (kind === KIND.mark) {
      const textBytes = bytes.readUInt16LE(at + RECORD.textBytes);
      const id = readText(bytes, textAt, textBytes, headerBytes + parsed.tableBytes);
      records.push({ kind: 'mark', timeUs, markKind: readMarkKind(bytes, at, i), id });
      textAt += textBytes;
    } else {
      rejectMarkFields(bytes, at, i);
      records.push({ kind: 'base-complete', timeUs });
    }
  }
  return { records, textsEnd: textAt };
}

const wrongField = (at: number, index: number, field: keyof typeof RECORD): TidemarkError =>
  defect('LOG_RECORD_FIELD', `record ${index} holds a value that it cannot have`, {
    offset: at + RECORD[field],
    field,
  });

function wrongTime(
  at: number,
  index: number,
  timeUs: number,
  limits: { earliestUs: number; endTimeUs: number },
): Error {
  if (timeUs < 0) return wrongField(at, index, 'timeUs');
  const message = `record ${index} has time ${timeUs}, outside ${limits.earliestUs} to ${limits.endTimeUs}`;
  return defect('LOG_RECORD_TIME', message, { offset: at + RECORD.timeUs, field: 'timeUs' });
}

function rejectMarkFields(bytes: Buffer, at: number, index: number): void {
  if (bytes.readUInt8(at + RECORD.markKind) !== 0) throw wrongField(at, index, 'markKind');
  if (bytes.readUInt16LE(at + RECORD.textBytes) !== 0) throw wrongField(at, index, 'textBytes');
}

function readMarkKind(bytes: Buffer, at: number, index: number): 'crash' | 'app' {
  const markKind = bytes.readUInt8(at + RECORD.markKind);
  if (markKind === MARK_KIND.crash) return 'crash';
  if (markKind === MARK_KIND.app) return 'app';
  throw wrongField(at, index, 'markKind');
}

function readRange(
  bytes: Buffer,
  at: number,
  index: number,
  { kind, timeUs, diskSizeBytes }: { kind: number; timeUs: number; diskSizeBytes: number },
): LogRecord {
  rejectMarkFields(bytes, at, index);
  const offsetBytes = readU64(bytes, at + RECORD.offsetBytes);
  const lengthBytes = readU64(bytes, at + RECORD.lengthBytes);
  if (offsetBytes < 0) throw wrongField(at, index, 'offsetBytes');
  if (lengthBytes < 0) throw wrongField(at, index, 'lengthBytes');
  if (offsetBytes % SECTOR_BYTES !== 0 || lengthBytes % SECTOR_BYTES !== 0) {
    const where = { offset: at + RECORD.offsetBytes, field: 'offsetBytes' };
    throw defect('LOG_RECORD_ALIGNMENT', `record ${index} (${offsetBytes}+${lengthBytes}) is not aligned`, where);
  }
  const longest = kind === KIND.write ? MAX_CHUNK_BYTES : diskSizeBytes;
  if (lengthBytes === 0 || lengthBytes > longest || offsetBytes > diskSizeBytes - lengthBytes) {
    const where = { offset: at + RECORD.offsetBytes, field: 'offsetBytes' };
    const range = `${offsetBytes}+${lengthBytes}`;
    throw defect(
      'LOG_RECORD_RANGE',
      `record ${index} (${range}) is no range of a disk of ${diskSizeBytes} bytes`,
      where,
    );
  }
  return { kind: kind === KIND.write ? 'write' : 'discard', timeUs, offsetBytes, lengthBytes };
}

function readText(bytes: Buffer, at: number, textBytes: number, end: number): string {
  const text = bytes.subarray(at, Math.min(at + textBytes, end));
  if (textBytes === 0 || textBytes > MAX_MARK_ID_BYTES || text.length !== textBytes || !isUtf8(text)) {
    throw defect('LOG_MARK_TEXT', 'the id of a mark is empty, too long or no UTF-8', { offset: at, field: 'texts' });
  }
  return text.toString('utf8');
}

/** Writes fill the chunks in order and each lies in one chunk, so their places follow from the lengths and nothing can overlap. */
function placePayload(
  records: readonly LogRecord[],
  chunks: readonly ChunkInfo[],
  tableAt: number,
): Pick<DecodedSegment, 'chunkOfRecord' | 'offsetInChunk' | 'payloadBytes'> {
  const chunkOfRecord = new Int32Array(records.length).fill(-1);
  const offsetInChunk = new Int32Array(records.length);
  let chunk = -1;
  let used = 0;
  let room = 0;
  let payloadBytes = 0;
  for (let i = 0; i < records.length; i++) {
    const record = records[i];
    assert(record !== undefined, 'the loop stays inside the records');
    if (record.kind !== 'write') continue;
    if (used === room) {
      room = chunks[++chunk]?.rawBytes ?? 0;
      used = 0;
    }
    if (record.lengthBytes > room - used) {
      const where = { offset: tableAt + i * RECORD_BYTES + RECORD.lengthBytes, field: 'lengthBytes' };
      throw defect('LOG_TABLE_PAYLOAD', `the payload of record ${i} does not end inside its chunk`, where);
    }
    chunkOfRecord[i] = chunk;
    offsetInChunk[i] = used;
    used += record.lengthBytes;
    payloadBytes += record.lengthBytes;
  }
  if (used !== room || chunk + 1 !== chunks.length) {
    const where = { offset: tableAt + records.length * RECORD_BYTES, field: 'chunks' };
    throw defect('LOG_TABLE_PAYLOAD', 'the chunks hold more payload than the writes', where);
  }
  return { chunkOfRecord, offsetInChunk, payloadBytes };
}
