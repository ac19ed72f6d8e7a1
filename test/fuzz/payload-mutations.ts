/** Mutations of chunks' bodies, of what follows them, and of the seal. */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { CHUNK, HEADER, RECORD, RECORD_BYTES, writeU64 } from '../../src/log/layout.ts';
import { chunkEntryAt, type Draft } from './draft.ts';
import type { Mutation } from './field-mutations.ts';
import type { Random } from './random.ts';
import { OTHER_KEY } from './sound-logs.ts';

const MIB = 1_048_576;

/** Changes one chunk; false when there is none. */
const onChunk =
  (change: (chunk: Buffer, random: Random, rawBytes: number) => Buffer): Mutation =>
  (draft, random) => {
    const index = random.int(0, Math.min(draft.chunks.length, draft.chunkCount) - 1);
    const chunk = draft.chunks[index];
    if (chunk === undefined || chunk.length === 0 || draft.chunkCount === 0) return false;
    draft.chunks[index] = change(chunk, random, draft.table.readUInt32LE(chunkEntryAt(draft, index) + CHUNK.rawBytes));
    return true;
  };

const frameOf = (payload: Buffer, params: Record<number, number> = {}): Buffer => zstdCompressSync(payload, { params });

const RLE_BYTES = 128 * 1024;

/** A zstd frame made by hand: `payloadBytes` equal bytes, and a window of 2^`windowLog` bytes asked for. */
export function handmadeFrame(payloadBytes: number, windowLog: number): Buffer {
  const blocks: Buffer[] = [Buffer.of(0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3)];
  for (let left = payloadBytes; left > 0; left -= RLE_BYTES) {
    const block = Buffer.alloc(4, 0xaa);
    block.writeUIntLE((Math.min(left, RLE_BYTES) << 3) | 2 | Number(left <= RLE_BYTES), 0, 3);
    blocks.push(block);
  }
  return Buffer.concat(blocks);
}

/** As much as `storedBytes` can hold of a payload: 32 KiB of payload per byte. */
export const bombOf = (storedBytes: number, windowLog: number): Buffer =>
  handmadeFrame(Math.max(1, Math.floor((storedBytes - 6) / 4)) * RLE_BYTES, windowLog);

const flip = (chunk: Buffer, random: Random): Buffer => {
  const copy = Buffer.from(chunk);
  const at = random.int(0, copy.length - 1);
  copy.writeUInt8(copy.readUInt8(at) ^ (1 << random.int(0, 7)), at);
  return copy;
};

const skippable = (random: Random): Buffer => {
  const frame = Buffer.alloc(8 + random.int(0, 16));
  frame.writeUInt32LE(0x184d_2a50);
  frame.writeUInt32LE(frame.length - 8, 4);
  return frame;
};

/** Another sound payload of the same length, as a source with other data would send it. */
const otherPayload = (_: Buffer, random: Random, rawBytes: number): Buffer => {
  const size = Math.min(rawBytes, MIB);
  const payload = Buffer.alloc(size, random.int(0, 255));
  if (size > 0) random.bytes(Math.min(size, 64)).copy(payload, random.int(0, Math.max(0, size - 64)));
  const frame = frameOf(payload, {
    [constants.ZSTD_c_windowLog]: 20,
    [constants.ZSTD_c_checksumFlag]: random.int(0, 1),
  });
  return frame.length < size ? frame : payload;
};

const inTwoFrames = (chunk: Buffer, random: Random): Buffer => {
  const payload = inflated(chunk);
  const at = random.int(0, payload.length);
  return Buffer.concat([frameOf(payload.subarray(0, at)), frameOf(payload.subarray(at))]);
};

function inflated(chunk: Buffer): Buffer {
  try {
    return zstdDecompressSync(chunk, { maxOutputLength: MIB });
  } catch {
    return chunk;
  }
}

/** Write, chunk entry and body become longer together: a sound segment, while it stays within the limits. */
const growWrite: Mutation = (draft, random) => {
  const [body] = draft.chunks;
  const writes = Array.from({ length: draft.recordCount }, (_, i) => i * RECORD_BYTES).filter(
    (at) => draft.table.readUInt8(at) === 1,
  );
  if (body === undefined || draft.chunkCount === 0 || writes.length === 0) return false;
  const entryAt = chunkEntryAt(draft, 0);
  const more = 512 * random.pick([1, 1, 2, 2048, 2049]);
  const at = writes[0] ?? 0;
  const length = draft.table.readUInt32LE(at + RECORD.lengthBytes) + more;
  const raw = draft.table.readUInt32LE(entryAt + CHUNK.rawBytes) + more;
  writeU64(draft.table, length, at + RECORD.lengthBytes);
  draft.table.writeUInt32LE(raw, entryAt + CHUNK.rawBytes);
  draft.chunks[0] = otherPayload(body, random, raw);
  return true;
};

const appendRest: Mutation = (draft, random) => {
  draft.rest = random.chance(0.02) ? Buffer.alloc(16 * MIB + 1) : random.bytes(random.int(1, 40));
  return true;
};

/** Takes the seal off: an open segment where a sealed one belongs. */
const unseal: Mutation = (draft) => {
  if (!draft.log.isSealed) return false;
  draft.head.writeUInt16LE(0, HEADER.flags);
  draft.head.fill(0, HEADER.keyCheck, HEADER.names);
  return true;
};

const pretendSeal: Mutation = ({ head }, random) => {
  head.writeUInt16LE(1, HEADER.flags);
  if (random.chance(0.7)) OTHER_KEY.check.copy(head, HEADER.keyCheck);
  random.bytes(32).copy(head, HEADER.salt);
  return true;
};

export const PAYLOAD_MUTATIONS: readonly (readonly [string, Mutation])[] = [
  ['body: flip', onChunk(flip)],
  ['body: cut', onChunk((chunk, random) => chunk.subarray(0, random.int(0, chunk.length - 1)))],
  ['body: grow', onChunk((chunk, random) => Buffer.concat([chunk, random.bytes(random.int(1, 20))]))],
  ['body: noise', onChunk((chunk, random) => random.bytes(Math.min(chunk.length, 4096)))],
  ['body: bomb', onChunk((_, random, rawBytes) => bombOf(Math.min(rawBytes, 16_384) - 1, random.pick([17, 20, 27])))],
  [
    'body: small bomb',
    onChunk((_, random, rawBytes) => handmadeFrame(Math.min(rawBytes, MIB) + 1, random.pick([17, 20]))),
  ],
  [
    'body: window',
    onChunk((_, random, rawBytes) => handmadeFrame(Math.min(rawBytes, MIB), random.pick([20, 21, 27, 31, 41]))),
  ],
  ['body: other payload', onChunk(otherPayload)],
  [
    'body: shorter payload',
    onChunk((_, random, rawBytes) => frameOf(Buffer.alloc(Math.max(0, Math.min(rawBytes, MIB) - random.int(1, 512))))),
  ],
  [
    'body: longer payload',
    onChunk((_, random, rawBytes) => frameOf(Buffer.alloc(Math.min(rawBytes, MIB) + random.int(1, 512)))),
  ],
  ['body: two frames', onChunk(inTwoFrames)],
  ['body: skippable frame before', onChunk((chunk, random) => Buffer.concat([skippable(random), chunk]))],
  ['body: skippable frame behind', onChunk((chunk, random) => Buffer.concat([chunk, skippable(random)]))],
  [
    'body: level 19',
    onChunk((chunk) =>
      frameOf(inflated(chunk), { [constants.ZSTD_c_compressionLevel]: 19, [constants.ZSTD_c_windowLog]: 20 }),
    ),
  ],
  ['write: grow', growWrite],
  ['rest: append', appendRest],
  ['seal: none', unseal],
  ['seal: other', pretendSeal],
];

/** Fields that {@link PAYLOAD_MUTATIONS} and the finish of a draft would otherwise make fit again. */
export const KEEPS_LENGTHS: ReadonlySet<string> = new Set(['chunk.storedBytes', 'chunk.sha256', 'header.storedBytes']);
export type { Draft };
