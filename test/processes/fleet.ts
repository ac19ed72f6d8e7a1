/** Many groups with small logs, many workers that share them, and what must come of it. */
import { setTimeout as pause } from 'node:timers/promises';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { parseConfiguration } from '../../src/config.ts';
import { mapAll } from '../../src/map-all.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import type { RequestCounts } from '../../src/telemetry/request-tally.ts';
import { Random } from '../simulation/random.ts';
import {
  DISK_BYTES,
  expectedPoints,
  type ModelEntry,
  type ModelEvent,
  ModelShipper,
  type ModelPoint,
  START_US,
  streamsOf,
} from '../support/model-log.ts';
import { Child } from './child.ts';
import type { Services } from './services.ts';

const live = new AbortController().signal;
const DISK = { machine: 'web', disk: 'disk0' } as const;
const EVENTS = 12;
const PARTS = 3;
const IN_FLIGHT = 8;
/** How often the catalog is looked at. */
const LOOK_MS = 250;

interface FleetGroup {
  readonly group: string;
  readonly entries: readonly ModelEntry[];
  readonly endUs: number;
  readonly expected: readonly ModelPoint[];
  readonly shipper: ModelShipper;
  shipped: number;
}

/** What a worker says of itself when it ends. */
export interface WorkerFigures {
  readonly turns: number;
  readonly contained: number;
  readonly segments: number;
  readonly requests: RequestCounts;
}

export class Fleet {
  readonly #runtime: Runtime;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #groups: readonly FleetGroup[];
  /** Milliseconds from the first look until a group had all its points, in the order of their completion. */
  readonly completedMs = new Map<string, number>();

  private constructor(runtime: Runtime, environment: Readonly<Record<string, string>>, groups: readonly FleetGroup[]) {
    this.#runtime = runtime;
    this.#environment = environment;
    this.#groups = groups;
  }

  static async create(services: Services, count: number, seed: number, cycleSeconds = 2): Promise<Fleet> {
    const environment = { ...services.environment(), TIDEMARK_CYCLE_SECONDS: String(cycleSeconds) };
    const runtime = openRuntime(parseConfiguration(environment));
    const { catalog, logUpload } = runtime.ports;
    await setPolicy(catalog, 'p', { appConsistentHours: 0 }, live);
    const random = new Random(seed);
    const groups = Array.from({ length: count }, (_, index): FleetGroup => {
      const group = `g${String(index).padStart(3, '0')}`;
      const { streams, endUs } = streamsOf(randomEvents(random), 1);
      const entries = streams[0] ?? [];
      const shipper = new ModelShipper({ group, ...DISK, epoch: 1 }, logUpload);
      return { group, entries, endUs, expected: expectedPoints(streams, endUs, false), shipper, shipped: 0 };
    });
    // One after the other: each touches the policy that they share.
    await mapAll(groups, 1, live, async ({ group }) => {
      const machines = [{ machine: DISK.machine, disks: [{ disk: DISK.disk, sizeBytes: DISK_BYTES }] }];
      await protectGroup(catalog, { group, policy: 'p', machines, nowUs: START_US }, live);
    });
    return new Fleet(runtime, environment, groups);
  }

  get size(): number {
    return this.#groups.length;
  }

  /** The next third of every group's log. */
  async ship(): Promise<void> {
    await mapAll(this.#groups, IN_FLIGHT, live, async (one) => {
      const from = Math.ceil((one.entries.length * one.shipped) / PARTS);
      const to = Math.ceil((one.entries.length * ++one.shipped) / PARTS);
      const endUs = one.entries[to]?.record.timeUs ?? one.endUs;
      await one.shipper.ship(one.entries.slice(from, to), endUs, live);
    });
  }

  worker(environment: Readonly<Record<string, string>> = {}): Child {
    return new Child({ ...this.#environment, ...environment }, ['worker', 'run', '--no-scheduler', '--json']);
  }

  scheduler(): Child {
    return new Child(this.#environment, ['scheduler', 'run', '--json']);
  }

  /** Until so many groups have been owned. */
  async untilOpened(count: number): Promise<void> {
    while ((await this.#runtime.ports.catalog.list('progress/', live)).length < count) await pause(LOOK_MS);
  }

  /** Until all groups have all points. @throws Error with those that lack some after `limitMs` */
  async untilMade(limitMs: number): Promise<void> {
    const { catalog } = this.#runtime.ports;
    const beganMs = performance.now();
    for (;;) {
      const points = await catalog.list('points/', live);
      const missing = this.#groups.filter(({ group, expected }) => {
        const made = points.filter((name) => name.startsWith(`points/${group}/`) && name.endsWith('.json')).length;
        return made < expected.length;
      });
      const elapsedMs = performance.now() - beganMs;
      const lacking = new Set(missing.map(({ group }) => group));
      for (const { group } of this.#groups) {
        if (!lacking.has(group) && !this.completedMs.has(group)) this.completedMs.set(group, elapsedMs);
      }
      if (missing.length === 0) return;
      if (elapsedMs > limitMs) throw new Error(`no point was made in time of ${[...lacking].join(', ')}`);
      await pause(LOOK_MS);
    }
  }

  /** Every point of every group, byte by byte, and none besides. @throws Error with the first that is wrong. @returns their number */
  async requireAllRight(): Promise<number> {
    const { catalog, seeds } = this.#runtime.ports;
    const counts = await mapAll(this.#groups, IN_FLIGHT, live, async ({ group, expected }) => {
      const manifests = await listPoints(catalog, group, live);
      const reader = seeds.reader({ group, ...DISK });
      if (manifests.length !== expected.length) throw new Error(`${group} has ${manifests.length} points`);
      for (const [index, { point, cutUs, disks }] of manifests.entries()) {
        const wanted = expected[index];
        const bytes = await reader.read(disks[0]?.snapshot ?? '', 0, DISK_BYTES, live);
        const isRight = wanted?.cutUs === cutUs && wanted.images[0]?.equals(bytes) === true;
        if (!isRight) throw new Error(`${group}: point ${point} is wrong`);
      }
      return manifests.length;
    });
    return counts.reduce((sum, count) => sum + count, 0);
  }

  close(): Promise<void> {
    return this.#runtime.close();
  }
}

/** Ends it, and reads what it says. @throws Error with its stderr when it ends badly */
export async function figuresOf(child: Child): Promise<WorkerFigures> {
  child.kill('SIGTERM');
  const { code, signal } = await child.ended;
  if (code !== 0) throw new Error(`ended with ${code ?? signal}: ${child.stderr}`);
  return JSON.parse(child.stdout) as WorkerFigures;
}

function randomEvents(random: Random): ModelEvent[] {
  return Array.from({ length: EVENTS }, () => ({
    gapUs: random.int(1, 100_000_000),
    what: random.pick(['write', 'write', 'write', 'discard']),
    sector: random.int(0, DISK_BYTES / 512 - 1),
    sectors: random.int(1, 32),
    fill: random.int(1, 255),
    disk: 0,
    lostOn: null,
    skewUs: 0,
    markKind: 'crash',
  }));
}
