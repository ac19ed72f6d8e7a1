/** A group with a plain log, its points, and storage that fails, or is taken over, at any call. */
import PQueue from 'p-queue';
import { getGroup, protectGroup, type GroupDocument } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { encodeSegment, type SegmentEntry } from '../../src/log/encode.ts';
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import type { LogStream } from '../../src/model/names.ts';
import { MIB } from '../../src/model/sizes.ts';
import type { ReceivedMessage } from '../../src/monitoring/message-topic.ts';
import { listPoints } from '../../src/points/point-store.ts';
import type { WorkerPorts } from '../../src/worker/ports.ts';
import { Worker, type GroupOutcome } from '../../src/worker/worker.ts';

export const live = new AbortController().signal;
export const GROUP = 'shop';
export const START_US = 1_795_406_400_000_000; // 2026-11-23T04:00:00Z, on a boundary
export const MINUTE_US = 60_000_000;
const WRITE_BYTES = 4096;

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

export interface World {
  readonly storage: MemoryStorage;
  readonly topic: MemoryTopic;
  readonly ports: WorkerPorts;
}

export async function newWorld(): Promise<World> {
  const storage = createMemoryStorage();
  const topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
  await setPolicy(storage.catalog, 'p', { retentionHours: 24, appConsistentHours: 0 }, live);
  return { storage, topic, ports: { ...storage, topic, clock } };
}

export function newWorker(ports: WorkerPorts): Worker {
  return new Worker({
    ports,
    settings: {
      payloadBudgetBytes: 64 * MIB,
      requestsPerDisk: 4,
      account: new PQueue({ concurrency: 8 }),
      rate: undefined,
      key: undefined,
    },
    groups: [],
    report: () => undefined,
  });
}

/** One cycle of a new worker; its only group's error, if any. */
export async function cycle(ports: WorkerPorts): Promise<unknown> {
  const [outcome] = await newWorker(ports).runOnce(live);
  return outcome?.error;
}

/** As {@link cycle}, for cycles that must succeed. */
export async function run(ports: WorkerPorts): Promise<GroupOutcome[]> {
  const outcomes = await newWorker(ports).runOnce(live);
  for (const { error } of outcomes) if (error !== undefined) throw error;
  return outcomes;
}

export async function protect({ storage }: World, disks: readonly string[], sizeBytes: number): Promise<GroupDocument> {
  const machines = [{ machine: 'web', disks: disks.map((disk) => ({ disk, sizeBytes })) }];
  return protectGroup(storage.catalog, { group: GROUP, policy: 'p', machines, nowUs: START_US }, live);
}

/**
 * Ships all disks of the group: a base copy at `startUs`, then a write every two minutes for eleven minutes, in four segments. `seed`
 * decides what the writes hold, and where.
 */
export async function ship({ storage }: World, startUs: number, seed: number): Promise<void> {
  const { machines } = await getGroup(storage.catalog, GROUP, live);
  for (const { machine, disks } of machines) {
    for (const [index, { disk, sizeBytes, epoch }] of disks.entries()) {
      const stream = { group: GROUP, machine, disk, epoch };
      const entries = entriesOf(startUs, seed + 10 * index, sizeBytes);
      let previousDigest: Buffer = Buffer.alloc(32);
      for (const [at, endTimeUs] of [0, 4, 8, 11].map((minutes) => startUs + minutes * MINUTE_US).entries()) {
        const firstTimeUs = at === 0 ? startUs : startUs + at * 4 * MINUTE_US - 4 * MINUTE_US;
        const own = entries.filter((e) => (at === 0 ? isBase(e) : !isBase(e) && inSpan(e, firstTimeUs, endTimeUs)));
        const recordsBefore = entries.indexOf(own[0] ?? entries[entries.length - 1]!);
        const header = {
          stream,
          diskSizeBytes: sizeBytes,
          sequence: at + 1,
          streamStartUs: startUs,
          recordsBefore,
          firstTimeUs,
          endTimeUs: at === 0 ? startUs : endTimeUs,
          previousDigest,
        };
        const { bytes, digest } = encodeSegment(header, own);
        previousDigest = digest;
        await (await storage.logUpload.stage(stream, at + 1, bytes, live)).commit(live);
      }
    }
  }
}
