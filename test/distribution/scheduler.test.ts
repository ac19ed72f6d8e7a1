import { afterEach, beforeEach, expect, it } from 'vitest';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { EVENT_SPAN_MS } from '../../src/distribution/orders.ts';
import { Scheduler } from '../../src/distribution/scheduler.ts';
import type { WorkQueue } from '../../src/distribution/work-queue.ts';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { MIB } from '../../src/model/sizes.ts';
import { systemClock } from '../../src/system-clock.ts';
import { live } from '../worker/discard-support.ts';
import { segmentSubject, useQueues } from './support.ts';

const queues = useQueues();
const PERIOD_MS = 60_000;
let nowMs: number;
let storage: ReturnType<typeof createMemoryStorage>;
const open: { close(): Promise<void> }[] = [];

beforeEach(async () => {
  nowMs = Date.now();
  storage = createMemoryStorage();
  await setPolicy(storage.catalog, 'p', {}, live);
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((queue) => queue.close()));
});

async function protect(...groups: readonly string[]): Promise<void> {
  const machines = [{ machine: 'web', disks: [{ disk: 'disk0', sizeBytes: MIB }] }];
  for (const group of groups) {
    await protectGroup(storage.catalog, { group, policy: 'p', machines, nowUs: nowMs * 1000 }, live);
  }
}

function newScheduler(queue: WorkQueue = queues().openWorkQueue(), withEvents = false): Scheduler {
  const events = withEvents ? queues().openCacheEvents() : undefined;
  open.push(queue, ...(events === undefined ? [] : [events]));
  const clock = { ...systemClock, nowUs: () => nowMs * 1000 };
  const ports = { catalog: storage.catalog, clock, random: () => 0.5 };
  const report = (error: unknown): never => {
    throw error;
  };
  return new Scheduler({ ports, queue, events, periodMs: PERIOD_MS, report });
}

/** Takes the messages of these sessions off the queue. */
async function take(messages: Awaited<ReturnType<ReturnType<typeof queues>['inLine']>>): Promise<void> {
  const { client } = queues();
  for (const session of new Set(messages.filter(({ isKeptBack }) => !isKeptBack).map((one) => one.session))) {
    const receiver = await client.acceptSession('commands', session);
    for (const message of await receiver.receiveMessages(10, { maxWaitTimeInMs: 100 })) {
      await receiver.completeMessage(message);
    }
    await receiver.close();
  }
}

const sessions = async (): Promise<string[]> => (await queues().inLine()).map(({ session }) => session).sort();

it('gives each group one turn a period, however many schedulers there are', async () => {
  await protect('a', 'b', 'c');
  await Promise.all([newScheduler().tick(live), newScheduler().tick(live), newScheduler().tick(live)]);
  expect(await sessions()).toEqual(['a', 'b', 'c']);
  const done = await queues().inLine();
  await take(done);
  await newScheduler().tick(live); // a late one, of the same period
  expect(await sessions()).toEqual([]);
  nowMs += PERIOD_MS;
  await newScheduler().tick(live);
  expect(await sessions()).toEqual(['a', 'b', 'c']);
});

it('adds nothing for a group whose turn is still in line, or being taken', async () => {
  await protect('a', 'b');
  const scheduler = newScheduler();
  await scheduler.tick(live);
  const held = await queues().client.acceptSession('commands', 'a');
  await held.receiveMessages(1);
  for (let period = 0; period < 5; period++) {
    nowMs += PERIOD_MS;
    await scheduler.tick(live);
  }
  expect(await sessions()).toEqual(['a', 'b']);
  expect(scheduler.counters).toEqual({ ticks: 6, orders: 2, events: 0 });
  await held.close();
});

it('takes up 700 groups in one tick', async () => {
  const groups = Array.from({ length: 700 }, (_, index) => `g${String(index).padStart(3, '0')}`);
  await protect(...groups);
  const scheduler = newScheduler();
  await scheduler.tick(live);
  nowMs += PERIOD_MS;
  await scheduler.tick(live); // looks beyond one page of what is in line
  expect(scheduler.counters.orders).toBe(700);
});

it('makes one turn, at the end of their span, of all events about a group', async () => {
  await protect('a', 'b', 'c');
  const scheduler = newScheduler(queues().openWorkQueue(), true);
  nowMs = Math.ceil(Date.now() / EVENT_SPAN_MS) * EVENT_SPAN_MS + 100 * EVENT_SPAN_MS; // kept back for longer than the test takes
  await scheduler.tick(live);
  await take(await queues().inLine());
  const stopping = new AbortController();
  const running = scheduler.run(stopping.signal);
  const { tell, inLine } = queues();
  await tell(segmentSubject('a', 1), segmentSubject('a', 2), segmentSubject('unknown'), 'no subject of ours');
  await tell(segmentSubject('b'), segmentSubject('a', 3));
  await expect.poll(() => scheduler.counters.events, { timeout: 10_000 }).toBe(6);
  await expect.poll(async () => (await inLine()).filter(({ isKeptBack }) => isKeptBack).length).toBe(2);
  const span = nowMs / EVENT_SPAN_MS;
  expect(
    (await inLine())
      .filter(({ isKeptBack }) => isKeptBack)
      .map(({ id }) => id)
      .sort(),
  ).toEqual([`event.a.${span}`, `event.b.${span}`]);
  stopping.abort();
  await running;
});
