/** Pure. From records and payload to a segment's bytes. Equal input gives equal bytes, with the same zstd library. */
import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { assert } from '../errors.ts';
import { MAX_EPOCH, MAX_SEQUENCE, requireName } from '../model/names.ts';
import { MAX_DISK_BYTES, MIB, SECTOR_BYTES } from '../model/sizes.ts';
import { compressChunk } from './chunk.ts';
import {
  CHUNK,
  CHUNK_BYTES,
  CRC_BYTES,
  DIGEST_BYTES,
  FLAG_SEALED,
  HEADER,
  KIND,
  MAGIC,
  MARK_KIND,
  RECORD,
  RECORD_BYTES,
  VERSION,
  writeU64,
} from './layout.ts';
import {
  DEFAULT_CHUNK_BYTES,
  DEFAULT_ZSTD_LEVEL,
  MAX_CHUNK_BYTES,
  MAX_CHUNKS,
  MAX_MARK_ID_BYTES,
  MAX_SEGMENT_BYTES,
  MAX_SEGMENT_PAYLOAD_BYTES,
  MAX_SEGMENT_RECORDS,
  MAX_SEGMENT_TIME_US,
  MAX_TABLE_BYTES,
} from './limits.ts';
import type { LogRecord } from './record.ts';
import { chunkKeyOf, saltOf, sealChunk, tableTagOf } from './seal.ts';
import type { LogKey } from './seal.ts';
import type { SegmentHeader } from './segment.ts';

export interface SegmentEntry {
  readonly record: LogRecord;
  /** The payload, `lengthBytes` long; given for writes and for nothing else. */
  readonly data?: Buffer;
}

export interface EncodeOptions {
  /** zstd level, 1-22. Default {@link DEFAULT_ZSTD_LEVEL}. */
  readonly level?: number;
  /** Payload that closes a chunk; a longer write has a chunk of its own. Default {@link DEFAULT_CHUNK_BYTES}. */
  readonly chunkBytes?: number;
  /** Seals the segment. */
  readonly key?: LogKey;
}

export interface EncodedSegment {
  readonly bytes: Buffer;
  /** What the next segment's header has as `previousDigest`. */
  readonly digest: Buffer;
}

/**
 * `entries` in log order. Payload is copied or compressed before this returns.
 * @throws TidemarkError ASSERTION when the input breaks a limit of the format: the caller splits writes and closes segments in time.
 */
export function encodeSegment(
  header: SegmentHeader,
  entries: readonly SegmentEntry[],
  options: EncodeOptions = {},
): EncodedSegment {
  assertHeader(header, entries.length);
  assertEntries(header, entries);
  const raws = packChunks(entries, options.chunkBytes ?? DEFAULT_CHUNK_BYTES);
  const bodies = raws.map((raw) => compressChunk(raw, options.level ?? DEFAULT_ZSTD_LEVEL));
  const table = writeTable(entries, raws);
  const head = writeHeader(header, { recordCount: entries.length, chunkCount: raws.length, tableBytes: table.length });
  const chunks = finishTable({ header, head, table, bodies }, options.key);

  const crc = Buffer.alloc(CRC_BYTES);
  crc.writeUInt32LE(crc32(head));
  const covered = Buffer.concat([head, crc, table]);
  const digest = hash('sha256', covered, 'buffer');
  const bytes = Buffer.concat([covered, digest, ...chunks]);
  assert(bytes.length <= MAX_SEGMENT_BYTES, `a segment of ${bytes.length} bytes is too large`);
  return { bytes, digest };
}

function assertHeader(header: SegmentHeader, recordCount: number): void {
  const { stream, diskSizeBytes, sequence, streamStartUs, recordsBefore, firstTimeUs, endTimeUs } = header;
  requireName('group', stream.group);
  requireName('machine', stream.machine);
  requireName('disk', stream.disk);
  const within = (value: number, min: number, max: number): boolean =>
    Number.isSafeInteger(value) && value >= min && value <= max;
  assert(within(stream.epoch, 1, MAX_EPOCH), `epoch ${stream.epoch} is out of range`);
  assert(within(sequence, 1, MAX_SEQUENCE), `sequence ${sequence} is out of range`);
  assert(within(diskSizeBytes, MIB, MAX_DISK_BYTES) && diskSizeBytes % MIB === 0, `${diskSizeBytes} is no disk size`);
  assert(within(recordCount, 0, MAX_SEGMENT_RECORDS), `${recordCount} records are too many`);
  assert(within(recordsBefore, 0, Number.MAX_SAFE_INTEGER - recordCount), 'recordsBefore is out of range');
  assert(within(streamStartUs, 0, firstTimeUs), 'a segment does not begin before its stream');
  assert(within(firstTimeUs, 0, endTimeUs), 'a segment does not end before it begins');
  assert(within(endTimeUs, 0, firstTimeUs + MAX_SEGMENT_TIME_US), 'a segment covers too much time');
  assert(header.previousDigest.length === DIGEST_BYTES, 'a digest has 32 bytes');
  const first = sequence === 1;
  assert(!first || recordsBefore === 0, 'no records are before the first segment');
  assert(!first || header.previousDigest.every((byte) => byte === 0), 'the first segment follows none');
}

function assertEntries(header: SegmentHeader, entries: readonly SegmentEntry[]): void {
  let earliestUs = header.firstTimeUs;
  for (const { record, data } of entries) {
    const { timeUs } = record;
    assert(Number.isSafeInteger(timeUs), 'a time is a safe integer');
    assert(timeUs >= earliestUs && timeUs <= header.endTimeUs, 'a record breaks the time of its segment');
    earliestUs = timeUs;
    assert((record.kind === 'write') === (data !== undefined), 'writes and nothing else have payload');
    if (record.kind === 'write' || record.kind === 'discard') {
      const { offsetBytes, lengthBytes } = record;
      const longest = record.kind === 'write' ? MAX_CHUNK_BYTES : header.diskSizeBytes;
      assert(Number.isSafeInteger(offsetBytes) && offsetBytes >= 0 && offsetBytes % SECTOR_BYTES === 0, 'bad offset');
      assert(lengthBytes > 0 && lengthBytes <= longest && lengthBytes % SECTOR_BYTES === 0, 'bad length');
      assert(offsetBytes + lengthBytes <= header.diskSizeBytes, 'a record lies outside the disk');
      assert(data === undefined || data.length === lengthBytes, 'payload has the length of its record');
    } else if (record.kind === 'mark') {
      const idBytes = Buffer.byteLength(record.id);
      assert(idBytes > 0 && idBytes <= MAX_MARK_ID_BYTES && record.id.isWellFormed(), 'bad mark id');
    }
  }
}

/** The payload of each chunk: writes in order, as many as fit `chunkBytes`. */
function packChunks(entries: readonly SegmentEntry[], chunkBytes: number): Buffer[] {
  assert(chunkBytes > 0 && chunkBytes <= MAX_CHUNK_BYTES, 'a chunk has at most 1 MiB');
  const chunks: Buffer[] = [];
  let open: Buffer[] = [];
  let openBytes = 0;
  let payloadBytes = 0;
  const close = (): void => {
    const [first] = open;
    if (first !== undefined) chunks.push(open.length === 1 ? first : Buffer.concat(open, openBytes));
    open = [];
    openBytes = 0;
  };
  for (const { data } of entries) {
    if (data === undefined) continue;
    if (openBytes + data.length > chunkBytes) close();
    open.push(data);
    openBytes += data.length;
    payloadBytes += data.length;
  }
  close();
  assert(payloadBytes <= MAX_SEGMENT_PAYLOAD_BYTES, `${payloadBytes} bytes are too much payload for a segment`);
  assert(chunks.length <= MAX_CHUNKS, `${chunks.length} chunks are too many`);
  return chunks;
}

/** Records, chunks without stored length and digest, texts. */
function writeTable(entries: readonly SegmentEntry[], raws: readonly Buffer[]): Buffer {
  const texts: Buffer[] = [];
  const fixed = Buffer.alloc(entries.length * RECORD_BYTES + raws.length * CHUNK_BYTES);
  let at = 0;
  for (const { record } of entries) {
    fixed.writeUInt8(KIND[record.kind], at + RECORD.kind);
    writeU64(fixed, record.timeUs, at + RECORD.timeUs);
    if (record.kind === 'write' || record.kind === 'discard') {
      writeU64(fixed, record.offsetBytes, at + RECORD.offsetBytes);
      writeU64(fixed, record.lengthBytes, at + RECORD.lengthBytes);
    } else if (record.kind === 'mark') {
      const text = Buffer.from(record.id);
      fixed.writeUInt8(MARK_KIND[record.markKind], at + RECORD.markKind);
      fixed.writeUInt16LE(text.length, at + RECORD.textBytes);
      texts.push(text);
    }
    at += RECORD_BYTES;
  }
  for (const raw of raws) {
    fixed.writeUInt32LE(raw.length, at + CHUNK.rawBytes);
    at += CHUNK_BYTES;
  }
  const table = Buffer.concat([fixed, ...texts]);
  assert(table.length <= MAX_TABLE_BYTES, `a table of ${table.length} bytes is too large`);
  return table;
}

/** The header without its CRC, with zeroes for `storedBytes` and the fields of sealing. */
function writeHeader(
  header: SegmentHeader,
  counts: { readonly recordCount: number; readonly chunkCount: number; readonly tableBytes: number },
): Buffer {
  const { stream } = header;
  const names = [stream.group, stream.machine, stream.disk].flatMap((name) => [
    Buffer.of(name.length),
    Buffer.from(name, 'latin1'),
  ]);
  const fixed = Buffer.alloc(HEADER.names);
  const head = Buffer.concat([fixed, ...names]);
  MAGIC.copy(head, HEADER.magic);
  head.writeUInt16LE(VERSION, HEADER.version);
  head.writeUInt32LE(head.length + CRC_BYTES, HEADER.headerBytes);
  head.writeUInt32LE(stream.epoch, HEADER.epoch);
  head.writeUInt32LE(counts.recordCount, HEADER.recordCount);
  writeU64(head, header.sequence, HEADER.sequence);
  writeU64(head, header.streamStartUs, HEADER.streamStartUs);
  writeU64(head, header.recordsBefore, HEADER.recordsBefore);
  writeU64(head, header.firstTimeUs, HEADER.firstTimeUs);
  writeU64(head, header.endTimeUs, HEADER.endTimeUs);
  writeU64(head, header.diskSizeBytes, HEADER.diskSizeBytes);
  head.writeUInt32LE(counts.chunkCount, HEADER.chunkCount);
  head.writeUInt32LE(counts.tableBytes, HEADER.tableBytes);
  header.previousDigest.copy(head, HEADER.previousDigest);
  return head;
}

interface Parts {
  readonly header: SegmentHeader;
  readonly head: Buffer;
  readonly table: Buffer;
  readonly bodies: readonly Buffer[];
}

/** Seals the chunks when there is a key, and fills in what header and table say about them. Returns the stored chunks. */
function finishTable({ header, head, table, bodies }: Parts, key: LogKey | undefined): readonly Buffer[] {
  const chunksAt = head.readUInt32LE(HEADER.recordCount) * RECORD_BYTES;
  let chunks = bodies;
  if (key !== undefined) {
    head.writeUInt16LE(FLAG_SEALED, HEADER.flags);
    key.check.copy(head, HEADER.keyCheck);
    // Where one body ends and the next begins is part of what the salt depends on.
    for (const [i, body] of bodies.entries()) table.writeUInt32LE(body.length, chunksAt + i * CHUNK_BYTES);
    const salt = saltOf(key, head, table, bodies);
    salt.copy(head, HEADER.salt);
    const chunkKey = chunkKeyOf(key, salt);
    const chunkCount = bodies.length;
    chunks = bodies.map((body, chunkIndex) => sealChunk(chunkKey, { header, chunkIndex, chunkCount }, body));
  }
  let storedBytes = 0;
  for (const [i, chunk] of chunks.entries()) {
    const at = chunksAt + i * CHUNK_BYTES;
    table.writeUInt32LE(chunk.length, at + CHUNK.storedBytes);
    hash('sha256', chunk, 'buffer').copy(table, at + CHUNK.sha256);
    storedBytes += chunk.length;
  }
  writeU64(head, storedBytes, HEADER.storedBytes);
  if (key !== undefined) {
    tableTagOf(key, head.subarray(HEADER.salt, HEADER.tableTag), head, table).copy(head, HEADER.tableTag);
  }
  return chunks;
}
