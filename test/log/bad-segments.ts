/** One damaged or hostile segment per defect. The part of a name before a dash is the code that decoding it must give. */
import { constants, zstdCompressSync } from 'node:zlib';
import { encodeSegment } from '../../src/log/encode.ts';
import { CHUNK, CHUNK_BYTES, HEADER, RECORD, RECORD_BYTES, writeU64 } from '../../src/log/layout.ts';
import type { SegmentHeader } from '../../src/log/segment.ts';
import { MIB } from '../../src/model/sizes.ts';
import { HOUR_US } from '../../src/model/time.ts';
import { fitChunks, forge } from './forge.ts';
import type { SegmentParts } from './forge.ts';
import { firstHeader, mixedEntries, otherKey, secondHeader, SECOND_US, T0, testKey, write } from './standard.ts';

/** Fixtures whose name begins with one of these are decoded with the test key, the others with none. */
export const DECODED_WITH_KEY = ['LOG_KEY_WRONG', 'LOG_NOT_SEALED', 'LOG_TABLE_SEAL', 'LOG_CHUNK_SEAL'];

/** Such a frame does not say how long its content is. */
const smallWindow = { [constants.ZSTD_c_windowLog]: 20, [constants.ZSTD_c_contentSizeFlag]: 0 };
const options = { chunkBytes: 4096 };
const good = (header: Partial<SegmentHeader> = {}): Buffer =>
  encodeSegment({ ...secondHeader, ...header }, mixedEntries(), options).bytes;
const sealed = (): Buffer => encodeSegment(secondHeader, mixedEntries(), { ...options, key: testKey }).bytes;
/** Heartbeats have no records, so any times go. */
const heartbeat = (header: Partial<SegmentHeader>): Buffer =>
  encodeSegment({ ...secondHeader, ...header }, [], {}).bytes;
const named = (names: Partial<SegmentHeader['stream']>): Buffer =>
  good({ stream: { ...secondHeader.stream, ...names } });

const head = (change: (head: Buffer) => void): Buffer => forge(good(), (parts) => change(parts.head));
const u64 = (field: keyof typeof HEADER, value: number): Buffer =>
  head((bytes) => writeU64(bytes, value, HEADER[field]));
const u32 = (field: keyof typeof HEADER, value: number): Buffer =>
  head((bytes) => bytes.writeUInt32LE(value, HEADER[field]));
const unsafe = (bytes: Buffer, at: number): void => {
  bytes.writeBigUInt64LE(2n ** 53n, at);
};

/** Records of `mixedEntries`: writes are 0, 1 and 4, the discard 2, marks 3 and 6, base-complete 5. */
const record = (index: number, change: (record: Buffer) => void): Buffer =>
  forge(good(), ({ table }) => change(table.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES)));
const range = (index: number, offsetBytes: number, lengthBytes: number): Buffer =>
  record(index, (bytes) => {
    writeU64(bytes, offsetBytes, RECORD.offsetBytes);
    writeU64(bytes, lengthBytes, RECORD.lengthBytes);
  });
const time = (index: number, timeUs: number): Buffer =>
  record(index, (bytes) => writeU64(bytes, timeUs, RECORD.timeUs));
const chunkAt = ({ head }: SegmentParts, index: number): number =>
  head.readUInt32LE(HEADER.recordCount) * RECORD_BYTES + index * CHUNK_BYTES;
const chunkEntry = (field: 'storedBytes' | 'rawBytes', value: number): Buffer =>
  forge(good(), (parts) => parts.table.writeUInt32LE(value, chunkAt(parts, 0) + CHUNK[field]));
/** A chunk with other stored bytes, and everything else as if they were right. */
const chunk = (stored: (old: Buffer) => Buffer): Buffer =>
  forge(good(), (parts) => {
    parts.chunks[0] = stored(parts.chunks[0] ?? Buffer.alloc(0));
    fitChunks(parts);
  });
const flip = (bytes: Buffer | undefined, at: number): void => {
  const index = at < 0 ? (bytes?.length ?? 0) + at : at;
  bytes?.writeUInt8(bytes.readUInt8(index) ^ 1, index);
};
const flipped = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes);
  flip(copy, at);
  return copy;
};

const headerDefects = (): [string, Buffer][] => [
  ['LOG_MAGIC', Buffer.concat([Buffer.from('conectix'), good().subarray(8)])],
  ['LOG_MAGIC-short', Buffer.from('TIDY')],
  ['LOG_VERSION', head((bytes) => bytes.writeUInt16LE(2, HEADER.version))],
  ['LOG_FLAGS', head((bytes) => bytes.writeUInt16LE(2, HEADER.flags))],
  ['LOG_HEADER_CHECKSUM', flipped(good(), HEADER.endTimeUs)],
  ['LOG_HEADER_FIELD-epoch', u32('epoch', 0)],
  ['LOG_HEADER_FIELD-sequence', u64('sequence', 0)],
  ['LOG_HEADER_FIELD-time', head((bytes) => unsafe(bytes, HEADER.endTimeUs))],
  ['LOG_HEADER_FIELD-records-before', u64('recordsBefore', Number.MAX_SAFE_INTEGER)],
  ['LOG_HEADER_FIELD-disk-size', u64('diskSizeBytes', 8 * MIB + 512)],
  ['LOG_HEADER_FIELD-header-bytes', flipped(good(), HEADER.headerBytes + 3)],
  ['LOG_HEADER_FIELD-table-bytes', u32('tableBytes', 64)],
  ['LOG_HEADER_FIELD-key-check', head((bytes) => bytes.fill(1, HEADER.keyCheck, HEADER.salt))],
  ['LOG_HEADER_FIELD-name-length', head((bytes) => bytes.writeUInt8(255, HEADER.names))],
  ['LOG_HEADER_FIELD-name-shorter', head((bytes) => bytes.writeUInt8(4, HEADER.names + 5 + 6))],
  ['LOG_HEADER_FIELD-name-slash', head((bytes) => bytes.write('/', HEADER.names + 2))],
  ['LOG_HEADER_FIELD-stream-start', good({ streamStartUs: T0 - 1 })],
  ['LOG_TOO_LARGE-records', u32('recordCount', 65_537)],
  ['LOG_TOO_LARGE-chunks', u32('chunkCount', 513)],
  ['LOG_TOO_LARGE-table', u32('tableBytes', 3 * MIB + 1)],
  ['LOG_TOO_LARGE-stored', u64('storedBytes', 16 * MIB)],
  ['LOG_TOO_LARGE-payload', tooMuchPayload()],
  ['LOG_TIME_BACKWARDS', heartbeat({ firstTimeUs: T0 + 9 * SECOND_US })],
  ['LOG_TIME_BACKWARDS-end', u64('endTimeUs', T0 + 9 * SECOND_US)],
  ['LOG_TIME_BACKWARDS-stream', u64('streamStartUs', T0 + 11 * SECOND_US)],
  ['LOG_TIME_LEAP', u64('endTimeUs', secondHeader.firstTimeUs + 35 * 24 * HOUR_US + 1)],
  ['LOG_TIME_LEAP-between', heartbeat({ firstTimeUs: T0 + 11 * SECOND_US })],
  ['LOG_WRONG_GROUP', named({ group: 'other' })],
  ['LOG_WRONG_MACHINE', named({ machine: 'web-2' })],
  ['LOG_WRONG_DISK', named({ disk: 'disk1' })],
  ['LOG_WRONG_EPOCH', named({ epoch: 2 })],
  ['LOG_WRONG_SEQUENCE', good({ sequence: 3 })],
  ['LOG_DISK_SIZE', good({ diskSizeBytes: 16 * MIB })],
  ['LOG_CHAIN', good({ previousDigest: Buffer.alloc(32, 1) })],
  ['LOG_RECORD_COUNT', good({ recordsBefore: 6 })],
];

/** 13 MiB of zeroes in 13 chunks: each is within the limits, all together are not. */
function tooMuchPayload(): Buffer {
  const megabyte = Buffer.alloc(MIB);
  const at = (i: number) => write(secondHeader.firstTimeUs, 0, i === 0 ? megabyte : Buffer.alloc(512));
  const few = encodeSegment(
    secondHeader,
    Array.from({ length: 13 }, (_, i) => at(i)),
    { chunkBytes: 512 },
  ).bytes;
  return forge(few, (parts) => {
    const [frame] = parts.chunks;
    for (let i = 0; i < 13; i++) {
      writeU64(parts.table, MIB, i * RECORD_BYTES + RECORD.lengthBytes);
      parts.table.writeUInt32LE(MIB, chunkAt(parts, i) + CHUNK.rawBytes);
      if (frame !== undefined) parts.chunks[i] = frame;
    }
    fitChunks(parts);
  });
}

const tableDefects = (): [string, Buffer][] => [
  ['LOG_TRUNCATED-empty', Buffer.alloc(0)],
  ['LOG_TRUNCATED-header', good().subarray(0, 100)],
  ['LOG_TRUNCATED-table', good().subarray(0, 300)],
  ['LOG_TRUNCATED-chunk', good().subarray(0, -1)],
  ['LOG_TRAILING_BYTES', Buffer.concat([good(), Buffer.alloc(1)])],
  ['LOG_TABLE_DIGEST', flipped(good(), HEADER.names + 40)],
  ['LOG_TABLE_PAYLOAD-crossing', range(1, 4096, 3584)],
  ['LOG_TABLE_PAYLOAD-missing', range(4, 512, 4608)],
  ['LOG_TABLE_PAYLOAD-surplus', range(4, 512, 3584)],
  ['LOG_TABLE_PAYLOAD-unused-chunk', record(4, (bytes) => bytes.writeUInt8(2, RECORD.kind))],
  ['LOG_TABLE_PAYLOAD-stored', chunkEntry('storedBytes', 20)],
  ['LOG_RECORD_KIND', record(0, (bytes) => bytes.writeUInt8(5, RECORD.kind))],
  ['LOG_RECORD_KIND-zero', record(5, (bytes) => bytes.writeUInt8(0, RECORD.kind))],
  ['LOG_RECORD_FIELD-reserved', record(0, (bytes) => bytes.writeUInt32LE(1, RECORD.reserved))],
  ['LOG_RECORD_FIELD-write-mark-kind', record(0, (bytes) => bytes.writeUInt8(1, RECORD.markKind))],
  ['LOG_RECORD_FIELD-discard-text', record(2, (bytes) => bytes.writeUInt16LE(1, RECORD.textBytes))],
  ['LOG_RECORD_FIELD-mark-kind', record(3, (bytes) => bytes.writeUInt8(3, RECORD.markKind))],
  ['LOG_RECORD_FIELD-mark-offset', record(3, (bytes) => bytes.writeUInt8(1, RECORD.offsetBytes + 6))],
  ['LOG_RECORD_FIELD-base-length', record(5, (bytes) => bytes.writeUInt8(1, RECORD.lengthBytes))],
  ['LOG_RECORD_FIELD-offset', record(0, (bytes) => unsafe(bytes, RECORD.offsetBytes))],
  ['LOG_RECORD_FIELD-length', record(2, (bytes) => unsafe(bytes, RECORD.lengthBytes))],
  ['LOG_RECORD_FIELD-time', record(0, (bytes) => unsafe(bytes, RECORD.timeUs))],
  ['LOG_RECORD_RANGE-write', range(0, 8 * MIB - 512, 1024)],
  ['LOG_RECORD_RANGE-discard', range(2, 8 * MIB, 512)],
  ['LOG_RECORD_RANGE-empty', range(2, 0, 0)],
  ['LOG_RECORD_RANGE-long-write', range(0, 0, MIB + 512)],
  ['LOG_RECORD_ALIGNMENT-offset', range(0, 100, 1024)],
  ['LOG_RECORD_ALIGNMENT-length', range(2, 0, 1000)],
  ['LOG_RECORD_TIME-order', time(1, secondHeader.firstTimeUs + 9 * SECOND_US)],
  ['LOG_RECORD_TIME-before', time(0, secondHeader.firstTimeUs - 1)],
  ['LOG_RECORD_TIME-after', time(6, secondHeader.endTimeUs + 1)],
  ['LOG_MARK_TEXT-empty', record(3, (bytes) => bytes.writeUInt16LE(0, RECORD.textBytes))],
  ['LOG_MARK_TEXT-long', record(3, (bytes) => bytes.writeUInt16LE(513, RECORD.textBytes))],
  ['LOG_MARK_TEXT-beyond', record(6, (bytes) => bytes.writeUInt16LE(200, RECORD.textBytes))],
  ['LOG_MARK_TEXT-surplus', record(6, (bytes) => bytes.writeUInt16LE(4, RECORD.textBytes))],
  ['LOG_MARK_TEXT-utf8', forge(good(), ({ table }) => table.writeUInt8(0xff, table.length - 5))],
];

const chunkDefects = (): [string, Buffer][] => [
  ['LOG_CHUNK_CHECKSUM', flipped(good(), -1)],
  ['LOG_CHUNK_SIZE-raw-zero', chunkEntry('rawBytes', 0)],
  ['LOG_CHUNK_SIZE-raw-large', chunkEntry('rawBytes', MIB + 512)],
  ['LOG_CHUNK_SIZE-stored-zero', chunkEntry('storedBytes', 0)],
  ['LOG_CHUNK_SIZE-stored-large', chunkEntry('storedBytes', 4097)],
  ['LOG_CHUNK_SIZE-short', chunk(() => zstdCompressSync(Buffer.alloc(4095)))],
  ['LOG_CHUNK_SIZE-bomb', chunk(() => zstdCompressSync(Buffer.alloc(64 * MIB)).subarray(0, 4000))],
  [
    'LOG_CHUNK_SIZE-stream-bomb',
    chunk(() => zstdCompressSync(Buffer.alloc(64 * MIB), { params: smallWindow }).subarray(0, 4000)),
  ],
  ['LOG_CHUNK_CODEC-frame', chunk((old) => Buffer.alloc(old.length, 'x'))],
  ['LOG_CHUNK_CODEC-cut', chunk((old) => old.subarray(0, -3))],
  ['LOG_CHUNK_CODEC-surplus', chunk((old) => Buffer.concat([old, Buffer.alloc(3)]))],
  // A frame with one block of 4096 equal bytes that asks for a window of 128 MiB.
  ['LOG_CHUNK_SIZE-window', chunk(() => Buffer.from('28b52ffd0088038000aa', 'hex'))],
  ['LOG_CHUNK_SEAL-bytes', resealed(({ chunks }) => flip(chunks[1], 3))],
  ['LOG_CHUNK_SEAL-tag', resealed(({ chunks }) => flip(chunks[1], -1))],
  ['LOG_CHUNK_SEAL-swapped', resealed(({ chunks }) => void chunks.reverse())],
  ['LOG_KEY_MISSING', sealed()],
  ['LOG_KEY_WRONG', encodeSegment(secondHeader, [], { key: otherKey }).bytes],
  ['LOG_NOT_SEALED', good()],
  ['LOG_TABLE_SEAL-record', forge(sealed(), ({ table }) => void table.writeUInt8(2, RECORD.offsetBytes + 1))],
  [
    'LOG_TABLE_SEAL-heartbeat',
    forge(encodeSegment(secondHeader, [], { key: testKey }).bytes, (parts) =>
      writeU64(parts.head, secondHeader.endTimeUs + 1, HEADER.endTimeUs),
    ),
  ],
];

/** A sealed segment whose chunks somebody changed who can even make the tag of the table fit. */
const resealed = (change: (parts: SegmentParts) => void): Buffer =>
  forge(
    sealed(),
    (parts) => {
      change(parts);
      fitChunks(parts);
    },
    testKey,
  );

export const badSegments = (): [string, Buffer][] => [...headerDefects(), ...tableDefects(), ...chunkDefects()];

/** What the fixture of a code is decoded as; `firstHeader` has its own defects. */
export const firstSegmentDefects = (): [string, Buffer][] => [
  [
    'LOG_CHAIN',
    forge(
      encodeSegment(firstHeader, [], {}).bytes,
      ({ head }) => void head.fill(1, HEADER.previousDigest, HEADER.keyCheck),
    ),
  ],
  [
    'LOG_RECORD_COUNT',
    forge(encodeSegment(firstHeader, [], {}).bytes, ({ head }) => writeU64(head, 1, HEADER.recordsBefore)),
  ],
];
