/** Disks that real tools have made, whole and broken. */
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { look } from './image.ts';
import { unpack } from './packed.ts';

describe('a sound disk', () => {
  it.each([
    ['ext2', 'ext2 clean'],
    ['ext3', 'ext3 clean'],
    ['ext4', 'ext4 clean'],
    ['ext4-old', 'ext4 clean'],
    ['xfs', 'xfs clean'],
    ['xfs4', 'xfs clean'],
    ['btrfs', 'btrfs clean'],
    ['ntfs', 'ntfs clean'],
    ['vfat', 'vfat clean'],
    ['fat16', 'vfat clean'],
    ['fat12', 'vfat clean'],
    ['exfat', 'exfat clean'],
    ['swap', 'swap ok'],
    ['lvm', 'LVM2 PV ok'],
    ['luks1', 'LUKS1 ok'],
    ['luks2', 'LUKS2 ok'],
    ['gpt', 'gpt ok · p1 vfat clean · p2 ext4 clean · p3 swap ok'],
    ['gpt-4096', 'gpt ok · p1 exfat clean · p2 no file system known'],
    ['mbr', 'mbr ok · p1 ext3 clean · p5 ext2 clean · p6 swap ok'],
  ])('%s', (name, text) => {
    const found = look(unpack(name));
    expect(found).toMatchObject({ verdict: 'ok', text });
    expect(found.reads).toBeLessThan(30);
    expect(found.readBytes).toBeLessThan(512 * 1024);
  });

  it('that is larger is read no more of', () => {
    const image = unpack('ext4');
    const large = Buffer.alloc(image.length + 2 ** 28);
    image.copy(large);
    expect(look(large)).toEqual(look(image));
  });
});

it.each([
  ['empty', Buffer.alloc(2 ** 20)],
  ['smaller than a superblock', Buffer.alloc(512)],
  ['noise', Buffer.alloc(2 ** 20, 'noise')],
])('%s: nothing is known, and that is no failure', (_, image) => {
  expect(look(image)).toMatchObject({ verdict: 'unknown', text: 'no file system known' });
});

/** Where each disk has bytes under a checksum or with a copy: any bit there counts. */
const GUARDED: readonly (readonly [name: string, what: string, from: number, to: number])[] = [
  ['ext4', 'superblock', 1024, 2048],
  ['ext4', 'first group descriptors', 2048, 3072],
  ['ext4-old', 'first group descriptors', 2048, 2048 + 2 * 32],
  ['xfs', 'superblock', 4, 512],
  ['xfs', 'free space header', 512, 1024],
  ['xfs', 'inode header', 1024, 1536],
  // Of the 32 bytes for a checksum CRC-32C uses four, of LUKS2's 64 SHA-256 uses half.
  ['btrfs', 'superblock checksum', 65_536, 65_536 + 4],
  ['btrfs', 'superblock', 65_536 + 32, 65_536 + 4096],
  ['btrfs', 'mirror', 2 ** 26 + 32, 2 ** 26 + 4096],
  ['exfat', 'boot sectors', 64, 106],
  ['exfat', 'boot sectors', 120, 11 * 512],
  ['exfat', 'backup boot sectors', 12 * 512, 12 * 512 + 106],
  ['ntfs', 'boot sector', 11, 512],
  ['ntfs', 'backup boot sector', 16 * 2 ** 20 - 512, 16 * 2 ** 20],
  ['lvm', 'label', 512 + 8, 1024],
  ['lvm', 'metadata area header', 4096, 4096 + 512],
  ['luks2', 'header', 8, 480],
  ['luks2', 'rest of the header', 512, 16_384],
  ['luks2', 'second header', 16_384, 16_384 + 480],
  ['luks2', 'rest of the second header', 16_384 + 512, 32_768],
  ['gpt', 'header', 512, 512 + 92],
  ['gpt', 'entries', 1024, 1024 + 16_384],
  ['gpt', 'backup header', 240 * 2 ** 20 - 512, 240 * 2 ** 20 - 512 + 92],
  ['gpt', 'backup entries', 240 * 2 ** 20 - 33 * 512, 240 * 2 ** 20 - 512],
  ['gpt-4096', 'header', 4096, 4096 + 92],
  ['gpt-4096', 'entries', 8192, 8192 + 16_384],
];

/** Bits of each range that are flipped, spread evenly. */
const FLIPS = 120;

describe('any flipped bit is found', () => {
  it.each(GUARDED)('%s, %s at %i to %i', (name, _, from, to) => {
    const image = unpack(name);
    const sound = look(image);
    const bits = (to - from) * 8;
    const step = Math.max(1, Math.floor(bits / FLIPS) | 1); // odd, so that all bits of a byte have their turn
    for (let bit = 0; bit < bits; bit += step) {
      const at = from + (bit >> 3);
      image[at] = (image[at] ?? 0) ^ (1 << (bit & 7));
      const { verdict, text } = look(image);
      expect(text, `bit ${bit & 7} of byte ${at}`).not.toBe(sound.text);
      // Where only the magic is gone, nothing is known any more, or a copy tells.
      expect(verdict, `bit ${bit & 7} of byte ${at}: ${text}`).not.toBe('ok');
      image[at] = (image[at] ?? 0) ^ (1 << (bit & 7));
    }
    expect(look(image)).toEqual(sound);
  });
});

/** A disk with some bytes overwritten. */
function changed(name: string, ...changes: readonly (readonly [at: number, bytes: Buffer])[]): Buffer {
  const image = unpack(name);
  for (const [at, bytes] of changes) bytes.copy(image, at);
  return image;
}

const zeroes = (length: number): Buffer => Buffer.alloc(length);
const byte = (...values: number[]): Buffer => Buffer.from(values);

describe('what is gone', () => {
  it.each([
    ['the superblock of ext4', changed('ext4', [0, zeroes(4096)]), 'ext4 damaged (superblock missing, backup found)'],
    [
      'the superblock of btrfs',
      changed('btrfs', [65_536, zeroes(4096)]),
      'btrfs damaged (superblock missing, mirror found)',
    ],
    ['the boot sector of NTFS', changed('ntfs', [0, zeroes(512)]), 'ntfs damaged (boot sector missing, backup found)'],
    ['the mirror of btrfs', changed('btrfs', [2 ** 26, zeroes(4096)]), 'btrfs damaged (superblock mirror 1)'],
    ['the second superblock of XFS', changed('xfs', [80 * 2 ** 20, zeroes(512)]), 'xfs damaged (secondary superblock)'],
    ['the log of XFS', changed('xfs', [2 ** 27, Buffer.alloc(2 ** 27, 7)]), 'xfs damaged (log)'],
    ['the file table of NTFS', changed('ntfs', [16_384, zeroes(4096)]), 'ntfs damaged ($MFT record)'],
    ['the second header of LUKS2', changed('luks2', [16_384, zeroes(64)]), 'LUKS2 damaged (second header)'],
    [
      'the end of an ext4',
      unpack('ext4').subarray(0, 128 * 2 ** 20),
      'ext4 damaged (larger than its disk or partition)',
    ],
    ['the end of an XFS', unpack('xfs').subarray(0, 128 * 2 ** 20), 'xfs damaged (larger than its disk or partition)'],
  ])('%s', (_, image, text) => {
    expect(look(image)).toMatchObject({ verdict: 'damaged', text });
  });
});

describe('a GPT', () => {
  const END = 240 * 2 ** 20;
  const rest = ' · p1 vfat clean · p2 ext4 clean · p3 swap ok';

  it('whose primary header is gone has its partitions from the backup', () => {
    expect(look(changed('gpt', [512, zeroes(512)]))).toMatchObject({
      verdict: 'damaged',
      text: `gpt damaged (primary header missing, backup good)${rest}`,
    });
  });

  it('whose primary is damaged says so', () => {
    const { text } = look(changed('gpt', [512 + 56, byte(1, 2, 3)]));
    expect(text).toBe(`gpt damaged (header checksum, backup good)${rest}`);
  });

  it('whose backup is gone still has its partitions', () => {
    expect(look(changed('gpt', [END - 512, zeroes(512)])).text).toBe(`gpt damaged (backup header missing)${rest}`);
  });

  it('with both headers gone is announced and not there', () => {
    const { verdict, text } = look(changed('gpt', [512, zeroes(512)], [END - 512, zeroes(512)]));
    expect({ verdict, text }).toEqual({ verdict: 'damaged', text: 'gpt damaged (announced by the MBR and not there)' });
  });

  it('without its protective MBR, and with its backup alone', () => {
    expect(look(changed('gpt', [0, zeroes(512)])).text).toBe(`gpt damaged (protective MBR missing)${rest}`);
    expect(look(changed('gpt', [0, zeroes(1024)])).text).toBe(
      'gpt damaged (protective MBR and primary header missing, backup found)',
    );
  });

  it('of a disk that has grown is used as it is', () => {
    const grown = Buffer.concat([unpack('gpt'), zeroes(2 ** 20)]);
    expect(look(grown)).toMatchObject({ verdict: 'ok', text: `gpt ok, backup not at the end of the disk${rest}` });
  });

  /** Changes an entry and makes every checksum right again: only the content is wrong then. */
  function withEntry(change: (entries: Buffer) => void): Buffer {
    const image = unpack('gpt');
    for (const [header, entries] of [
      [512, 1024],
      [END - 512, END - 33 * 512],
    ] as const) {
      change(image.subarray(entries, entries + 16_384));
      image.writeUInt32LE(crc32(image.subarray(entries, entries + 16_384)), header + 88);
      image.writeUInt32LE(0, header + 16);
      image.writeUInt32LE(crc32(image.subarray(header, header + 92)), header + 16);
    }
    return image;
  }

  it('with entries that overlap or lie outside', () => {
    const overlapping = withEntry((entries) => entries.writeBigUInt64LE(2048n, 128 + 32));
    expect(look(overlapping).text).toContain('gpt damaged (p1 and p2 overlap');
    const outside = withEntry((entries) => entries.writeBigUInt64LE(2n ** 60n, 2 * 128 + 40));
    expect(look(outside).text).toContain('gpt damaged (p3 outside the usable range');
  });
});

describe('an MBR', () => {
  const entry = (number: number): number => 446 + (number - 1) * 16;
  const u32 = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return bytes;
  };
  const rest = ' · p1 ext3 clean · p5 ext2 clean · p6 swap ok';

  it.each([
    ['ends behind the disk', [entry(2) + 12, u32(2 ** 20)], `mbr damaged (p2 ends behind the disk)${rest}`],
    ['overlaps', [entry(2) + 8, u32(2100)], 'mbr damaged (p1 and p2 overlap, chain of logical partitions is broken)'],
    [
      'has a broken chain',
      [34_816 * 512 + 510, zeroes(2)],
      'mbr damaged (chain of logical partitions is broken) · p1 ext3 clean',
    ],
    [
      'has a chain in a circle',
      [34_816 * 512 + 446 + 16 + 8, u32(0)],
      'mbr damaged (chain of logical partitions runs in a circle)',
    ],
  ] as const)('%s', (_, change, text) => {
    const found = look(changed('mbr', change));
    expect(found.verdict).toBe('damaged');
    expect(found.text).toContain(text);
  });

  it('in sectors of 4096 bytes is understood by what is there', () => {
    const image = Buffer.alloc(32 * 2 ** 20);
    Buffer.from([0, 0, 0, 0, 0x83]).copy(image, entry(1));
    u32(256).copy(image, entry(1) + 8);
    u32(4096).copy(image, entry(1) + 12);
    image.writeUInt16LE(0xaa55, 510);
    unpack('ext3').copy(image, 256 * 4096);
    expect(look(image)).toMatchObject({ verdict: 'ok', text: 'mbr ok · p1 ext3 clean' });
  });

  it('without partitions and with nothing else is nothing known', () => {
    const image = Buffer.alloc(2 ** 20);
    image.writeUInt16LE(0xaa55, 510);
    expect(look(image).verdict).toBe('unknown');
  });
});

describe('not unmounted', () => {
  it.each([
    ['ext2 in use', changed('ext2', [1024 + 58, byte(0)]), 'ext2 needs a check (not unmounted cleanly)'],
    ['ext3 with errors', changed('ext3', [1024 + 58, byte(3)]), 'ext3 needs a check (the source noted errors)'],
    ['FAT32 by its boot sector', changed('vfat', [65, byte(1)]), 'vfat needs a check (marked dirty)'],
    ['FAT32 by its table', changed('vfat', [32 * 512 + 7, byte(0x07)]), 'vfat needs a check (marked dirty)'],
    ['FAT16 by its boot sector', changed('fat16', [37, byte(1)]), 'vfat needs a check (marked dirty)'],
    ['exFAT', changed('exfat', [106, byte(2)]), 'exfat needs a check (marked dirty)'],
  ])('%s', (_, image, text) => {
    expect(look(image)).toMatchObject({ verdict: 'ok', text });
  });
});
