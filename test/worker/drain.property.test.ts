import * as fc from 'fast-check';
import { crc32 } from 'node:zlib';
import PQueue from 'p-queue';
import { expect, it } from 'vitest';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { totalBytes, type ChangedExtent } from '../../src/coalesce/change-list.ts';
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { catalogName } from '../../src/model/names.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';
import { decodeChanges } from '../../src/points/changes-file.ts';
import type { ManifestDisk } from '../../src/points/manifest.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { Worker } from '../../src/worker/worker.ts';
import {
  DISK_BYTES,
  eventsArb,
  expectedPoints,
  ModelShipper,
  START_US,
  streamsOf,
  type ModelEntry,
} from '../support/model-log.ts';

const signal = new AbortController().signal;
const GROUP = 'g';
const DISKS = ['disk0', 'disk1', 'disk2'];

/** A clock that stands still: nothing here waits. Sleeps end with the signal. */
const clock = {
  nowUs: () => START_US,
  nowMs: () => 0,
  sleep: (_ms: number, stop: AbortSignal) =>
    new Promise<void>((_, reject) => {
      if (stop.aborted) reject(stop.reason as Error);
      stop.addEventListener('abort', () => reject(stop.reason as Error), { once: true });
    }),
};

function newWorker(storage: MemoryStorage, topic: MemoryTopic, payloadBudgetBytes: number): Worker {
  return new Worker({
    ports: { ...storage, topic, clock },
    settings: {
      payloadBudgetBytes,
      requestsPerDisk: 4,
      account: new PQueue({ concurrency: 8 }),
      rate: undefined,
      key: undefined,
    },
    groups: [],
    report: ({ error }) => {
      throw error;
    },
  });
}

async function protect(storage: MemoryStorage, diskCount: number): Promise<void> {
  await setPolicy(storage.catalog, 'p', { retentionHours: 360, appConsistentHours: 1 }, signal);
  const disks = DISKS.slice(0, diskCount).map((disk) => ({ disk, sizeBytes: DISK_BYTES }));
  await protectGroup(
    storage.catalog,
    { group: GROUP, policy: 'p', machines: [{ machine: 'm', disks }], nowUs: START_US },
    signal,
  );
}

/** Cuts a stream into segments of the lengths that `lengths` gives in turn, empty ones included. */
function segmentsOf(
  entries: readonly ModelEntry[],
  lengths: readonly number[],
  endUs: number,
): { entries: readonly ModelEntry[]; endUs: number }[] {
  const segments: { entries: readonly ModelEntry[]; endUs: number }[] = [];
  let at = 0;
  let turn = 0;
  while (at < entries.length) {
    const length = lengths[turn++ % lengths.length] ?? 1;
    const next = Math.min(entries.length, at + length);
    segments.push({ entries: entries.slice(at, next), endUs: entries[next]?.record.timeUs ?? endUs });
    at = next;
    if (turn > 10_000) throw new Error('lengths are all zero');
  }
  segments.push({ entries: [], endUs });
  return segments;
}

async function pointsOf(storage: MemoryStorage, diskCount: number) {
  const manifests = await listPoints(storage.catalog, GROUP, signal);
  return Promise.all(
    manifests.map(async ({ point, cutUs, kind, disks }) => ({
      cutUs,
      kind,
      snapshots: disks.map(({ snapshot }) => snapshot),
      changes: await changesOf(storage, point, disks),
      images: await Promise.all(
        DISKS.slice(0, diskCount).map(async (disk) => {
          const snapshot = disks.find((d) => d.disk === disk)?.snapshot ?? '';
          return storage.seeds.reader({ group: GROUP, machine: 'm', disk }).read(snapshot, 0, DISK_BYTES, signal);
        }),
      ),
    })),
  );
}

async function changesOf(
  storage: MemoryStorage,
  point: string,
  disks: readonly ManifestDisk[],
): Promise<ChangedExtent[][]> {
  const blob = await storage.catalog.read(catalogName.changes(GROUP, point), signal);
  const lists = decodeChanges(blob?.bytes ?? Buffer.alloc(0));
  return disks.map(({ disk, changedBytes }) => {
    const extents = lists.find((list) => list.disk === disk)?.extents ?? [];
    expect(totalBytes(extents)).toBe(changedBytes);
    return [...extents];
  });
}

/** Outside the extents nothing changed; inside, the checksums are those of the point. */
function requireChanges(extents: readonly ChangedExtent[], before: Buffer, after: Buffer): void {
  const rebuilt = Buffer.from(before);
  for (const { offsetBytes, lengthBytes, checksum } of extents) {
    const bytes = after.subarray(offsetBytes, offsetBytes + lengthBytes);
    if (checksum === 'zero') expect(bytes.every((byte) => byte === 0)).toBe(true);
    else expect(checksum).toBe(crc32(bytes));
    bytes.copy(rebuilt, offsetBytes);
  }
  expect(rebuilt.equals(after)).toBe(true);
}

it('points are a pure function of the log: however it is split, whenever it is read, whoever restarts', async () => {
  await fc.assert(
    fc.asyncProperty(
      eventsArb,
      fc.integer({ min: 1, max: 3 }),
      fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 5 }).filter((l) => l.some((n) => n > 0)),
      fc.infiniteStream(fc.nat(9)),
      fc.constantFrom(256 * 1024, 64 * 1024 * 1024),
      async (events, diskCount, lengths, dice, budget) => {
        const { streams, endUs } = streamsOf(events, diskCount);
        const storage = createMemoryStorage();
        const topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
        await protect(storage, diskCount);
        const waiting = streams.map((entries, disk) => ({
          shipper: new ModelShipper(
            { group: GROUP, machine: 'm', disk: DISKS[disk] ?? '', epoch: 1 },
            storage.logUpload,
          ),
          segments: segmentsOf(entries, lengths, endUs),
        }));
        let worker = newWorker(storage, topic, budget);
        while (waiting.some(({ segments }) => segments.length > 0)) {
          const roll = dice.next().value ?? 0;
          const lane = waiting[roll % diskCount];
          const segment = lane?.segments.shift();
          if (lane !== undefined && segment !== undefined)
            await lane.shipper.ship(segment.entries, segment.endUs, signal);
          if (roll >= 7) await worker.runOnce(signal);
          if (roll === 9) worker = newWorker(storage, topic, budget);
        }
        await worker.runOnce(signal);
        const points = await pointsOf(storage, diskCount);
        const expected = expectedPoints(streams, endUs, true);
        const label = ({ cutUs, kind }: { cutUs: number; kind: string }) => `${cutUs} ${kind}`;
        // Two marks of one instant make one point: of the first.
        const distinct = new Map(expected.toReversed().map((point) => [label(point), point]));
        expect(points.filter(({ kind }) => kind === 'crash').map(label)).toEqual(
          expected.filter(({ kind }) => kind === 'crash').map(label),
        );
        // Two marks of one instant give one point; a mark that straddles a boundary may be skipped (see cuts).
        const straddles = ({ cutUs }: { cutUs: number }) => cutUs % FIVE_MINUTES_US < 1000;
        expect(new Set(points.filter((p) => p.kind === 'app' && !straddles(p)).map(label))).toEqual(
          new Set(expected.filter((p) => p.kind === 'app' && !straddles(p)).map(label)),
        );
        let before: readonly Buffer[] = [];
        for (const point of points) {
          const want = distinct.get(label(point));
          expect(want, `no such cut: ${label(point)}`).toBeDefined();
          for (const [disk, image] of point.images.entries()) {
            requireChanges(point.changes[disk] ?? [], before[disk] ?? Buffer.alloc(DISK_BYTES), image);
            const same = expected.some((e) => label(e) === label(point) && e.images[disk]?.equals(image) === true);
            expect(same, `${label(point)} disk${disk} differs`).toBe(true);
          }
          before = point.images;
        }
        for (const [index, point] of points.entries()) {
          const previous = points[index - 1];
          const quiet = distinct.get(label(point))?.changes;
          const quietBefore = previous && distinct.get(label(previous))?.changes;
          for (const [disk, snapshot] of point.snapshots.entries()) {
            expect(snapshot === previous?.snapshots[disk]).toBe(index > 0 && quiet?.[disk] === quietBefore?.[disk]);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
});
