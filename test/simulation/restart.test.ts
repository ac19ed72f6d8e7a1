/** Lives that chance meets too seldom: a point was committed, its worker died before noting it, and then something else happened. */
import { expect, it } from 'vitest';
import { setPolicy } from '../../src/catalog/policies.ts';
import { boundaryAtOrAfter } from '../../src/model/time.ts';
import { expectedPoints, START_US, streamsOf, type ModelEntry } from '../support/model-log.ts';
import { Crash, type Gate, type PortCall } from './gated-ports.ts';
import { MINUTE_MS } from './durations.ts';
import { LONG_SCENARIO, SHORT_SCENARIO } from './scenarios.ts';
import { Scheduler, virtualClock } from './scheduler.ts';
import { segmentsOf, signal, World } from './world.ts';

/** Dies when its `count`-th manifest of that kind is committed. */
class DiesAtManifest implements Gate {
  readonly #suffix: string;
  #left: number;
  isDead = false;

  constructor(kind: 'crash' | 'app', count: number) {
    this.#suffix = `-${kind}.json`;
    this.#left = count;
  }

  before(): void {
    if (this.isDead) throw new Crash('dead');
  }

  after({ name, args }: PortCall): void {
    if (name === 'catalog.create' && String(args[0]).endsWith(this.#suffix)) this.isDead = --this.#left <= 0;
    if (this.isDead) throw new Crash('dead');
  }
}

async function untilManifest(world: World, kind: 'crash' | 'app', count: number): Promise<void> {
  const gate = new DiesAtManifest(kind, count);
  await world.worker(gate).runOnce(signal);
  expect(gate.isDead).toBe(true);
  const points = await world.points();
  expect(points.filter(({ manifest }) => manifest.kind === kind)).toHaveLength(count);
}

it('a point that is committed and not noted lets no segment go that a restart still reads', async () => {
  const { streams, endUs } = streamsOf(SHORT_SCENARIO, 1);
  const world = await World.create({ diskCount: 1 });
  await world.shipAll(streams, [1], endUs);
  await untilManifest(world, 'app', 3);
  // To this worker the log seems to end where the last one stopped.
  const blind = world.worker(undefined, undefined, (ports) => ({
    ...ports,
    logStore: new Proxy(ports.logStore, {
      get: (target, key) => {
        if (key === 'list') return () => Promise.resolve([]);
        const member: unknown = Reflect.get(target, key);
        return typeof member === 'function' ? member.bind(target) : member;
      },
    }),
  }));
  expect(await blind.runOnce(signal)).toMatchObject([{ needsResync: false }]);
  expect(await world.drain()).toMatchObject({ needsResync: false });
  expect((await world.points()).length).toBeGreaterThan(4);
});

it('a point that is committed and not noted is the same one after more of the log has come', async () => {
  const { streams, endUs } = streamsOf(SHORT_SCENARIO, 1);
  const world = await World.create({ diskCount: 1 });
  const [shipper] = world.shippers();
  const segments = segmentsOf(streams[0] ?? [], [1], endUs);
  // Up to the first segment that reaches a five-minute boundary; then heartbeats that reach no further.
  const boundaryUs = Math.ceil((streams[0]?.[0]?.record.timeUs ?? 0) / 300_000_000) * 300_000_000;
  const reached = segments.findIndex((segment) => segment.endUs >= boundaryUs);
  for (const segment of segments.slice(0, reached + 1)) await shipper?.ship(segment.entries, segment.endUs, signal);
  await untilManifest(world, 'crash', 1);
  for (let heartbeat = 0; heartbeat < 3; heartbeat++) {
    await shipper?.ship([], segments[reached]?.endUs ?? 0, signal);
  }
  await world.drain();
  for (const segment of segments.slice(reached + 1)) await shipper?.ship(segment.entries, segment.endUs, signal);
  await world.drain();
  expect((await world.points()).length).toBeGreaterThan(4);
});

it('an owner whose opening was overtaken deletes no snapshot of the later owner, not even one of the same instant', async () => {
  const world = await World.create({ diskCount: 1 });
  const [shipper] = world.shippers();
  const { streams } = streamsOf([], 1);
  const boundaryUs = boundaryAtOrAfter(START_US);
  await shipper?.ship(streams[0] ?? [], boundaryUs, signal);
  await world.drain();
  const app = { kind: 'mark', timeUs: boundaryUs, markKind: 'app', id: 'on the boundary' } as const;
  const data = Buffer.alloc(512, 7);
  const write = (timeUs: number): ModelEntry => ({
    record: { kind: 'write', timeUs, offsetBytes: 0, lengthBytes: 512 },
    data,
  });
  await shipper?.ship([write(boundaryUs), { record: app }, write(boundaryUs + 1)], boundaryUs + 2, signal);

  let overtaken = false;
  const slow = world.worker({
    before: async ({ name }) => {
      if (name !== 'seed.listSnapshots' || overtaken) return;
      overtaken = true;
      await world.drain();
    },
    after: () => undefined,
  });
  expect(await slow.runOnce(signal)).toMatchObject([{ error: { code: 'OWNERSHIP_LOST' } }]);
  const points = await world.points();
  expect(points.map(({ manifest }) => `${manifest.cutUs} ${manifest.kind}`)).toEqual([
    `${boundaryUs} crash`,
    `${boundaryUs} app`,
  ]);
  expect(points.at(-1)?.images[0]?.subarray(0, 512)).toEqual(data);
});

it('a manifest that arrives after its point was pruned is not listed for longer than an hour, also while the group stays open', async () => {
  const { streams, endUs } = streamsOf(LONG_SCENARIO, 1);
  const world = await World.create({ diskCount: 1, policy: { retentionHours: 2, appConsistentHours: 1 } });
  await world.shipAll(streams, [1], endUs);
  const created = new Map<string, Buffer>();
  await world.drain({
    before: () => undefined,
    after: ({ name, args }) => {
      if (name === 'catalog.create' && String(args[0]).startsWith('points/'))
        created.set(String(args[0]), args[1] as Buffer);
    },
  });
  const names = () => world.storage.catalog.list('points/', signal);
  const listed = new Set(await names());
  const pruned = [...created.keys()].filter((name) => !listed.has(name) && name.endsWith('.json'));
  expect(pruned.length).toBeGreaterThan(3);

  const scheduler = new Scheduler();
  const clock = virtualClock(
    scheduler,
    () => START_US,
    () => true,
  );
  const stop = new AbortController();
  const work = world.worker(undefined, undefined, (ports) => ports, clock).run(stop.signal);
  await scheduler.runUntil(() => scheduler.nowMs >= MINUTE_MS, 100_000);
  for (const name of pruned) await world.storage.catalog.create(name, created.get(name) ?? Buffer.alloc(0), signal);
  await scheduler.runUntil(() => scheduler.nowMs >= 62 * MINUTE_MS, 100_000);
  stop.abort();
  await work;
  expect((await names()).filter((name) => pruned.includes(name))).toEqual([]);
});

it('a mark that was passed while marks were off makes no point later, whatever was on the seed and not noted', async () => {
  const { streams, endUs } = streamsOf(SHORT_SCENARIO, 1);
  const world = await World.create({ diskCount: 1, policy: { retentionHours: 360, appConsistentHours: 0 } });
  const [shipper] = world.shippers();
  const segments = segmentsOf(streams[0] ?? [], [4], endUs);
  const half = Math.ceil(segments.length / 2);
  for (const segment of segments.slice(0, half)) await shipper?.ship(segment.entries, segment.endUs, signal);
  // Dies with the bytes of its last window on the seed, and not noted.
  let isDead = false;
  let noted = 0;
  const dying: Gate = {
    before: ({ name }) => {
      if (name === 'catalog.replace' && ++noted > 3) isDead = true;
      if (isDead) throw new Crash('dead');
    },
    after: () => undefined,
  };
  await world.worker(dying).runOnce(signal);
  expect(isDead).toBe(true);
  await setPolicy(world.storage.catalog, 'p', { retentionHours: 360, appConsistentHours: 1 }, signal);
  await world.drain();
  const passed = (await world.points()).length;
  for (const segment of segments.slice(half)) await shipper?.ship(segment.entries, segment.endUs, signal);
  await world.drain();
  const points = await world.points();
  const expected = expectedPoints(streams, endUs, true);
  expect(points.slice(0, passed).every(({ manifest }) => manifest.kind === 'crash')).toBe(true);
  expect(points.slice(passed).some(({ manifest }) => manifest.kind === 'app')).toBe(true);
  for (const { manifest, images } of points) {
    const wanted = expected.find(({ cutUs, kind }) => cutUs === manifest.cutUs && kind === manifest.kind);
    expect(wanted?.images[0]?.equals(images[0] ?? Buffer.alloc(0)), manifest.point).toBe(true);
  }
});
