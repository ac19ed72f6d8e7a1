import * as fc from 'fast-check';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { PlainReplay } from '../../src/demo/plain-replay.ts';
import { requireVerified, verifyPoints, type VerifiedPoint, type VerifyOptions } from '../../src/demo/verify.ts';
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { usFromIso } from '../../src/model/time.ts';
import { listPoints } from '../../src/points/point-store.ts';
import type { SeedReader } from '../../src/seed/seed-store.ts';
import { shipTrace } from '../../src/source/ship.ts';
import { openTraceFolder } from '../../src/source/trace-folder.ts';
import { Worker } from '../../src/worker/worker.ts';
import { extent } from '../support/extent.ts';
import { sha256 } from '../support/trace-oracle.ts';
import { DISK_BYTES, END_US, imageAfter, STRETCH, writeSmallTrace } from './small-trace.ts';

const signal = new AbortController().signal;
const START_US = usFromIso('2026-11-23T04:00:00Z');
/** First written after the second point. */
const DAMAGED_AT = 20_000 * 512;
const STREAM = { group: 'g', machine: 'm', disk: 'disk0', epoch: 1 };

let folder: string;
beforeAll(async () => {
  folder = await writeSmallTrace(await mkdtemp(join(tmpdir(), 'tidemark-verify-')));
});
afterAll(() => rm(folder, { recursive: true }));

type Prepared = Omit<VerifyOptions, 'replay' | 'expected'>;

/** Ships the made trace and drains it, all in memory; `prepare` may put something between the worker and its storage. */
async function replicate(prepare: (storage: MemoryStorage) => void = () => undefined): Promise<Prepared> {
  const storage = createMemoryStorage();
  prepare(storage);
  await setPolicy(storage.catalog, 'p', {}, signal);
  const machines = [{ machine: 'm', disks: [{ disk: 'disk0', sizeBytes: DISK_BYTES }] }];
  await protectGroup(storage.catalog, { group: 'g', policy: 'p', machines, nowUs: START_US }, signal);
  const trace = await openTraceFolder(folder);
  await shipTrace({
    disks: trace.disks.map((files) => ({ stream: STREAM, diskSizeBytes: DISK_BYTES, files })),
    upload: storage.logUpload,
    log: storage.logStore,
    traceEndUs: END_US,
    startUs: START_US,
    nowUs: () => START_US,
    stretch: STRETCH,
    signal,
  });
  const clock = { nowUs: () => START_US, nowMs: () => 0, sleep: neverSleep };
  const worker = new Worker({
    ports: {
      ...storage,
      topic: new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 0 }),
      clock,
      random: () => 0.5,
    },
    settings: {
      payloadBudgetBytes: 64 * 1024 * 1024,
      requestsPerDisk: 4,
      requestsPerAccount: 8,
      rate: undefined,
      key: undefined,
    },
    groups: ['g'],
    report: ({ error }) => {
      throw error;
    },
  });
  await worker.runOnce(signal);
  const manifests = await listPoints(storage.catalog, 'g', signal);
  return { manifests, seed: storage.seeds.reader(STREAM), onProgress: () => undefined, signal };
}

/** Ends with the signal; nothing here waits. */
const neverSleep = (_ms: number, stop: AbortSignal): Promise<void> =>
  new Promise((_, reject) => stop.addEventListener('abort', () => reject(stop.reason as Error), { once: true }));

async function verify(prepared: Prepared, from = folder): Promise<VerifiedPoint[]> {
  const replay = await PlainReplay.load(from);
  return verifyPoints({ ...prepared, replay, expected: replay.expectedPoints(START_US, STRETCH) });
}

/** Passes everything on, but one byte of one snapshot. */
function withFlippedByte(seed: SeedReader, snapshot: string, flippedAt: number): SeedReader {
  return {
    listSnapshots: (abort) => seed.listSnapshots(abort),
    ranges: async (of, sizeBytes, abort) => {
      const ranges = await seed.ranges(of, sizeBytes, abort);
      return of === snapshot ? [...ranges, { offsetBytes: flippedAt, lengthBytes: 1 }] : ranges;
    },
    read: async (of, offsetBytes, lengthBytes, abort) => {
      const bytes = Buffer.from(await seed.read(of, offsetBytes, lengthBytes, abort));
      const at = flippedAt - offsetBytes;
      if (of === snapshot && at >= 0 && at < lengthBytes) bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      return bytes;
    },
  };
}

describe('verifyPoints', () => {
  it('finds every point of a sound drain equal, with its hash', async () => {
    const points = await verify(await replicate());
    expect(points.map(({ sha256: hash }) => hash)).toEqual(
      [0, 2, 3, 4, 7, 7, 8, 9, 9, 10, 11].map((entries) => sha256(imageAfter(entries))),
    );
    expect(points.every(({ verified, firstDifferenceBytes }) => verified && firstDifferenceBytes === null)).toBe(true);
    expect(() => requireVerified(points)).not.toThrow();
  });

  it('finds any flipped bit of any point, and says where it is', async () => {
    const prepared = await replicate();
    const place = fc.record({ point: fc.nat(prepared.manifests.length - 1), offset: fc.nat(DISK_BYTES - 1) });
    await fc.assert(
      fc.asyncProperty(place, async ({ point, offset }) => {
        const snapshot = prepared.manifests[point]?.disks[0]?.snapshot ?? '';
        const points = await verify({ ...prepared, seed: withFlippedByte(prepared.seed, snapshot, offset) });
        const wrong = prepared.manifests.filter(({ disks }) => disks[0]?.snapshot === snapshot);
        expect(points.filter(({ verified }) => !verified)).toMatchObject(
          wrong.map((manifest) => ({ point: manifest.point, firstDifferenceBytes: offset })),
        );
        expect(() => requireVerified(points)).toThrow(
          expect.objectContaining({
            code: 'DEMO_POINT_DIFFERS',
            details: { point: wrong[0]?.point, offsetBytes: offset },
          }),
        );
      }),
      { numRuns: extent({ quick: 2, full: 6 }) },
    );
  });

  it('fails from the first point on that a worker wrote wrongly', async () => {
    const damaging = ({ seeds }: MemoryStorage): void => {
      const open = seeds.open.bind(seeds);
      seeds.open = async (...args) => {
        const disk = await open(...args);
        const putPages = disk.putPages.bind(disk);
        disk.putPages = (offsetBytes, data, abort) => {
          const at = DAMAGED_AT - offsetBytes;
          const damaged = Buffer.from(data);
          if (at >= 0 && at < data.length) damaged.writeUInt8(damaged.readUInt8(at) ^ 0x80, at);
          return putPages(offsetBytes, damaged, abort);
        };
        return disk;
      };
    };
    const prepared = await replicate(damaging);
    const points = await verify(prepared);
    const sound = points.slice(0, 2);
    const wrong = points.slice(2);
    expect(sound.map(({ firstDifferenceBytes }) => firstDifferenceBytes)).toEqual([null, null]);
    expect(wrong.map(({ firstDifferenceBytes }) => firstDifferenceBytes)).toEqual(wrong.map(() => DAMAGED_AT));
    expect(() => requireVerified(points)).toThrow(/at byte 10240000; 8 more points are wrong/);
  });

  it('fails when the hash of the recording is another one', async () => {
    const wrong = await writeSmallTrace(join(folder, 'wrong'), 'app-consistent id=4');
    const points = await verify(await replicate(), wrong);
    expect(points.filter(({ verified }) => !verified).map(({ point }) => point)).toEqual([
      '20261123T043330.000000Z-app',
    ]);
    expect(() => requireVerified(points)).toThrow(/was recorded with the trace/);
  });

  it('fails when a point is missing or was not expected', async () => {
    const prepared = await replicate();
    const [first, ...rest] = prepared.manifests;
    const incomplete = expect.objectContaining({ code: 'DEMO_POINTS_INCOMPLETE' });
    await expect(verify({ ...prepared, manifests: rest })).rejects.toEqual(incomplete);
    const surplus = { ...prepared.manifests.at(-1), point: '20261123T050000.000000Z-crash' } as (typeof rest)[number];
    await expect(verify({ ...prepared, manifests: [...prepared.manifests, surplus] })).rejects.toEqual(incomplete);
    const replay = await PlainReplay.load(folder);
    const other = { ...replay.expectedPoints(START_US, STRETCH)[0] } as VerifyOptions['expected'][number];
    const resized = { ...first, disks: first?.disks.map((disk) => ({ ...disk, sizeBytes: DISK_BYTES / 2 })) };
    const manifests = [resized] as typeof rest;
    await expect(verifyPoints({ ...prepared, manifests, replay, expected: [other] })).rejects.toEqual(incomplete);
  });
});
