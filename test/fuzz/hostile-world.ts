/** A worker with two groups on memory storage; somebody has damaged one segment of the first group. */
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { readDocument } from '../../src/catalog/documents.ts';
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { catalogName, type LogStream } from '../../src/model/names.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { progressSchema, type ProgressDocument } from '../../src/worker/progress.ts';
import { Worker, type GroupOutcome } from '../../src/worker/worker.ts';
import { stillClock } from '../simulation/world.ts';
import { DISK_BYTES, START_US, streamsOf, type ModelEntry, type ModelEvent } from '../support/model-log.ts';
import type { Random } from './random.ts';
import { encodeLog, KEY, type SegmentPlan, type SoundLog } from './sound-logs.ts';

export const VICTIM = 'victim';
export const BYSTANDER = 'bystander';
export const MACHINE = 'm';
const signal = new AbortController().signal;

/** A group's disks, each with its log. */
export interface GroupLogs {
  readonly group: string;
  readonly logs: readonly SoundLog[];
  readonly endUs: number;
}

/** Marks have one time on all disks, and none is lost: what a group makes of the others is for other tests. */
const anyEvent = (random: Random): ModelEvent =>
  random.chance(0.1) ? { ...plainEvent(random), ...WHOLE_DISK } : plainEvent(random);

/** Buries all payload before it that is applied in the same window. */
const WHOLE_DISK = { what: 'discard', sector: 0, sectors: DISK_BYTES / 512 } as const;

const plainEvent = (random: Random): ModelEvent => ({
  gapUs: random.pick([0, 'boundary' as const, random.int(1, 40_000_000), random.int(40_000_000, 400_000_000)]),
  what: random.pick(['write', 'write', 'write', 'discard', 'mark']),
  sector: random.int(0, DISK_BYTES / 512 - 1),
  sectors: random.pick([random.int(1, 32), random.int(100, 600)]),
  fill: random.int(0, 255),
  disk: random.int(0, 1),
  lostOn: null,
  skewUs: 0,
  markKind: random.pick(['app', 'crash']),
});

function cutIntoSegments(entries: readonly ModelEntry[], endUs: number, random: Random): SegmentPlan[] {
  const segments: SegmentPlan[] = [];
  let at = 0;
  while (at < entries.length) {
    const next = Math.min(entries.length, at + random.int(segments.length === 0 ? 1 : 0, 6));
    const part = entries
      .slice(at, next)
      .map(({ record, data }) => (data === undefined ? { record } : { record, data }));
    segments.push({ entries: part, endUs: entries[next]?.record.timeUs ?? endUs });
    at = next;
  }
  return [...segments, { entries: [], endUs }];
}

export function anyGroup(group: string, random: Random, shape: { diskCount: number; isSealed: boolean }): GroupLogs {
  const events = Array.from({ length: random.int(3, 14) }, () => anyEvent(random));
  const { streams, endUs } = streamsOf(events, shape.diskCount);
  const logs = streams.map((entries, disk) =>
    encodeLog({
      stream: { group, machine: MACHINE, disk: `disk${disk}`, epoch: 1 },
      diskSizeBytes: DISK_BYTES,
      segments: cutIntoSegments(entries, endUs, random),
      isSealed: shape.isSealed,
      options: { chunkBytes: random.pick([4096, 65_536, 524_288]) },
    }),
  );
  return { group, logs, endUs };
}

export class HostileWorld {
  readonly storage: MemoryStorage = createMemoryStorage();
  readonly #topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
  readonly #isSealed: boolean;

  private constructor(isSealed: boolean) {
    this.#isSealed = isSealed;
  }

  static async create(groups: readonly GroupLogs[]): Promise<HostileWorld> {
    const world = new HostileWorld(groups.some(({ logs }) => logs.some(({ isSealed }) => isSealed)));
    const { catalog } = world.storage;
    await setPolicy(catalog, 'p', { retentionHours: 360, appConsistentHours: 1 }, signal);
    for (const { group, logs } of groups) {
      const disks = logs.map(({ stream, diskSizeBytes }) => ({ disk: stream.disk, sizeBytes: diskSizeBytes }));
      await protectGroup(
        catalog,
        { group, policy: 'p', machines: [{ machine: MACHINE, disks }], nowUs: START_US },
        signal,
      );
    }
    return world;
  }

  async put(stream: LogStream, sequence: number, bytes: Buffer): Promise<void> {
    await (await this.storage.logUpload.stage(stream, sequence, bytes, signal)).commit(signal);
  }

  async putAll({ stream, segments }: SoundLog): Promise<void> {
    for (const [index, { bytes }] of segments.entries()) await this.put(stream, index + 1, bytes);
  }

  /** One run of a worker that has just started. */
  async run(): Promise<ReadonlyMap<string, GroupOutcome>> {
    const worker = new Worker({
      ports: { ...this.storage, topic: this.#topic, clock: stillClock, random: () => 0.5 },
      settings: {
        payloadBudgetBytes: 64 * 1024 * 1024,
        requestsPerDisk: 4,
        requestsPerAccount: 8,
        rate: undefined,
        key: this.#isSealed ? KEY : undefined,
      },
      groups: [],
      report: () => undefined,
    });
    return new Map((await worker.runOnce(signal)).map((outcome) => [outcome.group, outcome]));
  }

  async progress(group: string): Promise<ProgressDocument> {
    const stored = await readDocument(this.storage.catalog, catalogName.progress(group), progressSchema, signal);
    if (stored === undefined) throw new Error(`${group} has no progress`);
    return stored.value;
  }

  /** The disk as it is now. */
  seed({ group, machine, disk }: LogStream): Buffer {
    return this.storage.seeds.peek({ group, machine, disk }) ?? Buffer.alloc(0);
  }

  async segment(stream: LogStream, sequence: number): Promise<Buffer | undefined> {
    return this.storage.logStore.readHead(stream, sequence, 2 ** 30, signal);
  }

  /** All points with the bytes of every disk, oldest first. */
  async points(group: string) {
    const manifests = await listPoints(this.storage.catalog, group, signal);
    return Promise.all(
      manifests.map(async ({ point, kind, cutUs, disks }) => ({
        point,
        kind,
        cutUs,
        images: await Promise.all(
          disks.map(({ disk, snapshot }) =>
            this.storage.seeds.reader({ group, machine: MACHINE, disk }).read(snapshot, 0, DISK_BYTES, signal),
          ),
        ),
      })),
    );
  }

  /** Messages of one type, with the group's name. */
  async messages(type: string): Promise<{ group: string; data: Readonly<Record<string, unknown>> }[]> {
    const found: { group: string; data: Readonly<Record<string, unknown>> }[] = [];
    for await (const { body } of this.#topic.tail(signal, { follow: false })) {
      const message = body as { type: string; source: string; data: Record<string, unknown> };
      if (message.type === `Tidemark.${type}`)
        found.push({ group: message.source.split('/').at(-1) ?? '', data: message.data });
    }
    return found;
  }
}
