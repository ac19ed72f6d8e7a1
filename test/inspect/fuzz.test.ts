/** Damage of any kind is a finding: nothing throws, nothing reads outside the disk or beyond the limits. */
import { expect, it } from 'vitest';
import { MAX_READS, MAX_READ_TOTAL_BYTES } from '../../src/inspect/inspect-disk.ts';
import { look, type Looked } from './image.ts';
import { unpack, unpackInto } from './packed.ts';

/** A fixed one for every run; another one by hand finds other things. */
const SEED = 20_261_123;
const ROUNDS = 250;

/** mulberry32 */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

function requireBounded(found: Looked, what: string): void {
  expect(found.reads, what).toBeLessThanOrEqual(MAX_READS);
  expect(found.readBytes, what).toBeLessThanOrEqual(MAX_READ_TOTAL_BYTES);
  expect(found.text.length, what).toBeLessThanOrEqual(1000);
  expect(found.text, what).toMatch(/^[\x20-\x7e·]+$/u);
}

/** Values that fields are likely to trip over. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff] as const;

const NAMES = [
  'ext2',
  'ext3',
  'ext4',
  'ext4-old',
  'xfs',
  'xfs4',
  'btrfs',
  'ntfs',
  'vfat',
  'fat16',
  'exfat',
  'swap',
  'lvm',
  'luks1',
  'luks2',
  'gpt',
  'gpt-4096',
  'mbr',
] as const;

it.each(NAMES)(`bytes of %s are overwritten, a few at a time (seed ${SEED})`, (name) => {
  const next = random(SEED);
  const below = (limit: number): number => Math.floor(next() * limit);
  const image = unpack(name);
  const places = interestingBytes(image);
  for (let round = 0; round < ROUNDS; round++) {
    const undo: [number, number][] = [];
    for (let change = below(6) + 1; change > 0; change--) {
      // In runs: fields of two, four and eight bytes become extreme as a whole.
      const start = places[below(places.length)] ?? 0;
      const value = next() < 0.5 ? (EDGES[below(EDGES.length)] ?? 0) : undefined;
      for (let at = start; at < Math.min(start + 2 ** below(4), image.length); at++) {
        undo.push([at, image[at] ?? 0]);
        image[at] = value ?? below(256);
      }
    }
    requireBounded(look(image), `${name}, round ${round} of seed ${SEED}`);
    for (const [at, byte] of undo.toReversed()) image[at] = byte;
  }
});

/** Where there is something in the first 128 KiB and the last 16 KiB: the structures. */
function interestingBytes(image: Buffer): number[] {
  const found: number[] = [];
  for (let at = 0; at < image.length; at++) {
    if (at === 128 * 1024) at = Math.max(at, image.length - 16 * 1024);
    const isNear = image.subarray(Math.max(0, at - 8), at + 8).some((byte) => byte !== 0);
    if (isNear) found.push(at);
  }
  return found;
}

it(`random bytes behind each magic (seed ${SEED})`, () => {
  const next = random(SEED);
  const magics: readonly (readonly [number, Buffer])[] = [
    [1080, Buffer.from([0x53, 0xef])],
    [0, Buffer.from('XFSB')],
    [65_600, Buffer.from('_BHRfS_M')],
    [3, Buffer.from('NTFS    ')],
    [3, Buffer.from('EXFAT   ')],
    [4086, Buffer.from('SWAPSPACE2')],
    [512, Buffer.from('LABELONE')],
    [512, Buffer.from('EFI PART')],
    [0, Buffer.from('LUKS\xba\xbe\0\x02', 'latin1')],
    [510, Buffer.from([0x55, 0xaa])],
  ];
  for (let round = 0; round < 400; round++) {
    const image = Buffer.alloc(256 * 1024);
    for (let at = 0; at < image.length; at += 4) image.writeUInt32LE(Math.floor(next() * 2 ** 32), at);
    for (const [at, magic] of magics) if (next() < 0.3) magic.copy(image, at);
    requireBounded(look(image), `round ${round} of seed ${SEED}`);
  }
});

it('a chain of as many partitions as there may be, each with a log to search, keeps to the limits', () => {
  const xfsBytes = 320 * 2 ** 20;
  const image = unpackInto(Buffer.alloc(4 * 2 ** 20 + xfsBytes), 'xfs', 4 * 2 ** 20);
  const link = (sector: number, [type, start, sectors]: readonly [number, number, number], at: number): void => {
    image[sector * 512 + at + 4] = type;
    image.writeUInt32LE(start, sector * 512 + at + 8);
    image.writeUInt32LE(sectors, sector * 512 + at + 12);
    image.writeUInt16LE(0xaa55, sector * 512 + 510);
  };
  link(0, [0x05, 1, 8191], 446);
  for (let sector = 1; sector < 80; sector++) {
    link(sector, [0x83, 8192 - sector, xfsBytes / 512], 446);
    link(sector, [0x05, sector, 1], 446 + 16);
  }
  const found = look(image);
  requireBounded(found, 'a long chain');
  expect(found.text).toContain('mbr damaged (too many logical partitions');
  expect(found.findings).toHaveLength(1 + 32 + 1);
  expect(found.findings.at(-1)?.text).toBe('28 more partitions not looked at');
  expect(found.findings[32]).toMatchObject({ what: 'xfs', text: 'clean' });
});
