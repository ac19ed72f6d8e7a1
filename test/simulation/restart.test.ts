/** Lives that chance meets too seldom: a point was committed, its worker died before noting it, and then something else happened. */
import { expect, it } from 'vitest';
import { streamsOf } from '../support/model-log.ts';
import { Crash, type Gate, type PortCall } from './gated-ports.ts';
import { SHORT_SCENARIO } from './scenarios.ts';
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
