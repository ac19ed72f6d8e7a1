/** Pure. Reads a segment's header: nothing is believed before its checksum and its limits hold. */
import { crc32 } from 'node:zlib';
import { MAX_EPOCH, MAX_SEQUENCE, requireName } from '../model/names.ts';
import { MAX_DISK_BYTES, MIB } from '../model/sizes.ts';
import {
  CHUNK_BYTES,
  CRC_BYTES,
  defect,
  DIGEST_BYTES,
  FLAG_SEALED,
  FRAME_BYTES,
  HEADER,
  MAGIC,
  readU64,
  RECORD_BYTES,
  VERSION,
} from './layout.ts';
import {
  MAX_CHUNKS,
  MAX_HEADER_BYTES,
  MAX_SEGMENT_BYTES,
  MAX_SEGMENT_RECORDS,
  MAX_SEGMENT_TIME_US,
  MAX_TABLE_BYTES,
  MAX_TIME_US,
} from './limits.ts';
import type { SegmentHeader } from './segment.ts';

/** A header whose checksum, fields and limits hold by themselves. */
export interface ParsedHeader {
  readonly header: SegmentHeader;
  readonly headerBytes: number;
  readonly recordCount: number;
  readonly chunkCount: number;
  readonly tableBytes: number;
  /** Stored bytes of all chunks. */
  readonly storedBytes: number;
  readonly sealed: boolean;
  /** Header, table and table digest: where the first chunk begins. */
  readonly headBytes: number;
  readonly totalBytes: number;
}

/**
 * `bytes`: a segment or a prefix of one that holds the header.
 * @throws TidemarkError LOG_TRUNCATED, LOG_MAGIC, LOG_HEADER_CHECKSUM, LOG_VERSION, LOG_FLAGS, LOG_HEADER_FIELD, LOG_TOO_LARGE,
 * LOG_TIME_BACKWARDS, LOG_TIME_LEAP
 */
export function parseHeader(bytes: Buffer): ParsedHeader {
  const headerBytes = checkFrame(bytes);
  const sizes = readSizes(bytes, headerBytes);
  const header = readFields(bytes, headerBytes);
  checkTimes(header);
  const counted = header.recordsBefore + sizes.recordCount;
  if (!Number.isSafeInteger(counted)) throw wrongField('recordsBefore', 'the stream has too many records');
  return { header, headerBytes, ...sizes };
}

const wrongField = (field: keyof typeof HEADER, message: string): Error =>
  defect('LOG_HEADER_FIELD', message, { offset: HEADER[field], field });

/** Magic, checksum, version and flags. Returns the header's length. */
function checkFrame(bytes: Buffer): number {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC.subarray(0, bytes.length))) {
    throw defect('LOG_MAGIC', 'the blob does not begin as a segment does', { offset: 0, field: 'magic' });
  }
  const ends = (field: string): Error =>
    defect('LOG_TRUNCATED', `the segment ends after ${bytes.length} bytes`, { offset: bytes.length, field });
  if (bytes.length < FRAME_BYTES) throw ends('header');
  const headerBytes = bytes.readUInt32LE(HEADER.headerBytes);
  if (headerBytes < FRAME_BYTES + CRC_BYTES || headerBytes > MAX_HEADER_BYTES) {
    throw wrongField('headerBytes', `a header has no ${headerBytes} bytes`);
  }
  if (bytes.length < headerBytes) throw ends('header');
  const crcAt = headerBytes - CRC_BYTES;
  if (crc32(bytes.subarray(0, crcAt)) !== bytes.readUInt32LE(crcAt)) {
    throw defect('LOG_HEADER_CHECKSUM', 'the checksum of the header is wrong', { offset: crcAt, field: 'headerCrc32' });
  }
  const version = bytes.readUInt16LE(HEADER.version);
  if (version !== VERSION) {
    const where = { offset: HEADER.version, field: 'version' };
    throw defect('LOG_VERSION', `the segment has format version ${version}, this worker reads ${VERSION}`, where);
  }
  const flags = bytes.readUInt16LE(HEADER.flags);
  if ((flags & ~FLAG_SEALED) !== 0) {
    throw defect('LOG_FLAGS', `flags are 0x${flags.toString(16)}`, { offset: HEADER.flags, field: 'flags' });
  }
  if (headerBytes < HEADER.names + 3 + CRC_BYTES) throw wrongField('headerBytes', `${headerBytes} bytes are too few`);
  return headerBytes;
}

function readSizes(bytes: Buffer, headerBytes: number): Omit<ParsedHeader, 'header' | 'headerBytes'> {
  const bounded = (field: 'recordCount' | 'chunkCount' | 'tableBytes' | 'storedBytes', limit: number): number => {
    const at = HEADER[field];
    const value = field === 'storedBytes' ? readU64(bytes, at) : bytes.readUInt32LE(at);
    if (value >= 0 && value <= limit) return value;
    throw defect('LOG_TOO_LARGE', `${field} is beyond the limit of ${limit}`, { offset: at, field });
  };
  const recordCount = bounded('recordCount', MAX_SEGMENT_RECORDS);
  const chunkCount = bounded('chunkCount', MAX_CHUNKS);
  const tableBytes = bounded('tableBytes', MAX_TABLE_BYTES);
  const headBytes = headerBytes + tableBytes + DIGEST_BYTES;
  const storedBytes = bounded('storedBytes', MAX_SEGMENT_BYTES - headBytes);
  if (tableBytes < recordCount * RECORD_BYTES + chunkCount * CHUNK_BYTES) {
    throw wrongField('tableBytes', `a table of ${tableBytes} bytes does not hold its records and chunks`);
  }
  const sealed = (bytes.readUInt16LE(HEADER.flags) & FLAG_SEALED) !== 0;
  if (!sealed && bytes.subarray(HEADER.keyCheck, HEADER.names).some((byte) => byte !== 0)) {
    throw wrongField('keyCheck', 'a segment that is not sealed has key check, salt and tag of zeroes');
  }
  const totalBytes = headBytes + storedBytes;
  return { recordCount, chunkCount, tableBytes, storedBytes, sealed, headBytes, totalBytes };
}

function readFields(bytes: Buffer, headerBytes: number): SegmentHeader {
  const integer = (field: keyof typeof HEADER, min: number, max: number): number => {
    const value = field === 'epoch' ? bytes.readUInt32LE(HEADER.epoch) : readU64(bytes, HEADER[field]);
    if (value < min || value > max) throw wrongField(field, `${field} is outside ${min} to ${max}`);
    return value;
  };
  const diskSizeBytes = integer('diskSizeBytes', MIB, MAX_DISK_BYTES);
  if (diskSizeBytes % MIB !== 0) throw wrongField('diskSizeBytes', `${diskSizeBytes} bytes are no multiple of 1 MiB`);
  return {
    stream: { ...readNames(bytes, headerBytes - CRC_BYTES), epoch: integer('epoch', 1, MAX_EPOCH) },
    diskSizeBytes,
    sequence: integer('sequence', 1, MAX_SEQUENCE),
    streamStartUs: integer('streamStartUs', 0, MAX_TIME_US),
    recordsBefore: integer('recordsBefore', 0, Number.MAX_SAFE_INTEGER),
    firstTimeUs: integer('firstTimeUs', 0, MAX_TIME_US),
    endTimeUs: integer('endTimeUs', 0, MAX_TIME_US),
    previousDigest: Buffer.from(bytes.subarray(HEADER.previousDigest, HEADER.previousDigest + DIGEST_BYTES)),
  };
}

function readNames(bytes: Buffer, end: number): { group: string; machine: string; disk: string } {
  let at: number = HEADER.names;
  const next = (role: 'group' | 'machine' | 'disk'): string => {
    const from = at + 1;
    const to = from + (at < end ? bytes.readUInt8(at) : end);
    const where = { offset: at, field: `${role} name` };
    if (to > end) throw defect('LOG_HEADER_FIELD', `the ${role} name goes beyond the header`, where);
    at = to;
    try {
      return requireName(role, bytes.toString('latin1', from, to));
    } catch (cause) {
      throw defect('LOG_HEADER_FIELD', `the ${role} name is none`, { ...where, cause });
    }
  };
  const names = { group: next('group'), machine: next('machine'), disk: next('disk') };
  if (at !== end) throw wrongField('headerBytes', 'the header is longer than its names');
  return names;
}

function checkTimes({ streamStartUs, firstTimeUs, endTimeUs }: SegmentHeader): void {
  if (firstTimeUs < streamStartUs) {
    const where = { offset: HEADER.firstTimeUs, field: 'firstTimeUs' };
    throw defect('LOG_TIME_BACKWARDS', `time ${firstTimeUs} is before the stream's start, ${streamStartUs}`, where);
  }
  const where = { offset: HEADER.endTimeUs, field: 'endTimeUs' };
  if (endTimeUs < firstTimeUs) {
    throw defect('LOG_TIME_BACKWARDS', `the segment ends at ${endTimeUs}, before its begin, ${firstTimeUs}`, where);
  }
  if (endTimeUs - firstTimeUs > MAX_SEGMENT_TIME_US) {
    throw defect('LOG_TIME_LEAP', `the segment covers ${endTimeUs - firstTimeUs} microseconds`, where);
  }
}
