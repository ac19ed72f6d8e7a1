/** Changes beside a disk that never changes, against a plain buffer. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CLUSTER, clusterBytesFor, createClusterMap, mapBytesFor } from '../../src/serve/cluster-map.ts';
import { indexRanges } from '../../src/serve/data-ranges.ts';
import type { DiskReader } from '../../src/serve/disk-reader.ts';
import { createOverlay } from '../../src/serve/overlay.ts';
import { openScratch, type ScratchLabel } from '../../src/serve/scratch-file.ts';
import { expectBytes, expectCode, live, pattern } from '../contracts/support.ts';

const MIB = 1024 * 1024;
const SIZE = MIB;
const LABEL: ScratchLabel = { group: 'g', point: 'p', machine: 'm', disk: 'd', snapshot: 's', sizeBytes: SIZE };
const DATA_BYTES = SIZE / 2;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-overlay-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const newFile = (): string => join(folder, `scratch-${++files}`);

/** Data in the first half, nothing in the second; counts the bytes that are read. */
function newBase() {
  const image = Buffer.alloc(SIZE);
  pattern(11, DATA_BYTES).copy(image);
  const index = indexRanges([{ offsetBytes: 0, lengthBytes: DATA_BYTES }]);
  const state = { readBytes: 0 };
  const base: DiskReader = {
    sizeBytes: SIZE,
    ranges: (offset, length) => index.extents(offset, length),
    readInto: async (target, offset) => {
      state.readBytes += target.length;
      image.copy(target, 0, offset, offset + target.length);
    },
  };
  return { image, base, state };
}

async function readAll(disk: DiskReader): Promise<Buffer> {
  const target = Buffer.alloc(disk.sizeBytes, 0xee);
  await disk.readInto(target, 0, live);
  return target;
}

describe('the map of clusters', () => {
  it('is that of a plain array', () => {
    const COUNT = 200;
    const step = fc.record({
      first: fc.nat(COUNT - 1),
      count: fc.integer({ min: 1, max: COUNT }),
      state: fc.constantFrom(0, 1, 2),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), fc.nat(COUNT - 1), (steps, from) => {
        const map = createClusterMap(COUNT);
        const plain: number[] = Array.from({ length: COUNT }, () => 0);
        for (const { first, count, state } of steps) {
          const to = Math.min(first + count, COUNT);
          map.set(first, to - first, state);
          plain.fill(state, first, to);
        }
        expect(plain.map((_, cluster) => map.get(cluster))).toEqual(plain);
        const told: number[] = [];
        let before = -1;
        for (const { first, count, state } of map.runs(from, COUNT - from)) {
          expect(first).toBe(from + told.length);
          expect(state).not.toBe(before);
          before = state;
          for (let index = 0; index < count; index++) told.push(state);
        }
        expect(told).toEqual(plain.slice(from));
      }),
    );
  });

  it('has a size with a limit, whatever the disk', () => {
    const TIB = 2 ** 40;
    expect([MIB, TIB, 2 * TIB, 8 * TIB - MIB].map(clusterBytesFor)).toEqual([4096, 4096, 8192, 32_768]);
    for (const size of [MIB, TIB, 8 * TIB - MIB]) {
      expect(mapBytesFor(Math.ceil(size / clusterBytesFor(size)))).toBeLessThanOrEqual(64 * MIB);
    }
  });

  it('knows which of its pages have changed', () => {
    const map = createClusterMap(100_000);
    map.set(0, 1, CLUSTER.written);
    map.set(16_383, 2, CLUSTER.zero);
    map.set(99_999, 1, CLUSTER.written);
    expect([...map.changedPages]).toEqual([0, 1, 6]);
    expect(map.bytes).toHaveLength(7 * 4096);
  });
});

describe('an overlay', () => {
  const place = fc.record({
    offset: fc.oneof(
      fc.nat(SIZE - 1),
      fc.nat(255).map((cluster) => cluster * 4096),
    ),
    length: fc.oneof(
      fc.integer({ min: 1, max: 9000 }),
      fc.integer({ min: 1, max: 20 }).map((count) => count * 4096),
      fc.constant(SIZE),
    ),
  });
  const step = fc.record({
    place,
    kind: fc.constantFrom('write', 'write', 'zero', 'allocate', 'trim', 'flush'),
    seed: fc.nat(1000),
  });

  it('reads as a plain buffer that was changed in the same way, and its base never changes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 15 }), async (steps) => {
        const { image, base } = newBase();
        const original = Buffer.from(image);
        const model = Buffer.from(image);
        const scratch = await openScratch(undefined, LABEL);
        const overlay = createOverlay(base, scratch);
        // All at once: they take effect in the order of the calls.
        await Promise.all(
          steps.map(async ({ place: { offset, length: wish }, kind, seed }) => {
            const length = Math.min(wish, SIZE - offset);
            if (kind === 'write') {
              const data = pattern(seed, length);
              data.copy(model, offset);
              await overlay.write.write(offset, data, live);
            } else if (kind === 'zero' || kind === 'allocate') {
              model.fill(0, offset, offset + length);
              await overlay.write.zero(offset, length, kind === 'allocate', live);
            } else if (kind === 'trim') {
              const first = Math.ceil(offset / 4096) * 4096;
              const last = Math.floor((offset + length) / 4096) * 4096;
              if (first < last) model.fill(0, first, last);
              await overlay.write.trim(offset, length, live);
            } else await overlay.write.flush(live);
          }),
        );
        expectBytes(await readAll(overlay), model);
        let at = 0;
        for (const { offsetBytes, lengthBytes, kind } of overlay.ranges(0, SIZE)) {
          expect(offsetBytes).toBe(at);
          at += lengthBytes;
          if (kind === 'hole') expect(model.subarray(offsetBytes, at).every((byte) => byte === 0)).toBe(true);
        }
        expect(at).toBe(SIZE);
        expectBytes(image, original);
        await scratch.close();
      }),
      { numRuns: 40 },
    );
  });

  it('reads from below only what completes a cluster', async () => {
    const { base, state } = newBase();
    const scratch = await openScratch(undefined, LABEL);
    const { write } = createOverlay(base, scratch);
    await write.write(4096, Buffer.alloc(8192, 1), live);
    await write.zero(0, DATA_BYTES, false, live);
    await write.trim(100, DATA_BYTES, live);
    expect(state.readBytes).toBe(0);
    await write.write(DATA_BYTES + 10, Buffer.alloc(100, 1), live);
    expect(state.readBytes).toBe(4096 - 100);
    await write.write(DATA_BYTES + 500, Buffer.alloc(100, 1), live);
    expect(state.readBytes).toBe(4096 - 100);
    await scratch.close();
  });

  it('changes nothing when what completes a cluster cannot be read', async () => {
    const { image, base } = newBase();
    let away = true;
    const flaky: DiskReader = {
      ...base,
      readInto: async (...args) => {
        if (away) throw new Error('away');
        await base.readInto(...args);
      },
    };
    const scratch = await openScratch(undefined, LABEL);
    const overlay = createOverlay(flaky, scratch);
    await expect(overlay.write.write(10, Buffer.alloc(10, 1), live)).rejects.toThrow('away');
    away = false;
    expectBytes(await readAll(overlay), image);
    await overlay.write.write(10, Buffer.alloc(10, 1), live);
    expectBytes(await readAll(overlay), Buffer.from(image).fill(1, 10, 20));
    await scratch.close();
  });
});

describe('a scratch file', () => {
  it('without a name is nowhere to be seen', async () => {
    const before = new Set(readdirSync(tmpdir()).filter((name) => name.startsWith('tidemark-serve-')));
    const scratch = await openScratch(undefined, LABEL);
    const now = readdirSync(tmpdir()).filter((name) => name.startsWith('tidemark-serve-') && !before.has(name));
    await scratch.write(Buffer.from('here'), 100);
    const read = Buffer.alloc(4);
    await scratch.readInto(read, 100);
    expect([read.toString(), now]).toEqual(['here', []]);
    await scratch.close();
  });

  it('with a name holds what was flushed, also when its process ends without a word', async () => {
    const { image, base } = newBase();
    const file = newFile();
    const first = await openScratch(file, LABEL);
    const { write } = createOverlay(base, first);
    await write.write(5000, Buffer.alloc(100, 7), live);
    await write.zero(8192, 4096, false, live);
    await write.flush(live);
    const flushed = Buffer.from(image).fill(7, 5000, 5100).fill(0, 8192, 12_288);
    // Not flushed: may be lost, and is, since only the map says that it is there.
    await write.write(40_960, Buffer.alloc(4096, 9), live);
    const second = await openScratch(file, LABEL);
    expectBytes(await readAll(createOverlay(base, second)), flushed);
    await first.flush();
    const third = await openScratch(file, LABEL);
    expectBytes(await readAll(createOverlay(base, third)), flushed.fill(9, 40_960, 45_056));
    await Promise.all([first, second, third].map((scratch) => scratch.close()));
  });

  it('is refused when it belongs to something else, and stays as it is', async () => {
    const file = newFile();
    await (await openScratch(file, LABEL)).close();
    await expectCode(openScratch(file, { ...LABEL, snapshot: 't' }), 'SCRATCH_UNUSABLE');
    await expectCode(openScratch(file, { ...LABEL, sizeBytes: 2 * MIB }), 'SCRATCH_UNUSABLE');
    const letter = newFile();
    writeFileSync(letter, 'dear reader');
    await expectCode(openScratch(letter, LABEL), 'SCRATCH_UNUSABLE');
    expect(readFileSync(letter, 'utf8')).toBe('dear reader');
    await expectCode(openScratch(folder, LABEL), 'SCRATCH_UNUSABLE');
    const nowhere = join(folder, 'missing', 'scratch');
    await expectCode(openScratch(nowhere, LABEL), 'SCRATCH_UNUSABLE');
    expect(existsSync(nowhere)).toBe(false);
  });

  it('says so when it can no longer be used', async () => {
    const { base } = newBase();
    const scratch = await openScratch(newFile(), LABEL);
    const { write } = createOverlay(base, scratch);
    await scratch.close();
    await expectCode(write.write(0, Buffer.alloc(4096), live), 'SCRATCH_UNUSABLE');
    await expectCode(write.flush(live), 'SCRATCH_UNUSABLE');
  });
});
