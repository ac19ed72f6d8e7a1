/**
 * Pure. From a segment's bytes to its verified header and records. Checks go from the outside in: header, place in the stream, lengths,
 * table digest, seal, chunks, records. Payload is checked and decoded chunk by chunk, when it is wanted.
 */
import { hash } from 'node:crypto';
import type { ErrorCode } from '../errors.ts';
import type { LogStream } from '../model/names.ts';
import { parseHeader } from './header.ts';
import type { ParsedHeader } from './header.ts';
import { CRC_BYTES, defect, DIGEST_BYTES, HEADER, TAG_BYTES } from './layout.ts';
import { MAX_SEGMENT_BYTES } from './limits.ts';
import { equalTags, openingKey, tableTagOf } from './seal.ts';
import type { LogKey } from './seal.ts';
import type { DecodedSegment, SegmentHeader } from './segment.ts';
import { parseTable } from './table.ts';

export { decodeChunk, decodeChunkAsync, verifyChunk } from './chunk.ts';

/** What the reader knows about a segment before it looks. */
export interface SegmentExpectation {
  readonly stream: LogStream;
  readonly diskSizeBytes: number;
  readonly sequence: number;
  /** What the segment before this one said. Left out for the first segment that a reader knows, of whatever sequence. */
  readonly previous?: {
    readonly digest: Buffer;
    readonly endTimeUs: number;
    /** Records in all segments through the previous one. */
    readonly recordsThrough: number;
    readonly streamStartUs: number;
  };
}

/** For a prefix of a segment that holds at least header, table and digest: the length of the whole blob, from its listing. */
export interface HeadExpectation extends SegmentExpectation {
  readonly blobBytes: number;
}

/**
 * Verifies everything but the chunks' bytes, which {@link decodeChunk} does.
 * @throws TidemarkError LOG_* other than LOG_CHUNK_CHECKSUM, LOG_CHUNK_CODEC and LOG_CHUNK_SEAL; `details` has `offset` and `field`
 */
export const decodeSegment = (bytes: Buffer, expected: SegmentExpectation, key?: LogKey): DecodedSegment =>
  decode(bytes, bytes.length, expected, key);

/** {@link decodeSegment} from a prefix of a segment; {@link peekHeader} tells how long it has to be. */
export const decodeHead = (bytes: Buffer, expected: HeadExpectation, key?: LogKey): DecodedSegment =>
  decode(bytes, expected.blobBytes, expected, key);

export interface PeekedHeader extends SegmentHeader {
  /** Header, table and digest: the prefix that {@link decodeHead} needs. */
  readonly headBytes: number;
  readonly totalBytes: number;
}

/**
 * The header alone, from any prefix of a segment that holds it ({@link MAX_HEADER_BYTES} are always enough). It says nothing about
 * the segment's place in a stream.
 * @throws TidemarkError as decodeSegment, for what a header shows by itself
 */
export function peekHeader(prefix: Buffer): PeekedHeader {
  const { header, headBytes, totalBytes } = parseHeader(prefix);
  return { ...header, headBytes, totalBytes };
}

function decode(
  bytes: Buffer,
  blobBytes: number,
  expected: SegmentExpectation,
  key: LogKey | undefined,
): DecodedSegment {
  if (blobBytes > MAX_SEGMENT_BYTES) {
    const where = { offset: MAX_SEGMENT_BYTES, field: 'segment' };
    throw defect('LOG_TOO_LARGE', `the segment has ${blobBytes} bytes, the limit is ${MAX_SEGMENT_BYTES}`, where);
  }
  const parsed = parseHeader(bytes);
  checkPlace(parsed.header, expected);
  if (expected.previous !== undefined) checkChain(parsed.header, expected.previous);
  checkLengths(parsed, bytes.length, blobBytes);
  const digest = checkDigest(bytes, parsed);
  const salt = checkSeal(bytes, parsed, key);
  return { header: parsed.header, digest, salt, ...parseTable(bytes, parsed), totalBytes: parsed.totalBytes };
}

function differs(code: ErrorCode & `LOG_${string}`, field: keyof typeof HEADER, is: unknown, wanted: unknown): Error {
  return defect(code, `the segment has ${field} ${String(is)} where ${String(wanted)} is expected`, {
    offset: HEADER[field],
    field,
  });
}

function checkPlace({ stream, sequence, diskSizeBytes, ...header }: SegmentHeader, expected: SegmentExpectation): void {
  for (const [code, role] of [
    ['LOG_WRONG_GROUP', 'group'],
    ['LOG_WRONG_MACHINE', 'machine'],
    ['LOG_WRONG_DISK', 'disk'],
  ] as const) {
    if (stream[role] === expected.stream[role]) continue;
    const message = `the segment belongs to ${role} ${stream[role]}, not to ${expected.stream[role]}`;
    throw defect(code, message, { offset: HEADER.names, field: `${role} name` });
  }
  if (stream.epoch !== expected.stream.epoch) {
    throw differs('LOG_WRONG_EPOCH', 'epoch', stream.epoch, expected.stream.epoch);
  }
  if (sequence !== expected.sequence) throw differs('LOG_WRONG_SEQUENCE', 'sequence', sequence, expected.sequence);
  if (diskSizeBytes !== expected.diskSizeBytes) {
    throw differs('LOG_DISK_SIZE', 'diskSizeBytes', diskSizeBytes, expected.diskSizeBytes);
  }
  if (sequence !== 1) return;
  if (header.previousDigest.some((byte) => byte !== 0)) {
    throw differs('LOG_CHAIN', 'previousDigest', header.previousDigest.toString('hex'), 'zeroes');
  }
  if (header.recordsBefore !== 0) throw differs('LOG_RECORD_COUNT', 'recordsBefore', header.recordsBefore, 0);
}

function checkChain(header: SegmentHeader, previous: NonNullable<SegmentExpectation['previous']>): void {
  const { previousDigest, recordsBefore, streamStartUs, firstTimeUs } = header;
  if (!previousDigest.equals(previous.digest)) {
    throw differs('LOG_CHAIN', 'previousDigest', previousDigest.toString('hex'), previous.digest.toString('hex'));
  }
  if (recordsBefore !== previous.recordsThrough) {
    throw differs('LOG_RECORD_COUNT', 'recordsBefore', recordsBefore, previous.recordsThrough);
  }
  if (streamStartUs !== previous.streamStartUs) {
    throw differs('LOG_HEADER_FIELD', 'streamStartUs', streamStartUs, previous.streamStartUs);
  }
  if (firstTimeUs !== previous.endTimeUs) {
    const code = firstTimeUs < previous.endTimeUs ? 'LOG_TIME_BACKWARDS' : 'LOG_TIME_LEAP';
    throw differs(code, 'firstTimeUs', firstTimeUs, previous.endTimeUs);
  }
}

function checkLengths({ headBytes, totalBytes }: ParsedHeader, availableBytes: number, blobBytes: number): void {
  if (blobBytes < totalBytes || availableBytes < headBytes) {
    const ends = Math.min(availableBytes, blobBytes);
    const where = { offset: ends, field: ends < headBytes ? 'table' : 'chunks' };
    throw defect('LOG_TRUNCATED', `the segment has ${blobBytes} of ${totalBytes} bytes`, where);
  }
  if (blobBytes > totalBytes) {
    const where = { offset: totalBytes, field: 'segment' };
    throw defect('LOG_TRAILING_BYTES', `${blobBytes - totalBytes} bytes follow the segment`, where);
  }
}

/** SHA-256 of header and table; with the chunks' digests in the table it stands for every byte of the segment. */
function checkDigest(bytes: Buffer, { headBytes }: ParsedHeader): Buffer {
  const at = headBytes - DIGEST_BYTES;
  const digest = hash('sha256', bytes.subarray(0, at), 'buffer');
  if (!digest.equals(bytes.subarray(at, headBytes))) {
    throw defect('LOG_TABLE_DIGEST', 'the digest of header and table is wrong', { offset: at, field: 'digest' });
  }
  return digest;
}

/** Returns the salt of a sealed segment, undefined for one that is not. */
function checkSeal(bytes: Buffer, { sealed, headerBytes, tableBytes }: ParsedHeader, key?: LogKey): Buffer | undefined {
  if (!sealed) {
    if (key === undefined) return undefined;
    throw defect('LOG_NOT_SEALED', 'a key is set and the segment is not sealed', {
      offset: HEADER.flags,
      field: 'flags',
    });
  }
  const where = { offset: HEADER.keyCheck, field: 'keyCheck' };
  if (key === undefined) throw defect('LOG_KEY_MISSING', 'the segment is sealed and there is no key', where);
  const opening = openingKey(key, bytes.subarray(HEADER.keyCheck, HEADER.salt));
  if (opening === undefined) {
    throw defect('LOG_KEY_WRONG', 'the segment is sealed with another key', where);
  }
  const salt = Buffer.from(bytes.subarray(HEADER.salt, HEADER.tableTag));
  const header = Buffer.from(bytes.subarray(0, headerBytes - CRC_BYTES)).fill(0, HEADER.tableTag, HEADER.names);
  const tag = tableTagOf(opening, salt, header, bytes.subarray(headerBytes, headerBytes + tableBytes));
  if (!equalTags(tag, bytes.subarray(HEADER.tableTag, HEADER.tableTag + TAG_BYTES))) {
    const at = { offset: HEADER.tableTag, field: 'tableTag' };
    throw defect('LOG_TABLE_SEAL', 'header or table were not sealed with this key', at);
  }
  return salt;
}
