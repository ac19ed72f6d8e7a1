/** One group on memory storage with a model of what must come out of it. */
import PQueue from 'p-queue';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import type { OutgoingMessage } from '../../src/monitoring/message-topic.ts';
import { pointReader } from '../../src/copies/copy-store.ts';
import { pointDisk } from '../../src/points/manifest.ts';
import { listPoints } from '../../src/points/point-store.ts';
import type { Clock, WorkerPorts } from '../../src/worker/ports.ts';
import { Worker, type GroupOutcome } from '../../src/worker/worker.ts';
import { DISK_BYTES, ModelShipper, START_US, type ModelEntry } from '../support/model-log.ts';
import { gatePorts, type Gate } from './gated-ports.ts';

export const GROUP = 'g';
export const MACHINE = 'm';
export const DISKS = ['disk0', 'disk1', 'disk2'] as const;
export const signal = new AbortController().signal;

/** Time stands still and nothing in these worlds waits; a sleep ends with its signal. */
export const stillClock: Clock = {
  nowUs: () => START_US,
  nowMs: () => 0,
  sleep: (_ms, stop) =>
    new Promise((_resolve, reject) => {
      const end = (): void => reject(stop.reason as Error);
      if (stop.aborted) end();
      else stop.addEventListener('abort', end, { once: true });
    }),
};

export type SimulatedPorts = Omit<WorkerPorts, 'clock'>;

export interface WorldOptions {
  readonly diskCount: number;
  readonly policy?: Parameters<typeof setPolicy>[2];
}

export class World {
  readonly storage: MemoryStorage = createMemoryStorage();
  readonly signal = signal;
  readonly topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
  readonly diskCount: number;

  private constructor(diskCount: number) {
    this.diskCount = diskCount;
  }

  static async create({
    diskCount,
    policy = { retentionHours: 360, appConsistentHours: 1 },
  }: WorldOptions): Promise<World> {
    const world = new World(diskCount);
    const { catalog } = world.storage;
    await setPolicy(catalog, 'p', policy, signal);
    const disks = DISKS.slice(0, diskCount).map((disk) => ({ disk, sizeBytes: DISK_BYTES }));
    await protectGroup(
      catalog,
      { group: GROUP, policy: 'p', machines: [{ machine: MACHINE, disks }], nowUs: START_US },
      signal,
    );
    return world;
  }

  shippers(): ModelShipper[] {
    return DISKS.slice(0, this.diskCount).map(
      (disk) => new ModelShipper({ group: GROUP, machine: MACHINE, disk, epoch: 1 }, this.storage.logUpload),
    );
  }

  /** Ships all streams, cut into segments of the given lengths in turn. */
  async shipAll(streams: readonly (readonly ModelEntry[])[], lengths: readonly number[], endUs: number): Promise<void> {
    for (const [disk, shipper] of this.shippers().entries()) {
      for (const segment of segmentsOf(streams[disk] ?? [], lengths, endUs)) {
        await shipper.ship(segment.entries, segment.endUs, signal);
      }
    }
  }

  /** `breaker` replaces ports by ones that misbehave; `gate` looks at what the worker asks of them. */
  worker(
    gate?: Gate,
    payloadBudgetBytes: number = 64 * 1024 * 1024,
    breaker: (ports: SimulatedPorts) => SimulatedPorts = (ports) => ports,
  ): Worker {
    const { logStore, seeds, copies, catalog } = this.storage;
    const ports = { ...breaker({ logStore, seeds, copies, catalog, topic: this.topic }), clock: stillClock };
    return new Worker({
      ports: gate === undefined ? ports : gatePorts(ports, gate),
      settings: {
        payloadBudgetBytes,
        requestsPerDisk: 4,
        account: new PQueue({ concurrency: 8 }),
        rate: undefined,
        key: undefined,
      },
      groups: [GROUP],
      report: () => undefined,
    });
  }

  /** One cycle that must end well. */
  async drain(gate?: Gate): Promise<GroupOutcome> {
    const [outcome] = await this.worker(gate).runOnce(signal);
    if (outcome === undefined || outcome.error !== undefined) throw outcome?.error ?? new Error('no outcome');
    return outcome;
  }

  /** All points with the bytes of every disk, oldest first. */
  async points() {
    const manifests = await listPoints(this.storage.catalog, GROUP, signal);
    return Promise.all(
      manifests.map(async (manifest) => ({
        manifest,
        images: await Promise.all(
          manifest.disks.map((disk) =>
            pointReader(this.storage, pointDisk(manifest, disk)).read(disk.snapshot, 0, DISK_BYTES, signal),
          ),
        ),
      })),
    );
  }

  /** Snapshots and copies that no manifest names. */
  async orphans(): Promise<string[]> {
    const manifests = await listPoints(this.storage.catalog, GROUP, signal);
    const copies = await this.storage.copies.list(`point-disks/`, signal);
    const namedCopies = new Set(manifests.flatMap(({ disks }) => disks.map(({ copy }) => copy)));
    const orphans: string[] = copies.filter((name) => !namedCopies.has(name));
    for (const disk of DISKS.slice(0, this.diskCount)) {
      const named = new Set(
        manifests.flatMap((m) => m.disks.filter((d) => d.disk === disk && d.copy === null).map((d) => d.snapshot)),
      );
      const key = { group: GROUP, machine: MACHINE, disk };
      for (const { snapshot } of await this.storage.seeds.reader(key).listSnapshots(signal)) {
        if (!named.has(snapshot)) orphans.push(`${disk}@${snapshot}`);
      }
    }
    return orphans;
  }

  async messages(): Promise<OutgoingMessage[]> {
    const messages: OutgoingMessage[] = [];
    for await (const message of this.topic.tail(signal, { follow: false })) messages.push(message);
    return messages;
  }
}

/** Cuts a stream into segments of the lengths that `lengths` gives in turn, empty ones included; the last one is a heartbeat. */
export function segmentsOf(
  entries: readonly ModelEntry[],
  lengths: readonly number[],
  endUs: number,
): { entries: readonly ModelEntry[]; endUs: number }[] {
  const segments: { entries: readonly ModelEntry[]; endUs: number }[] = [];
  let at = 0;
  for (let turn = 0; at < entries.length; turn++) {
    const next = Math.min(entries.length, at + (lengths[turn % lengths.length] ?? 1));
    segments.push({ entries: entries.slice(at, next), endUs: entries[next]?.record.timeUs ?? endUs });
    at = next;
    if (turn > 10_000) throw new Error('all lengths are zero');
  }
  segments.push({ entries: [], endUs });
  return segments;
}
