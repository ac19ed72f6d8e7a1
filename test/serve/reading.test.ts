/** Reading a snapshot in place: what is requested, what is kept, and that the bytes are right. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import type { ByteRange, SeedReader } from '../../src/seed/seed-store.ts';
import { createBlockCache } from '../../src/serve/block-cache.ts';
import { indexRanges } from '../../src/serve/data-ranges.ts';
import { createReadAhead } from '../../src/serve/sequential.ts';
import { BLOCK_BYTES, openSnapshotDisk, type SnapshotDiskOptions } from '../../src/serve/snapshot-disk.ts';
import { expectBytes, expectCode, live, pattern } from '../contracts/support.ts';

const MIB = 1024 * 1024;
const KIB = 1024;
const SECTOR = 512;
const SECTORS = 64;

/** Sectors with data, as a reader would list them. */
function rangesOf(sectors: readonly boolean[]): ByteRange[] {
  const ranges: { offsetBytes: number; lengthBytes: number }[] = [];
  for (const [sector, isData] of sectors.entries()) {
    if (!isData) continue;
    const last = ranges.at(-1);
    if (last !== undefined && last.offsetBytes + last.lengthBytes === sector * SECTOR) last.lengthBytes += SECTOR;
    else ranges.push({ offsetBytes: sector * SECTOR, lengthBytes: SECTOR });
  }
  return ranges;
}

describe('ranges of data', () => {
  const sectors = fc.array(fc.boolean(), { minLength: SECTORS, maxLength: SECTORS });
  const window = fc
    .tuple(fc.nat(SECTORS * SECTOR - 1), fc.nat(SECTORS * SECTOR - 1))
    .map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) + 1 }));

  it('are told exactly for any part of the disk, by turns and without gaps', () => {
    fc.assert(
      fc.property(sectors, window, (isData, { from, to }) => {
        let at = from;
        let before = '';
        for (const { offsetBytes, lengthBytes, kind } of indexRanges(rangesOf(isData)).extents(from, to - from)) {
          expect(offsetBytes).toBe(at);
          expect(lengthBytes).toBeGreaterThan(0);
          expect(kind).not.toBe(before);
          before = kind;
          at += lengthBytes;
          const covered = isData.slice(Math.floor(offsetBytes / SECTOR), Math.ceil(at / SECTOR));
          expect(covered.every((one) => one === (kind === 'data'))).toBe(true);
        }
        expect(at).toBe(to);
      }),
    );
  });

  it('beyond their number lose their smallest gaps, and never data', () => {
    fc.assert(
      fc.property(sectors, fc.integer({ min: 1, max: 10 }), (isData, limit) => {
        const index = indexRanges(rangesOf(isData), limit);
        expect(index.count).toBeLessThanOrEqual(limit);
        for (const { offsetBytes, lengthBytes, kind } of index.extents(0, SECTORS * SECTOR)) {
          if (kind === 'data') continue;
          const hole = isData.slice(offsetBytes / SECTOR, (offsetBytes + lengthBytes) / SECTOR);
          expect(hole.includes(true)).toBe(false);
        }
      }),
    );
  });

  it('take 16 bytes each, also when there are 262,144', () => {
    const count = 262_144;
    const many = Array.from({ length: count }, (_, index) => ({ offsetBytes: index * 8192, lengthBytes: 4096 }));
    const index = indexRanges(many);
    expect(index.count).toBe(count);
    const middle = 131_072 * 8192;
    expect([...index.extents(middle - 4096, 12_288)]).toEqual([
      { offsetBytes: middle - 4096, lengthBytes: 4096, kind: 'hole' },
      { offsetBytes: middle, lengthBytes: 4096, kind: 'data' },
      { offsetBytes: middle + 4096, lengthBytes: 4096, kind: 'hole' },
    ]);
    expect(indexRanges(many, count / 2).count).toBe(1);
  });
});

describe('the cache of blocks', () => {
  const newCache = (capacityBlocks: number, fail: (first: number) => boolean = () => false) => {
    const fetches: string[] = [];
    const gates: PromiseWithResolvers<void>[] = [];
    const cache = createBlockCache({
      capacityBlocks,
      fetchBlocks: 4,
      fetchesAtOnce: 1,
      fetch: async (first, count) => {
        fetches.push(`${first}+${count}`);
        const gate = Promise.withResolvers<void>();
        gates.push(gate);
        await gate.promise;
        if (fail(first)) throw new Error('away');
        return Array.from({ length: count }, (_, index) => Buffer.of(first + index));
      },
    });
    /** Lets every fetch through that begins. */
    const settle = async <T>(work: Promise<T>): Promise<T> => {
      const state = { ended: false };
      const done = work.finally(() => (state.ended = true));
      done.catch(() => undefined);
      while (!state.ended) {
        gates.splice(0).forEach((gate) => gate.resolve());
        await new Promise((resolve) => setImmediate(resolve));
      }
      return done;
    };
    const get = (...blocks: number[]) => Promise.all(cache.get(blocks, live)).then((all) => all.map((one) => one[0]));
    return { cache, fetches, settle, get };
  };

  it('fetches neighbours together and a block that is on its way once', async () => {
    const { fetches, settle, get } = newCache(10);
    const wanted = Promise.all([get(1, 2, 3, 4, 5, 9), get(3, 4), get(9, 10)]);
    expect(await settle(wanted)).toEqual([
      [1, 2, 3, 4, 5, 9],
      [3, 4],
      [9, 10],
    ]);
    expect(fetches).toEqual(['1+4', '5+1', '9+1', '10+1']);
  });

  it('keeps what was used last, and no more than its capacity', async () => {
    const { cache, fetches, settle, get } = newCache(3);
    await settle(get(0, 1, 2));
    await settle(get(0));
    await settle(get(7));
    expect(cache.size).toBe(3);
    await settle(get(0, 2, 7));
    expect(fetches).toEqual(['0+3', '7+1']);
    await settle(get(1));
    expect(fetches.at(-1)).toBe('1+1');
    await settle(get(20, 21, 22, 23, 24, 25));
    expect(cache.size).toBe(3);
  });

  it('tells everybody who waits of a failure, and asks again for the next one', async () => {
    let failing = true;
    const { fetches, settle, get } = newCache(10, () => failing);
    const results = await settle(Promise.allSettled([get(1, 2), get(2)]));
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    failing = false;
    expect(await settle(get(1, 2))).toEqual([1, 2]);
    expect(fetches).toEqual(['1+2', '1+2']);
  });

  it('serves those who wait before what is read ahead, and nobody who has left', async () => {
    const { cache, fetches, settle, get } = newCache(10);
    const left = new AbortController();
    const begun = get(0);
    cache.prefetch([5, 6]);
    const abandoned = Promise.allSettled(cache.get([50, 51], left.signal));
    const shared = Promise.all([...cache.get([60], left.signal), ...cache.get([60], live)]);
    left.abort();
    await settle(Promise.all([begun, abandoned, shared, get(8)]));
    await settle(get(5));
    expect(fetches).toEqual(['0+1', '60+1', '8+1', '5+2']);
    expect((await abandoned).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });
});

describe('reading ahead', () => {
  it('begins with the second read in order, and fetches the next part at half of the window', () => {
    const ahead = createReadAhead(1000, 10_000);
    expect(ahead.note(0, 100)).toBeUndefined();
    expect(ahead.note(100, 100)).toEqual({ from: 200, to: 1200 });
    expect(ahead.note(200, 400)).toBeUndefined();
    expect(ahead.note(600, 200)).toEqual({ from: 1200, to: 1800 });
  });

  it('tells readers apart, forgets the oldest, and ends with the disk', () => {
    const ahead = createReadAhead(1000, 10_000);
    for (let reader = 0; reader < 9; reader++) ahead.note(reader * 1000, 10);
    expect(ahead.note(10, 10)).toBeUndefined();
    expect(ahead.note(8010, 10)).toEqual({ from: 8020, to: 9020 });
    expect(ahead.note(5000, 4000)).toBeUndefined();
    expect(ahead.note(9000, 500)).toEqual({ from: 9500, to: 10_000 });
    expect(ahead.note(9500, 500)).toBeUndefined();
  });
});

describe('a disk of a snapshot', () => {
  const SIZE = 8 * MIB;

  /** Data from 1 MiB to 2.5 MiB + 512 bytes, and the last sector; counts what is asked for. */
  async function open(options: Partial<SnapshotDiskOptions> = {}) {
    const image = Buffer.alloc(SIZE);
    pattern(3, 1.5 * MIB + 512).copy(image, MIB);
    pattern(4, 512).copy(image, SIZE - 512);
    const reads: string[] = [];
    const state = { failing: undefined as Error | undefined };
    const seed: SeedReader = {
      listSnapshots: async () => [],
      ranges: async () => [
        { offsetBytes: MIB, lengthBytes: 1.5 * MIB + 512 },
        { offsetBytes: SIZE - 512, lengthBytes: 512 },
      ],
      read: async (snapshot, offset, length, signal) => {
        signal.throwIfAborted();
        if (state.failing !== undefined) throw state.failing;
        reads.push(`${snapshot} ${offset / KIB} ${length / KIB}`);
        return Buffer.from(image.subarray(offset, offset + length));
      },
    };
    const settings = { cacheBytes: 2 * MIB, readAhead: false, signal: live, ...options };
    const disk = await openSnapshotDisk({ seed, snapshot: 's', sizeBytes: SIZE, ...settings });
    const read = async (offset: number, length: number): Promise<Buffer> => {
      const target = Buffer.alloc(length, 0xee);
      await disk.readInto(target, offset, live);
      return target;
    };
    return { image, reads, state, disk, read };
  }

  it('reads any range right, with any cache', async () => {
    const range = fc.tuple(fc.nat(SIZE - 1), fc.nat(3 * MIB));
    const { image, disk } = await open();
    const [small, ahead] = [await open({ cacheBytes: BLOCK_BYTES }), await open({ readAhead: true })];
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 4 }), async (ranges) => {
        await Promise.all(
          ranges.flatMap(([offset, wish]) =>
            [disk, small.disk, ahead.disk].map(async (one) => {
              const target = Buffer.alloc(Math.max(1, Math.min(wish, SIZE - offset)), 0xee);
              await one.readInto(target, offset, live);
              expectBytes(target, image.subarray(offset, offset + target.length));
            }),
          ),
        );
      }),
      { numRuns: 50 },
    );
  });

  it('asks for nothing where there is no data, and for data only once', async () => {
    const { reads, read } = await open();
    await read(0, MIB);
    await read(3 * MIB, 4 * MIB);
    expect(reads).toEqual([]);
    await Promise.all([read(MIB, 512), read(MIB + 4096, 512), read(MIB + 100, 7)]);
    expect(reads).toEqual(['s 1024 256']);
    await read(0, SIZE);
    expect(reads).toEqual(['s 1024 256', 's 1280 1280.5', 's 8191.5 0.5']);
  });

  it('asks for 4 MiB at once at the most', async () => {
    const sizes: number[] = [];
    const seed: SeedReader = {
      listSnapshots: async () => [],
      ranges: async () => [{ offsetBytes: 0, lengthBytes: 64 * MIB }],
      read: async (_snapshot, _offset, length) => {
        sizes.push(length);
        return Buffer.alloc(length);
      },
    };
    const options = { seed, snapshot: 's', sizeBytes: 64 * MIB, cacheBytes: MIB, readAhead: false, signal: live };
    const disk = await openSnapshotDisk(options);
    await disk.readInto(Buffer.alloc(32 * MIB), 512, live);
    expect(Math.max(...sizes)).toBe(4 * MIB);
    expect(sizes.reduce((sum, size) => sum + size)).toBe(32 * MIB + BLOCK_BYTES);
  });

  it('reads ahead of a reader in order', async () => {
    const { reads, read } = await open({ readAhead: true, cacheBytes: 8 * MIB });
    await read(MIB, 4096);
    await read(MIB + 4096, 4096);
    await read(MIB + 8192, MIB);
    expect(reads).toEqual(['s 1024 256', 's 1280 1280.5']);
  });

  it('passes failures on to the reader, and reads again', async () => {
    const { image, state, read } = await open();
    state.failing = new TidemarkError('STORAGE_UNAVAILABLE', 'away');
    await expectCode(read(MIB, 512), 'STORAGE_UNAVAILABLE');
    state.failing = undefined;
    expectBytes(await read(MIB, 512), image.subarray(MIB, MIB + 512));
  });

  it('ends a read with its own signal, and all with the disk', async () => {
    const closing = new AbortController();
    const begun: AbortSignal[] = [];
    const seed: SeedReader = {
      listSnapshots: async () => [],
      ranges: async () => [{ offsetBytes: 0, lengthBytes: SIZE }],
      read: (_snapshot, _offset, _length, signal) => {
        begun.push(signal);
        return new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error)),
        );
      },
    };
    const options = { seed, snapshot: 's', sizeBytes: SIZE, cacheBytes: MIB, readAhead: false, signal: closing.signal };
    const disk = await openSnapshotDisk(options);
    const [leaving, staying] = [new AbortController(), new AbortController()];
    const one = disk.readInto(Buffer.alloc(512), 0, leaving.signal);
    const two = disk.readInto(Buffer.alloc(512), 0, staying.signal);
    leaving.abort(new Error('left'));
    await expect(one).rejects.toThrow('left');
    expect(begun.map(({ aborted }) => aborted)).toEqual([false]);
    closing.abort(new Error('closed'));
    await expect(two).rejects.toThrow('closed');
    await expect(disk.readInto(Buffer.alloc(512), 0, leaving.signal)).rejects.toThrow('left');
  });
});
