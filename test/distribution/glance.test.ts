/** Turns of a group of which little or nothing is heard: what they ask storage for, and what opens the group. */
import { beforeEach, expect, it } from 'vitest';
import { disableGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { MIB } from '../../src/model/sizes.ts';
import { listPoints } from '../../src/points/point-store.ts';
import type { WorkerPorts } from '../../src/worker/ports.ts';
import type { Worker } from '../../src/worker/worker.ts';
import { interceptPorts, MUTATING } from '../simulation/gated-ports.ts';
import { ModelShipper, START_US as LOG_START_US, streamsOf } from '../support/model-log.ts';
import {
  GROUP,
  live,
  MINUTE_US,
  newWorker,
  newWorld,
  protect,
  run,
  ship,
  START_US,
  type World,
} from '../worker/discard-support.ts';

let world: World;
let ports: WorkerPorts;
let worker: Worker;
let nowUs: number;
const calls: string[] = [];
const events: string[] = [];

beforeEach(async () => {
  nowUs = START_US + 11 * MINUTE_US;
  world = await newWorld();
  await protect(world, ['disk0', 'disk1'], MIB);
  const seen = interceptPorts(
    { ...world.ports, clock: { ...world.ports.clock, nowUs: () => nowUs } },
    (call, perform) => {
      calls.push(`${call.name} ${String(call.args[0])}`);
      return perform(call.args);
    },
  );
  ports = seen;
  events.length = 0;
  worker = newWorker(ports, (some) => events.push(...some.map(({ type }) => type)));
});

/** What a turn asks storage for. */
async function turn(): Promise<{
  readonly hasMore: boolean;
  readonly calls: readonly string[];
  readonly opened: boolean;
}> {
  calls.length = 0;
  const { outcome, hasMore } = await worker.turn(GROUP, live, live);
  await worker.giveBack(GROUP);
  expect(outcome.error).toBeUndefined();
  return { hasMore, calls: [...calls], opened: calls.some((call) => call.startsWith('catalog.takeLease')) };
}

const cuts = async (): Promise<number[]> =>
  (await listPoints(world.storage.catalog, GROUP, live)).map(({ cutUs }) => cutUs);

it('a group with a new log is opened, and its points are made', async () => {
  await ship(world, { startUs: START_US, seed: 1 });
  expect(await turn()).toMatchObject({ opened: true, hasMore: false });
  expect(await cuts()).toEqual([0, 5, 10].map((minutes) => START_US + minutes * MINUTE_US));
});

it('an idle group costs the same few reads, however many points it has', async () => {
  await turn();
  const before = await turn();
  await ship(world, { startUs: START_US, seed: 1 });
  await turn();
  const after = await turn();
  expect(after).toEqual(before);
  expect(after.opened).toBe(false);
  expect(after.calls).toEqual([
    `catalog.read groups/${GROUP}.json`,
    'catalog.read policies/p.json',
    `catalog.read progress/${GROUP}.json`,
    'log.list [object Object]', // one per disk
    'log.list [object Object]',
  ]);
});

it('it is opened to report its lag every five minutes', async () => {
  await ship(world, { startUs: START_US, seed: 1 });
  await turn();
  nowUs += 5 * MINUTE_US - 1;
  expect((await turn()).opened).toBe(false);
  events.length = 0;
  nowUs += 1;
  expect((await turn()).opened).toBe(true);
  expect(events).toEqual(['LagReported']);
  expect((await turn()).opened).toBe(false);
});

it('it is opened in the minute that its health changes', async () => {
  await ship(world, { startUs: START_US, seed: 1 });
  await turn();
  nowUs = START_US + 24 * MINUTE_US;
  await turn(); // for its lag
  events.length = 0;
  nowUs = START_US + 27 * MINUTE_US; // more than 15 after the last heartbeat, less than 5 after the last report
  expect((await turn()).opened).toBe(true);
  expect(events).toEqual(['RpoThresholdExceeded', 'HealthChanged', 'LagReported']); // one opening tells all
});

it('it is opened for what an owner has not lived to do', async () => {
  await ship(world, { startUs: START_US, seed: 1 });
  const down = interceptPorts(ports, async (call, perform) => {
    if (call.name === 'topic.send') throw new Error('killed');
    return perform(call.args);
  });
  const killed = await newWorker(down).turn(GROUP, live, live);
  expect(killed.outcome.error).toBeDefined();
  expect((await turn()).opened).toBe(true);
  expect((await turn()).opened).toBe(false);
});

it('it is opened when its policy turns app-consistent points on', async () => {
  await ship(world, { startUs: START_US, seed: 1 });
  await turn();
  await setPolicy(world.storage.catalog, 'p', { retentionHours: 24, appConsistentHours: 1 }, live);
  expect((await turn()).opened).toBe(true);
  expect((await turn()).opened).toBe(false);
});

it('a disabled group is ended', async () => {
  await ship(world, { startUs: START_US, seed: 1 });
  await turn();
  await disableGroup(world.storage.catalog, GROUP, { keepPoints: false, nowUs }, live);
  events.length = 0;
  await turn();
  expect(await cuts()).toEqual([]);
  expect(events).toContain('StateChanged');
});

it('it misses no point that an owner has left, wherever that one died', async () => {
  let wasIdle = 0;
  for (let calls = 1; ; calls++) {
    const left = await killedAfter(calls);
    const before = await left.points();
    await newWorker(left.ports).turn(GROUP, live, live);
    const afterGlance = await left.points();
    await run(left.ports);
    expect(await left.points(), `killed after ${calls} changes`).toEqual(afterGlance);
    expect(afterGlance).toHaveLength(2);
    if (before.length === 2) wasIdle++;
    if (!left.died) break;
  }
  expect(wasIdle).toBeGreaterThan(1);
});

/** A group whose owner dies after so many changes, on its way through two boundaries; its lag was reported by an owner before. */
async function killedAfter(changes: number) {
  const fresh = await newWorld();
  const clock = { ...fresh.ports.clock, nowUs: () => LOG_START_US + 10 * MINUTE_US };
  const broken: World = { ...fresh, ports: { ...fresh.ports, clock } };
  await protect(broken, ['disk0'], MIB);
  const {
    streams: [entries = []],
  } = streamsOf([], 1);
  const shipper = new ModelShipper({ group: GROUP, machine: 'web', disk: 'disk0', epoch: 1 }, broken.storage.logUpload);
  await shipper.ship(entries, LOG_START_US + 1, live);
  await newWorker(broken.ports).turn(GROUP, live, live);
  await shipper.ship([], LOG_START_US + 10 * MINUTE_US, live);
  let left = changes;
  const dying = interceptPorts(broken.ports, async (call, perform) => {
    if (left === 0) throw new Error('killed');
    if (MUTATING.has(call.name)) left--;
    return perform(call.args);
  });
  await newWorker(dying).turn(GROUP, live, live);
  return {
    ports: broken.ports,
    died: left === 0,
    points: async () => (await listPoints(broken.storage.catalog, GROUP, live)).map(({ point }) => point),
  };
}
