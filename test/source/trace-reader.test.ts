import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readBaseCopy } from '../../src/source/base-copy.ts';
import { openTraceFolder } from '../../src/source/trace-folder.ts';
import type { TraceDisk } from '../../src/source/trace-folder.ts';
import { readTrace } from '../../src/source/trace-reader.ts';
import type { TraceEntry } from '../../src/source/trace-reader.ts';
import { isFullRun } from '../support/extent.ts';
import { expectations, sha256, TRACE_NAMES, tracePath, TraceReplay, traceTimes } from '../support/trace-oracle.ts';
import { encodeLog, encodeTimes, writeTrace } from './make-trace.ts';
import type { MadeEntry } from './make-trace.ts';

const { signal } = new AbortController();
const MIB = 1024 * 1024;
let root: string;
let made = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'tidemark-trace-'));
});
afterAll(async () => {
  await rm(root, { recursive: true });
});

const folder = (): string => join(root, String(made++));

async function firstDisk(dir: string): Promise<TraceDisk> {
  const [disk] = (await openTraceFolder(dir)).disks;
  if (disk === undefined) throw new Error('no disk');
  return disk;
}

async function readAll(files: TraceDisk, diskSizeBytes: number): Promise<TraceEntry[]> {
  const entries: TraceEntry[] = [];
  for await (const entry of readTrace({ files, diskSizeBytes, signal })) entries.push(entry);
  return entries;
}

async function readMade(entries: readonly MadeEntry[], sectorBytes = 512): Promise<TraceEntry[]> {
  const dir = await writeTrace(folder(), [{ entries, sectorBytes }]);
  return readAll(await firstDisk(dir), 16 * MIB);
}

/** The code of the error that reading the folder's first disk ends with. */
async function failure(dir: string, diskSizeBytes = 16 * MIB): Promise<unknown> {
  return firstDisk(dir)
    .then((disk) => readAll(disk, diskSizeBytes))
    .then(
      () => 'none',
      (error: unknown) => (error as { code?: unknown }).code,
    );
}

/** What the reader's entries make of a disk; `atMark` sees the image when the named mark comes. */
async function replay(
  files: TraceDisk,
  image: Buffer,
  atMark: (id: string, traceTimeUs: number) => void,
): Promise<{ readonly marks: readonly string[]; readonly endUs: number }> {
  const marks: string[] = [];
  let endUs = -1;
  for await (const entry of readTrace({ files, diskSizeBytes: image.length, signal })) {
    if (entry.kind === 'write') entry.data.copy(image, entry.offsetBytes);
    if (entry.kind === 'discard') image.fill(0, entry.offsetBytes, entry.offsetBytes + entry.lengthBytes);
    if (entry.kind === 'mark') {
      marks.push(entry.id);
      atMark(entry.id, entry.traceTimeUs);
    }
    if (entry.kind === 'end') endUs = entry.traceTimeUs;
  }
  return { marks, endUs };
}

describe.each(TRACE_NAMES)('%s', (name) => {
  // The recorded hashes judge the reader on every trace; that the oracle makes the same bytes of two disks is enough of it here.
  const isOracleAsked = isFullRun || name === 't4-two-disks';
  const dir = tracePath(name);
  const expected = expectations(dir);
  const wantedMarks = expected.marks.map(({ text }) => text).filter((text) => /^(app|crash)-consistent/.test(text));
  const sample = expected.marks.find(({ text }) => text === wantedMarks.at(wantedMarks.length / 2));

  test.each(expected.disk_size.map((size, disk) => [disk, size] as const))(
    'reader, oracle and recorded hashes agree on disk %i: initial image, a mark, the end',
    async (disk, diskSizeBytes) => {
      const files = (await openTraceFolder(dir)).disks[disk];
      if (files === undefined || sample === undefined) throw new Error('no disk or mark');
      const times = traceTimes(dir, disk);
      const oracle = isOracleAsked ? new TraceReplay(dir, disk) : undefined;
      const image = Buffer.alloc(diskSizeBytes);
      for await (const part of readBaseCopy({ imageFile: files.imageFile, diskSizeBytes, signal })) {
        part.data.copy(image, part.offsetBytes);
      }
      if (oracle !== undefined) expect(image.equals(oracle.image)).toBe(true);
      const { marks, endUs } = await replay(files, image, (id, traceTimeUs) => {
        if (id !== sample.text) return;
        expect(sha256(image)).toBe(sample.sha256[disk]);
        expect(traceTimeUs).toBe(times[sample.idx[disk] ?? -1]);
        oracle?.advance({ entries: sample.idx[disk] ?? -1 });
        if (oracle !== undefined) expect(image.equals(oracle.image)).toBe(true);
      });
      expect(marks).toEqual(wantedMarks);
      expect(endUs).toBe(times.at(-1));
      expect(sha256(image)).toBe(expected.final_sha256[disk]);
      oracle?.advance({ entries: expected.entries[disk] ?? -1 });
      if (oracle !== undefined) expect(image.equals(oracle.image)).toBe(true);
    },
  );
});

test('the oracle agrees with the recorded hashes at cuts by entry and by time', () => {
  const dir = tracePath('t4-two-disks');
  const { cuts, initial_sha256: initial } = expectations(dir);
  const ascending = cuts.toSorted((a, b) => a.seq - b.seq);
  const replay = new TraceReplay(dir, 1);
  expect(replay.sha256()).toBe(initial[1]);
  for (const cut of [ascending.at(0), ascending.at(cuts.length / 2), ascending.at(-1)]) {
    const entries = cut?.entries[1] ?? -1;
    replay.advance({ entries });
    expect(replay.sha256()).toBe(cut?.sha256[1]);
    const timeUs = replay.times[entries] ?? -1;
    const byTime = { beforeUs: 7_000_000 + timeUs * 60, startUs: 7_000_000, stretch: 60 };
    expect(replay.advance(byTime)).toBe(replay.times.findIndex((time) => time >= timeUs));
  }
});

describe('entries', () => {
  test('a write above 1 MiB comes in consecutive parts of one time', async () => {
    const data = Buffer.alloc(2 * MIB + 1536, 7);
    const entries = await readMade([{ kind: 'write', timeUs: 5, sector: 3, data }]);
    const parts = entries.filter((entry) => entry.kind === 'write');
    expect(parts.map((part) => [part.traceTimeUs, part.offsetBytes, part.lengthBytes])).toEqual([
      [5, 1536, MIB],
      [5, 1536 + MIB, MIB],
      [5, 1536 + 2 * MIB, 1536],
    ]);
    expect(Buffer.concat(parts.map((part) => part.data)).equals(data)).toBe(true);
  });

  test('offsets and lengths count in log sectors of 4096 bytes', async () => {
    const entries = await readMade(
      [
        { kind: 'discard', timeUs: 1, sector: 2, sectors: 3 },
        { kind: 'write', timeUs: 2, sector: 5, data: Buffer.alloc(4096, 9) },
      ],
      4096,
    );
    expect(entries[0]).toEqual({ kind: 'discard', traceTimeUs: 1, offsetBytes: 8192, lengthBytes: 12_288 });
    expect(entries[1]).toMatchObject({ kind: 'write', traceTimeUs: 2, offsetBytes: 20_480, lengthBytes: 4096 });
  });

  test('marks are told by the beginning of their text; flushes and other marks are left out', async () => {
    const entries = await readMade([
      { kind: 'mark', timeUs: 1, text: 'mounted' },
      { kind: 'flush', timeUs: 2 },
      { kind: 'mark', timeUs: 3, text: 'crash-consistent id=1 größer' },
      { kind: 'mark', timeUs: 4, text: 'fs-consistent id=2' },
      { kind: 'mark', timeUs: 5, text: 'app-consistent id=3' },
      { kind: 'flush', timeUs: 9 },
    ]);
    expect(entries).toEqual([
      { kind: 'mark', traceTimeUs: 3, markKind: 'crash', id: 'crash-consistent id=1 größer' },
      { kind: 'mark', traceTimeUs: 5, markKind: 'app', id: 'app-consistent id=3' },
      { kind: 'end', traceTimeUs: 9 },
    ]);
  });

  test('a log in several zstd frames is read to its end', async () => {
    const dir = await writeTrace(folder(), []);
    const log = encodeLog([{ kind: 'write', timeUs: 1, sector: 0, data: Buffer.alloc(512, 1) }]);
    const frames = [log.subarray(0, 700), log.subarray(700)].map((part) => zstdCompressSync(part));
    await writeFile(join(dir, 'disk0.log.zst'), Buffer.concat(frames));
    await writeFile(join(dir, 'disk0.times.csv'), encodeTimes([1]));
    expect((await readAll(await firstDisk(dir), MIB)).map((entry) => entry.kind)).toEqual(['write', 'end']);
  });
});

describe('bad folders', () => {
  const write: MadeEntry = { kind: 'write', timeUs: 1, sector: 0, data: Buffer.alloc(512, 1) };

  async function damaged(change: (log: Buffer) => Buffer, times = encodeTimes([1, 2])): Promise<string> {
    const dir = await writeTrace(folder(), [{ entries: [write, { ...write, timeUs: 2 }] }]);
    await writeFile(join(dir, 'disk0.log'), change(await readFile(join(dir, 'disk0.log'))));
    await writeFile(join(dir, 'disk0.times.csv'), times);
    return dir;
  }
  const set = (offset: number, value: bigint) => (log: Buffer) => {
    log.writeBigUInt64LE(value, offset);
    return log;
  };
  const same = (log: Buffer): Buffer => log;

  test.each([
    ['another magic', 'TRACE_INVALID', set(0, 1n)],
    ['another version', 'TRACE_INVALID', set(8, 2n)],
    ['sectors of 1024 bytes', 'TRACE_INVALID', set(24, 1024n)],
    ['more entries than there are', 'TRACE_TIMES_INVALID', set(16, 3n)],
    ['fewer entries than rows', 'TRACE_TIMES_INVALID', set(16, 1n)],
    ['an absurd number of entries', 'TRACE_INVALID', set(16, 0xffff_ffff_ffff_ffffn)],
    ['an entry beyond the disk', 'TRACE_OUTSIDE_DISK', set(512, 1n << 60n)],
    ['an entry longer than the disk', 'TRACE_OUTSIDE_DISK', set(520, 0xffff_ffff_ffff_ffffn)],
    ['a mark with data', 'TRACE_INVALID', set(528, 8n)],
    ['a log that ends inside data', 'TRACE_TRUNCATED', (log: Buffer) => log.subarray(0, -100)],
    ['a log that ends inside an entry', 'TRACE_TRUNCATED', (log: Buffer) => log.subarray(0, 1024 + 512 + 20)],
    ['an empty log', 'TRACE_TRUNCATED', () => Buffer.alloc(0)],
    ['a damaged zstd frame', 'TRACE_INVALID', (log: Buffer) => zstdCompressSync(log).fill(0xff, 9, 14)],
    ['a torn zstd frame', 'TRACE_TRUNCATED', (log: Buffer) => zstdCompressSync(log).subarray(0, -4)],
  ])('%s: %s', async (_, code, change) => {
    expect(await failure(await damaged(change))).toBe(code);
  });

  test('a mark whose text does not fit its sector', async () => {
    const dir = await writeTrace(folder(), [{ entries: [{ kind: 'mark', timeUs: 1, text: 'app-consistent' }] }]);
    const log = await readFile(join(dir, 'disk0.log'));
    await writeFile(join(dir, 'disk0.log'), set(512 + 24, 481n)(log));
    expect(await failure(dir)).toBe('TRACE_INVALID');
    await writeFile(join(dir, 'disk0.log'), set(512 + 24, 480n)(log));
    expect(await failure(dir)).toBe('none');
    log[512 + 40] = 0xff;
    await writeFile(join(dir, 'disk0.log'), log);
    expect(await failure(dir)).toBe('TRACE_INVALID');
  });

  test('a mark whose text is longer than an id may be', async () => {
    const mark = (length: number): Extract<MadeEntry, { kind: 'mark' }> => ({
      kind: 'mark',
      timeUs: 1,
      text: 'app-consistent '.padEnd(length, 'x'),
    });
    const dir = await writeTrace(folder(), [{ entries: [mark(513)], sectorBytes: 4096 }]);
    expect(await failure(dir)).toBe('TRACE_INVALID');
    expect((await readMade([mark(512)], 4096))[0]).toMatchObject({ kind: 'mark', id: mark(512).text });
  });

  test.each([
    ['no time column', 'idx,seq\n0,0\n1,1\n'],
    ['no header', ''],
    ['a time that is no number', 'idx,t_in_us\n0,1\n1,x\n'],
    ['a fraction', 'idx,t_in_us\n0,1\n1,1.5\n'],
    ['a row left out', 'idx,t_in_us\n0,1\n2,2\n'],
    ['time going backwards', encodeTimes([2, 1])],
    ['too few rows', encodeTimes([1])],
    ['too many rows', encodeTimes([1, 2, 3])],
    ['an endless row', `idx,t_in_us\n0,1\n1,${'2'.repeat(300_000)}`],
  ])('times with %s', async (_, times) => {
    expect(await failure(await damaged(same, times))).toBe('TRACE_TIMES_INVALID');
  });

  test('what is missing is named', async () => {
    await expect(openTraceFolder(join(root, 'nowhere'))).rejects.toMatchObject({ code: 'TRACE_NOT_FOUND' });
    await expect(openTraceFolder(await writeTrace(folder(), []))).rejects.toMatchObject({ code: 'TRACE_NOT_FOUND' });
    const dir = await damaged(same);
    await rm(join(dir, 'disk0.times.csv'));
    await expect(openTraceFolder(dir)).rejects.toThrow('disk0.times.csv');
  });

  test('an aborted reading stops', async () => {
    const files = await firstDisk(await damaged(same));
    const entries = readTrace({ files, diskSizeBytes: MIB, signal: AbortSignal.abort(new Error('stopped')) });
    await expect(entries.next()).rejects.toThrow('stopped');
  });
});

describe('base copy', () => {
  async function parts(image: Buffer | undefined, diskSizeBytes: number): Promise<(readonly [number, Buffer])[]> {
    const imageFile = image === undefined ? undefined : join(root, `image${made++}`);
    if (image !== undefined && imageFile !== undefined) await writeFile(imageFile, image);
    const found: (readonly [number, Buffer])[] = [];
    for await (const part of readBaseCopy({ imageFile, diskSizeBytes, signal })) {
      found.push([part.offsetBytes, part.data]);
    }
    return found;
  }

  test('zero blocks are left out, neighbours are merged, no part is above 1 MiB', async () => {
    const image = Buffer.alloc(3 * MIB);
    image.fill(1, 4096 + 10, 4096 + 11);
    image.fill(2, 8192, 12_288);
    image.fill(3, MIB, 2 * MIB + 1);
    const found = await parts(image, 4 * MIB);
    expect(found.map(([offset, data]) => [offset, data.length])).toEqual([
      [4096, 8192],
      [MIB, MIB],
      [2 * MIB, 4096],
    ]);
    const copy = Buffer.alloc(3 * MIB);
    for (const [offset, data] of found) data.copy(copy, offset);
    expect(copy.equals(image)).toBe(true);
  });

  test('no image and a short image stand for zeroes', async () => {
    expect(await parts(undefined, MIB)).toEqual([]);
    expect(await parts(Buffer.alloc(700, 5), MIB)).toEqual([
      [0, Buffer.concat([Buffer.alloc(700, 5), Buffer.alloc(324)])],
    ]);
  });

  test('an image in several zstd frames is read to its end', async () => {
    const frames = [Buffer.alloc(MIB, 1), Buffer.alloc(512, 2)].map((part) => zstdCompressSync(part));
    expect((await parts(Buffer.concat(frames), 2 * MIB)).map(([, data]) => data.length)).toEqual([MIB, 512]);
  });

  test('an image larger than the disk is refused', async () => {
    await expect(parts(Buffer.alloc(MIB + 512), MIB)).rejects.toMatchObject({ code: 'TRACE_OUTSIDE_DISK' });
  });
});
