/** Mutations that know nothing of the format. */
import type { Random } from './random.ts';

/** `other`: another sound segment, for splices. */
type ByteMutation = (bytes: Buffer, other: Buffer, random: Random) => Buffer;

const spot = (bytes: Buffer, random: Random): number => random.int(0, bytes.length);

const splice = (bytes: Buffer, at: number, removed: number, inserted: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(Math.min(bytes.length, at + removed))]);

const flipBits: ByteMutation = (bytes, _, random) => {
  const copy = Buffer.from(bytes);
  for (let i = random.int(1, 8); i > 0 && copy.length > 0; i--) {
    const at = random.int(0, copy.length - 1);
    copy.writeUInt8(copy.readUInt8(at) ^ (1 << random.int(0, 7)), at);
  }
  return copy;
};

const overwrite: ByteMutation = (bytes, _, random) => {
  const noise = random.chance(0.5)
    ? random.bytes(random.int(1, 64))
    : Buffer.alloc(random.int(1, 512), random.pick([0, 0xff]));
  const at = spot(bytes, random);
  return splice(bytes, at, noise.length, noise).subarray(0, bytes.length);
};

const duplicateBlock: ByteMutation = (bytes, _, random) => {
  const at = spot(bytes, random);
  const block = bytes.subarray(at, at + random.int(1, 512));
  return splice(bytes, spot(bytes, random), random.chance(0.5) ? block.length : 0, block);
};

const swapBlocks: ByteMutation = (bytes, _, random) => {
  const length = random.int(1, Math.max(1, Math.floor(bytes.length / 4)));
  const a = random.int(0, Math.max(0, bytes.length - 2 * length));
  const b = random.int(a + length, Math.max(a + length, bytes.length - length));
  const [first, second] = [bytes.subarray(a, a + length), bytes.subarray(b, b + length)];
  return Buffer.concat([
    bytes.subarray(0, a),
    second,
    bytes.subarray(a + length, b),
    first,
    bytes.subarray(b + length),
  ]);
};

export const BYTE_MUTATIONS: readonly (readonly [string, ByteMutation])[] = [
  ['bytes: flip', flipBits],
  ['bytes: overwrite', overwrite],
  ['bytes: cut', (bytes, _, random) => bytes.subarray(0, spot(bytes, random))],
  ['bytes: behead', (bytes, _, random) => bytes.subarray(spot(bytes, random))],
  ['bytes: insert', (bytes, _, random) => splice(bytes, spot(bytes, random), 0, random.bytes(random.int(1, 64)))],
  ['bytes: remove', (bytes, _, random) => splice(bytes, spot(bytes, random), random.int(1, 64))],
  [
    'bytes: splice',
    (bytes, other, random) =>
      Buffer.concat([bytes.subarray(0, spot(bytes, random)), other.subarray(spot(other, random))]),
  ],
  [
    'bytes: splice in place',
    (bytes, other, random) => {
      const at = spot(bytes, random);
      return Buffer.concat([bytes.subarray(0, at), other.subarray(at)]);
    },
  ],
  ['bytes: duplicate', duplicateBlock],
  ['bytes: swap', swapBlocks],
  ['bytes: twice', (bytes) => Buffer.concat([bytes, bytes])],
  ['bytes: nothing but noise', (_bytes, _other, random) => random.bytes(random.int(0, 600))],
];
