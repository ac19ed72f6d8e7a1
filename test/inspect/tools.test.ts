/** Where the tools of the file systems are installed, they are asked the same questions. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { expectations, TraceReplay, tracePath, type TraceName } from '../support/trace-oracle.ts';
import { look } from './image.ts';
import { unpack } from './packed.ts';

const folder = mkdtempSync(join(tmpdir(), 'tidemark-inspect-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Administrators' folders are not on everybody's path. */
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };

function run(program: string, ...args: readonly string[]): Answer {
  const { status, stdout, stderr } = spawnSync(program, args, { env, encoding: 'utf8', timeout: 30_000 });
  return { status: status ?? -1, text: `${stdout}${stderr}` };
}

const has = (program: string): boolean => spawnSync(program, ['-V'], { env, timeout: 10_000 }).error === undefined;

const HOLE = Buffer.alloc(65_536);

/** Writes what is not zero: the rest stays a hole. */
function save(image: Buffer): string {
  const file = join(folder, 'disk.img');
  const out = openSync(file, 'w');
  for (let at = 0; at < image.length; at += 65_536) {
    const piece = image.subarray(at, at + 65_536);
    if (at + 65_536 >= image.length || !piece.equals(HOLE)) writeSync(out, piece, 0, piece.length, at);
  }
  closeSync(out);
  return file;
}

/** Frozen, in the middle of work, and at the end. */
function* moments(name: TraceName): Generator<Buffer> {
  const { marks, cuts } = expectations(tracePath(name));
  const frozen = marks.find(({ kind }) => kind === 'app')?.idx[0] ?? 0;
  const busy = cuts[Math.floor(cuts.length / 2)]?.entries[0] ?? 0;
  const end = marks.at(-1)?.idx[0] ?? 0;
  const replay = new TraceReplay(tracePath(name), 0);
  for (const entries of [frozen, busy, end].toSorted((x, y) => x - y)) {
    replay.advance({ entries });
    yield replay.image;
  }
}

describe('in the middle of work', () => {
  it.runIf(has('dumpe2fs'))('dumpe2fs sees the same mark and the same journal in ext4', () => {
    const states = new Set<string>();
    for (const image of moments('t4-two-disks')) {
      const { text } = look(image);
      const dump = run('dumpe2fs', '-h', save(image));
      const isMarked = /features:.*needs_recovery/u.test(dump.text);
      const start = /Journal start:\s+(\d+)/u.exec(dump.text)?.[1];
      const expected = isMarked ? (start === '0' ? 'mounted, journal empty' : 'needs journal replay') : 'clean';
      expect(text).toBe(`ext4 ${expected}`);
      states.add(text);
    }
    expect(states.size).toBeGreaterThan(1);
  });

  it.runIf(has('xfs_logprint'))('xfs_logprint finds the same logs of XFS clean', () => {
    const states = new Set<string>();
    for (const image of moments('t3-xfs-churn')) {
      const { text } = look(image);
      const log = run('xfs_logprint', '-t', save(image));
      expect(text).toBe(log.text.includes('<CLEAN>') ? 'xfs clean' : 'xfs needs log replay');
      if (!log.text.includes('<CLEAN>')) expect(log.text).toContain('<DIRTY>');
      states.add(text);
    }
    expect(states.size).toBe(2);
  });

  it.runIf(has('btrfs'))('btrfs finds the same log roots and right checksums', () => {
    const states = new Set<string>();
    for (const image of moments('t5-btrfs-churn')) {
      const { text } = look(image);
      const dump = run('btrfs', 'inspect-internal', 'dump-super', '-a', save(image));
      expect(dump.text).not.toContain('DON');
      const root = /^log_root\s+(\d+)/mu.exec(dump.text)?.[1];
      expect(text).toBe(root === '0' ? 'btrfs clean' : 'btrfs needs log replay');
      states.add(text);
    }
    expect(states.size).toBe(2);
  });
});

/** Flips bits of a packed disk one at a time, and gives the file with each of them. */
function* flipped(name: string, from: number, to: number, count: number): Generator<{ file: string; verdict: string }> {
  const image = unpack(name);
  const file = save(image);
  const disk = openSync(file, 'r+');
  try {
    const step = Math.max(1, Math.floor(((to - from) * 8) / count) | 1);
    for (let bit = 0; bit < (to - from) * 8; bit += step) {
      const at = from + (bit >> 3);
      const before = image[at] ?? 0;
      image[at] = before ^ (1 << (bit & 7));
      writeSync(disk, image, at, 1, at);
      yield { file, verdict: look(image).verdict };
      image[at] = before;
      writeSync(disk, image, at, 1, at);
    }
  } finally {
    closeSync(disk);
  }
}

describe('damage', () => {
  it.runIf(has('e2fsck'))('e2fsck is content with the sound disks and with none of the damaged superblocks', () => {
    for (const name of ['ext2', 'ext3', 'ext4', 'ext4-old']) {
      expect({ name, status: run('e2fsck', '-fn', save(unpack(name))).status }).toEqual({ name, status: 0 });
    }
    for (const { file, verdict } of flipped('ext4', 1024, 2048, 15)) {
      expect(verdict).toBe('damaged');
      expect(run('e2fsck', '-fn', file).status).not.toBe(0);
    }
  });

  it.runIf(has('sgdisk'))('sgdisk is content with the sound GPT and with none of the damaged ones', () => {
    expect(run('sgdisk', '-v', save(unpack('gpt'))).text).toContain('No problems found');
    for (const [from, to] of [
      [512, 604],
      [1024, 2048],
      [240 * 2 ** 20 - 512, 240 * 2 ** 20 - 420],
    ] as const) {
      for (const { file, verdict } of flipped('gpt', from, to, 5)) {
        expect(verdict).toBe('damaged');
        expect(run('sgdisk', '-v', file).text).toMatch(/Problem:|ERROR|corrupt/u);
      }
    }
  });

  it.runIf(has('xfs_db'))('xfs_db finds the same checksums wrong', () => {
    for (const { file, verdict } of flipped('xfs', 128, 512, 8)) {
      expect(verdict).toBe('damaged');
      expect(run('xfs_db', '-r', '-f', '-c', 'sb 0', '-c', 'crc', file).text).not.toContain('(correct)');
    }
  });

  it.runIf(has('mkfs.ntfs') && has('ntfs-3g.probe'))('ntfs-3g reads the same log as clean or not', () => {
    const file = join(folder, 'ntfs.img');
    for (const [flags, text, status] of [
      [2, 'ntfs clean', 0],
      [0, 'ntfs needs journal replay', 15],
    ] as const) {
      writeFileSync(file, Buffer.alloc(16 * 2 ** 20));
      run('mkfs.ntfs', '-q', '-F', '-f', file);
      const image = withRestartPages(unpack('ntfs'), flags);
      const disk = openSync(file, 'r+');
      const at = image.indexOf('RSTR');
      writeSync(disk, image, at, 8192, at);
      closeSync(disk);
      expect(look(image).text).toBe(text);
      expect(run('ntfs-3g.probe', '--readwrite', file).status).toBe(status);
    }
  });
});

it('an NTFS log says whether it must be replayed', () => {
  expect(look(withRestartPages(unpack('ntfs'), 2)).text).toBe('ntfs clean');
  expect(look(withRestartPages(unpack('ntfs'), 0))).toMatchObject({ verdict: 'ok', text: 'ntfs needs journal replay' });
});

/** Puts two restart pages with a client where the log begins: the first 4 KiB that are all ones. */
function withRestartPages(image: Buffer, flags: number): Buffer {
  let at = 0;
  while (!image.subarray(at, at + 4096).every((byte) => byte === 0xff)) at += 4096;
  for (const [index, page] of [image.subarray(at, at + 4096), image.subarray(at + 4096, at + 8192)].entries()) {
    page.fill(0);
    page.write('RSTR', 0, 'latin1');
    page.writeUInt16LE(30, 4); // update sequence: one number and eight words
    page.writeUInt16LE(9, 6);
    page.writeUInt32LE(4096, 16); // system page
    page.writeUInt32LE(4096, 20); // log page
    page.writeUInt16LE(48, 24); // restart area
    page.writeUInt16LE(1, 26); // version 1.1
    page.writeUInt16LE(1, 28);
    page.writeUInt16LE(1, 30);
    for (let sector = 1; sector <= 8; sector++) page.writeUInt16LE(1, sector * 512 - 2);
    const area = page.subarray(48);
    area.writeBigUInt64LE(BigInt(0x100 + index), 0); // current LSN
    area.writeUInt16LE(1, 8); // one client
    area.writeUInt16LE(0xffff, 10); // none free
    area.writeUInt16LE(0, 12); // the first one in use
    area.writeUInt16LE(flags, 14);
    area.writeUInt32LE(67 - 22, 16); // bits of a sequence number
    area.writeUInt16LE(48 + 160, 20); // length
    area.writeUInt16LE(48, 22); // clients begin
    area.writeBigUInt64LE(BigInt(2 * 2 ** 20), 24); // size of the file
    area.writeUInt16LE(48, 36); // record header
    area.writeUInt16LE(64, 38); // data of a page
    const client = area.subarray(48);
    client.writeUInt16LE(0xffff, 16);
    client.writeUInt16LE(0xffff, 18);
    client.writeUInt32LE(8, 28);
    client.write('NTFS', 32, 'utf16le');
  }
  return image;
}
