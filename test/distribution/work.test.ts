/** Processes that share groups by the sessions of one queue: the real broker, the real loops, storage in memory. */
import { randomUUID } from 'node:crypto';
import { afterEach, expect, it } from 'vitest';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { cycleOrder, type Order } from '../../src/distribution/orders.ts';
import { Work, type WorkOptions } from '../../src/distribution/work.ts';
import type { FailoverPorts } from '../../src/failover/ports.ts';
import { createCommandService } from '../../src/failover/service.ts';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemorySurvey } from '../../src/memory/memory-survey.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { MIB } from '../../src/model/sizes.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { systemClock } from '../../src/system-clock.ts';
import type { WorkerPorts } from '../../src/worker/ports.ts';
import { Worker } from '../../src/worker/worker.ts';
import { interceptPorts, type Around } from '../simulation/gated-ports.ts';
import { DISK_BYTES, ModelShipper, START_US, streamsOf } from '../support/model-log.ts';
import { live } from '../worker/discard-support.ts';
import { TcpProxy } from '../processes/tcp-proxy.ts';
import { useQueues } from './support.ts';

const queues = useQueues('PT5S');
const running: { readonly stop: () => Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map(({ stop }) => stop()));
});

const storage = createMemoryStorage();
const topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
const survey = new MemorySurvey(storage);
const ports: WorkerPorts = { ...storage, topic, clock: systemClock, random: () => 0.5 };
const SETTINGS = {
  payloadBudgetBytes: 64 * MIB,
  requestsPerDisk: 4,
  requestsPerAccount: 8,
  rate: undefined,
  key: undefined,
};
const createPoint: FailoverPorts['createPoint'] = (group, at, signal) =>
  new Worker({ ports, settings: SETTINGS, groups: [group], report: () => undefined }).createPoint(group, at, signal);
let made = 0;

/** Groups of one disk with a log that has two boundaries in it. */
async function protect(count: number): Promise<string[]> {
  await setPolicy(storage.catalog, 'p', { appConsistentHours: 0 }, live);
  const groups = Array.from({ length: count }, () => `g${++made}`);
  const {
    streams: [entries = []],
  } = streamsOf([], 1);
  for (const group of groups) {
    const machines = [{ machine: 'web', disks: [{ disk: 'disk0', sizeBytes: DISK_BYTES }] }];
    await protectGroup(storage.catalog, { group, policy: 'p', machines, nowUs: START_US }, live);
    const shipper = new ModelShipper({ group, machine: 'web', disk: 'disk0', epoch: 1 }, storage.logUpload);
    await shipper.ship(entries, START_US + 1, live);
    await shipper.ship([], START_US + 600_000_000, live);
  }
  return groups;
}

async function order(...orders: readonly Order[]): Promise<void> {
  const queue = queues().openWorkQueue();
  await queue.send(orders, live);
  await queue.close();
}

const orderAll = (groups: readonly string[]): Promise<void> =>
  order(...groups.map((group) => cycleOrder(group, 60_000, Date.now())));

interface Started {
  readonly work: Work;
  readonly errors: unknown[];
  readonly stop: () => Promise<void>;
}

function start(around: Around = (call, perform) => perform(call.args), more: Partial<WorkOptions> = {}): Started {
  const errors: unknown[] = [];
  const stopping = new AbortController();
  const work = new Work({
    ...queues(),
    ports: { ...interceptPorts(ports, around), survey },
    settings: SETTINGS,
    scheduling: { periodMs: 60_000, groupsAtOnce: 4 },
    commands: createCommandService({ ...ports, compute: undefined, createPoint, newId: randomUUID }),
    report: ({ error }) => void (error !== undefined && errors.push(error)),
    reportError: (error) => void errors.push(error),
    ...more,
  });
  const ended = work.run(stopping.signal);
  const started = {
    work,
    errors,
    stop: async () => {
      stopping.abort(new Error('SIGTERM'));
      await ended;
    },
  };
  running.push(started);
  return started;
}

const cutsOf = async (group: string): Promise<number[]> =>
  (await listPoints(storage.catalog, group, live)).map(({ cutUs }) => cutUs - START_US);

const untilDone = (): Promise<void> =>
  expect.poll(async () => (await queues().inLine()).length, { timeout: 30_000, interval: 50 }).toBe(0);

it('two workers share the groups, and none is in two hands', async () => {
  const groups = await protect(24);
  const owners = new Map<string, object>();
  const overlaps: string[] = [];
  const watched = (): Around => {
    const me = {};
    return async (call, perform) => {
      const group = /^progress\/(.+)\.json$/.exec(String(call.opener?.args[0] ?? call.args[0]))?.[1];
      if (group !== undefined && call.name === 'catalog.takeLease') {
        if (owners.has(group)) overlaps.push(group);
        owners.set(group, me);
      }
      if (group !== undefined && call.name === 'lease.release') owners.delete(group);
      return perform(call.args);
    };
  };
  const [one, other] = [start(watched()), start(watched())];
  await orderAll(groups);
  await untilDone();
  for (const group of groups) expect(await cutsOf(group)).toEqual([240_000_000, 540_000_000]);
  expect(overlaps).toEqual([]);
  expect(one.work.counters.turns + other.work.counters.turns).toBe(groups.length);
  expect(Math.min(one.work.counters.turns, other.work.counters.turns)).toBeGreaterThan(groups.length / 8);
  expect([...one.errors, ...other.errors]).toEqual([]);
});

it('orders that one turn has done are not done again', async () => {
  const [group = ''] = await protect(1);
  const now = Date.now();
  await order(...[0, 1, 2, 3].map((period) => cycleOrder(group, 60_000, now + period * 60_000)));
  const { work } = start();
  await untilDone();
  expect(work.counters).toEqual({ turns: 1, contained: 3 });
  expect(await cutsOf(group)).toEqual([240_000_000, 540_000_000]);
});

it('a group that fails does not keep its message, nor others waiting', async () => {
  const groups = await protect(4);
  const [broken = '', ...sound] = groups;
  const { errors } = start(async (call, perform) => {
    if (String(call.args[0]) === `progress/${broken}.json`) throw new Error('broken');
    return perform(call.args);
  });
  await orderAll(groups);
  await untilDone();
  for (const group of sound) expect(await cutsOf(group)).toEqual([240_000_000, 540_000_000]);
  expect(await cutsOf(broken)).toEqual([]);
  expect(errors).toHaveLength(1);
  expect(await queues().deadLetters()).toBe(0);
});

it('a turn that is told to end orders its rest, and the next worker does it', async () => {
  const [group = ''] = await protect(1);
  const draining = new AbortController();
  const first = start(
    async (call, perform) => {
      const result = await perform(call.args);
      if (call.name === 'catalog.create' && String(call.args[0]).startsWith(`points/${group}/`)) draining.abort();
      return result;
    },
    { draining: draining.signal },
  );
  await orderAll([group]);
  await expect.poll(() => cutsOf(group), { timeout: 10_000 }).toEqual([240_000_000]);
  await expect.poll(async () => (await queues().inLine()).map(({ id }) => id.split('.')[0])).toEqual(['more']);
  await first.stop();
  start();
  await untilDone();
  expect(await cutsOf(group)).toEqual([240_000_000, 540_000_000]);
});

it('a worker that is cut off from the queue loses its group to the next one, and can write nothing more', async () => {
  const [group = ''] = await protect(1);
  const proxy = await TcpProxy.start(queues().port, () => 1);
  const gate = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const late: string[] = [];
  const first = start(async (call, perform) => {
    if (call.name !== 'seed.snapshot') return perform(call.args);
    begun.resolve();
    await gate.promise;
    return perform(call.args).finally(() => late.push(call.name));
  }, queues().through(proxy.port));
  await orderAll([group]);
  await begun.promise;
  await proxy.close();
  start();
  await expect.poll(() => cutsOf(group), { timeout: 10_000 }).toEqual([240_000_000, 540_000_000]);
  const points = await listPoints(storage.catalog, group, live);
  gate.resolve();
  await expect
    .poll(() => first.errors.some((error) => (error as { code?: string }).code === 'OWNERSHIP_LOST'))
    .toBe(true);
  expect(late).toEqual(['seed.snapshot']);
  expect(await listPoints(storage.catalog, group, live)).toEqual(points);
});

it('a command between two turns has the group for itself', async () => {
  const [group = ''] = await protect(1);
  const body = Buffer.from(JSON.stringify({ command: 'create-point', at: 'latest' }));
  const command = { sessionId: group, messageId: 'now', contentType: 'application/json', body };
  const now = Date.now();
  await orderAll([group]);
  await queues().client.createSender('commands').sendMessages(command);
  await order(cycleOrder(group, 60_000, now + 60_000));
  const { errors, work } = start();
  await untilDone();
  expect(await cutsOf(group)).toEqual([240_000_000, 540_000_000, 600_000_000]);
  expect(errors).toEqual([]);
  expect(work.counters.turns).toBe(2);
});

/** Does not wait for a queue that cannot be reached; the waits of leases stay what they are. */
const impatient: WorkerPorts['clock'] = {
  ...systemClock,
  sleep: (ms, signal) => systemClock.sleep(ms === 20_000 || ms > 30_000 ? ms : 1, signal),
};

it('goes on without the queue while it cannot be reached, and leaves alone what somebody else owns', async () => {
  const [free = '', owned = ''] = await protect(2);
  const stopped = new AbortController();
  stopped.abort();
  const owner = new Worker({ ports, settings: SETTINGS, groups: [], report: () => undefined });
  await owner.turn(owned, stopped.signal, live); // owns it, and has done nothing yet
  const { errors } = start(undefined, { ...queues().through(1), ports: { ...ports, survey, clock: impatient } });
  await expect.poll(() => cutsOf(free), { timeout: 10_000 }).toEqual([240_000_000, 540_000_000]);
  expect(await cutsOf(owned)).toEqual([]);
  await owner.giveBack(owned);
  await expect.poll(() => cutsOf(owned), { timeout: 10_000 }).toEqual([240_000_000, 540_000_000]);
  expect(errors).toMatchObject([{ code: 'MESSAGING_UNAVAILABLE' }]);
});
