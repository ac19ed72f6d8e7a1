/** A group with a plain log, its points, and storage that fails, or is taken over, at any call. */
import { createHash } from 'node:crypto';
import PQueue from 'p-queue';
import { expect } from 'vitest';
import { getGroup, protectGroup, type GroupDocument } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { encodeSegment, type SegmentEntry } from '../../src/log/encode.ts';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { catalogName, type LogStream } from '../../src/model/names.ts';
import { MIB } from '../../src/model/sizes.ts';
import type { LogUpload } from '../../src/drain/log-store.ts';
import type { MonitoringEvent } from '../../src/monitoring/events.ts';
import type { ReceivedMessage } from '../../src/monitoring/message-topic.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { expectBytes, pattern } from '../contracts/support.ts';
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

type Storage = Pick<WorkerPorts, 'logStore' | 'seeds' | 'copies' | 'catalog'> & { readonly logUpload: LogUpload };

export interface World {
  readonly storage: Storage;
  readonly topic: MemoryTopic;
  readonly ports: WorkerPorts;
}

export async function newWorld(storage: Storage = createMemoryStorage()): Promise<World> {
  const topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
  await setPolicy(storage.catalog, 'p', { retentionHours: 24, appConsistentHours: 0 }, live);
  return { storage, topic, ports: { ...storage, topic, clock } };
}

export function newWorker(
  ports: WorkerPorts,
  onEvents: (events: readonly MonitoringEvent[]) => void = () => undefined,
): Worker {
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
    onEvents: (_, events) => onEvents(events),
  });
}

/** One cycle of a new worker; its error, or its only group's, if any. */
export async function cycle(ports: WorkerPorts): Promise<unknown> {
  try {
    const [outcome] = await newWorker(ports).runOnce(live);
    return outcome?.error;
  } catch (error) {
    return error;
  }
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

interface Generation {
  readonly startUs: number;
  /** Decides what the writes hold, and where. */
  readonly seed: number;
}

/** A base copy at the start, then a write every two minutes. */
function entriesOf({ startUs, seed }: Generation, sizeBytes: number): readonly SegmentEntry[] {
  const sectors = (sizeBytes - WRITE_BYTES) / 512;
  const write = (timeUs: number, at: number): SegmentEntry => ({
    record: { kind: 'write', timeUs, offsetBytes: ((seed * 7 + at * 13) % sectors) * 512, lengthBytes: WRITE_BYTES },
    data: pattern(seed * 100 + at, WRITE_BYTES),
  });
  return [
    write(startUs, 0),
    write(startUs, 1),
    { record: { kind: 'base-complete', timeUs: startUs } },
    ...[1, 3, 5, 7, 9].map((minutes) => write(startUs + minutes * MINUTE_US, 10 + minutes)),
  ];
}

const ownGeneration = ({ startUs, seed }: Generation, index: number): Generation => ({
  startUs,
  seed: seed + 10 * index,
});

/** Ships eleven minutes of all disks of the group, as four segments each: points at the start and 5 and 10 minutes after it. */
export async function ship({ storage }: World, generation: Generation): Promise<void> {
  const { machines } = await getGroup(storage.catalog, GROUP, live);
  for (const { machine, disks } of machines) {
    for (const [index, { disk, sizeBytes, epoch }] of disks.entries()) {
      const entries = entriesOf(ownGeneration(generation, index), sizeBytes);
      await shipStream(storage, { group: GROUP, machine, disk, epoch }, { entries, sizeBytes, ...generation });
    }
  }
}

async function shipStream(
  storage: Storage,
  stream: LogStream,
  log: Generation & { readonly entries: readonly SegmentEntry[]; readonly sizeBytes: number },
): Promise<void> {
  const { entries, sizeBytes, startUs } = log;
  const ends = [startUs + 1, ...[4, 8, 11].map((minutes) => startUs + minutes * MINUTE_US)];
  let previousDigest: Buffer = Buffer.alloc(32);
  let recordsBefore = 0;
  for (const [index, endTimeUs] of ends.entries()) {
    const own = entries.slice(recordsBefore).filter(({ record }) => record.timeUs < endTimeUs);
    const { bytes, digest } = encodeSegment(
      {
        stream,
        diskSizeBytes: sizeBytes,
        sequence: index + 1,
        streamStartUs: startUs,
        recordsBefore,
        firstTimeUs: ends[index - 1] ?? startUs,
        endTimeUs,
        previousDigest,
      },
      own,
    );
    previousDigest = digest;
    recordsBefore += own.length;
    await (await storage.logUpload.stage(stream, index + 1, bytes, live)).commit(live);
  }
}

/** What a disk of a generation holds just before `cutUs`, by plain replay. */
export function expectedImage(generation: Generation, diskIndex: number, sizeBytes: number, cutUs: number): Buffer {
  const image = Buffer.alloc(sizeBytes);
  for (const { record, data } of entriesOf(ownGeneration(generation, diskIndex), sizeBytes)) {
    const isBase = record.timeUs === generation.startUs;
    if (record.kind === 'write' && (isBase || record.timeUs < cutUs)) data?.copy(image, record.offsetBytes);
  }
  return image;
}

/** Cuts of all points, oldest first, after comparing their disks with the generation of their epoch, and their changes lists' digests. */
export async function checkedCuts(
  { storage }: Pick<World, 'storage'>,
  generations: Readonly<Record<number, Generation>>,
): Promise<number[]> {
  const points = await listPoints(storage.catalog, GROUP, live);
  for (const { point, cutUs, disks, changesSha256 } of points) {
    const changes = await storage.catalog.read(catalogName.changes(GROUP, point), live);
    expect(
      createHash('sha256')
        .update(changes?.bytes ?? '')
        .digest('hex'),
    ).toBe(changesSha256);
    for (const [index, { machine, disk, snapshot, sizeBytes, epoch }] of disks.entries()) {
      const generation = generations[epoch];
      if (generation === undefined) throw new Error(`no generation of epoch ${epoch}`);
      const reader = storage.seeds.reader({ group: GROUP, machine, disk });
      expectBytes(await reader.read(snapshot, 0, sizeBytes, live), expectedImage(generation, index, sizeBytes, cutUs));
    }
  }
  return points.map(({ cutUs }) => cutUs);
}

/** Everything that storage holds of the group, beside its own document, its progress and its policy. */
export async function remains({ storage }: Pick<World, 'storage'>): Promise<string[]> {
  const documents = await storage.catalog.list('points/', live);
  const seeds = await storage.seeds.list(GROUP, live);
  const streams = await storage.logStore.listStreams(GROUP, live);
  return [
    ...documents,
    ...seeds.map(({ machine, disk }) => `seed ${machine}/${disk}`),
    ...streams.map(({ machine, disk, epoch }) => `log ${machine}/${disk} ${epoch}`),
  ];
}

/** Names, contents and places of everything in storage, for comparing two worlds. */
export async function dump(world: Pick<World, 'storage'>): Promise<string[]> {
  const { catalog } = world.storage;
  const documents = await Promise.all(
    (await catalog.list('', live)).map(async (name) => {
      const bytes = (await catalog.read(name, live))?.bytes ?? Buffer.alloc(0);
      return `${name} ${name.endsWith('.json') ? bytes.toString() : bytes.toString('hex')}`;
    }),
  );
  return [...documents, ...(await remains(world))];
}

/** Messages that left, oldest first: `type` and, for changes of state and health, where to. */
export async function sentMessages({ topic }: Pick<World, 'topic'>): Promise<string[]> {
  const sent: ReceivedMessage[] = [];
  for await (const message of topic.tail(live, { follow: false })) sent.push(message);
  return sent.map(({ body }) => {
    const { type, data } = body as { type: string; data: { to?: string } };
    return `${type.replace('Tidemark.', '')}${data.to === undefined ? '' : ` ${data.to}`}`;
  });
}

/** Called before each call of storage or topic, with its number from 1 on; what it throws is the call's error. */
type Hook = (call: number, name: string) => Promise<void>;

/** The ports with `before` and `after` around every call that leaves the process, those of leases and opened disks too. */
export function hooked(ports: WorkerPorts, before: Hook, after: Hook = async () => undefined): WorkerPorts {
  let calls = 0;
  const wrap = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(_, property) {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        const method = value as (...args: unknown[]) => unknown;
        if (property === 'reader') return (...args: unknown[]) => wrap(method.apply(target, args) as object);
        return async (...args: unknown[]) => {
          const call = ++calls;
          await before(call, String(property));
          const result = await method.apply(target, args);
          await after(call, String(property));
          return property === 'open' || property === 'takeLease' ? wrap(result as object) : result;
        };
      },
    });
  const { logStore, seeds, catalog, topic } = ports;
  return { ...ports, logStore: wrap(logStore), seeds: wrap(seeds), catalog: wrap(catalog), topic: wrap(topic) };
}

/**
 * The ports of a process that dies at its n-th call: `before` storage hears of it, or `after` it was done, with the answer lost.
 * `died` tells whether it came that far.
 */
export function dying(
  ports: WorkerPorts,
  at: number,
  moment: 'before' | 'after',
): { readonly ports: WorkerPorts; readonly died: () => boolean } {
  let dead = false;
  const die = (isNow: boolean): void => {
    dead ||= isNow;
    if (dead) throw new Error('this process is dead');
  };
  const before: Hook = async (call) => die(moment === 'before' && call === at);
  const after: Hook = async (call) => die(moment === 'after' && call === at);
  return { ports: hooked(ports, before, after), died: () => dead };
}
