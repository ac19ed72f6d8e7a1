/** An account that refuses a part of all requests for now: the drain takes longer, and nothing else. */
import { afterAll, expect, it } from 'vitest';
import type { Waiting } from '../../src/apply/rate-limit.ts';
import { CALL_TIMES } from '../../src/azure/blob-account.ts';
import { connect, type Storage } from '../../src/azure/connect.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { MIB } from '../../src/model/sizes.ts';
import { Worker, type GroupOutcome } from '../../src/worker/worker.ts';
import { checkedCuts, GROUP, live, MINUTE_US, newWorld, protect, ship, START_US } from '../worker/discard-support.ts';
import { Random } from '../simulation/random.ts';
import { useAccounts } from './accounts.ts';
import { FaultyProxy } from './faulty-proxy.ts';

const SEED = 20;
const accounts = useAccounts();
const open: { close(): unknown }[] = [];
afterAll(async () => {
  for (const each of open) await each.close();
});

/** Who sleeps makes time pass, so that nobody has to. */
function hastyClock(): Waiting {
  let nowMs = 0;
  return {
    nowMs: () => nowMs,
    sleep: async (ms) => {
      nowMs += ms;
    },
  };
}

function connectThrough(port: number | undefined): Storage {
  const storage = connect({
    cache: accounts().access('cache', port),
    replica: accounts().access('replica', port),
    waiting: hastyClock(),
    // Each sleep of one request makes time pass for all that wait beside it.
    times: { ...CALL_TIMES, patienceMs: 3_600_000 },
  });
  open.push(storage);
  return storage;
}

it(`makes every point in one cycle, without an error, through an account that refuses a third of all requests, seed ${SEED}`, async () => {
  const proxy = await FaultyProxy.start(accounts().port);
  open.push(proxy);
  const world = await newWorld(connectThrough(undefined));
  const first = { startUs: START_US, seed: 1 };
  await protect(world, ['disk0', 'disk1'], 2 * MIB);
  await ship(world, first);

  const random = new Random(SEED);
  let refused = 0;
  proxy.rule = () => {
    if (random.chance(2 / 3)) return 'pass';
    return { status: ++refused % 2 === 0 ? 503 : 429, headers: { 'retry-after': '1' } };
  };
  const outcomes: GroupOutcome[] = [];
  const worker = new Worker({
    ports: {
      ...connectThrough(proxy.port),
      topic: new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 }),
      // Renewals would end with the worker; nothing here takes long enough for one.
      clock: world.ports.clock,
      random: Math.random,
    },
    settings: {
      payloadBudgetBytes: 64 * MIB,
      requestsPerDisk: 4,
      requestsPerAccount: 8,
      rate: undefined,
      key: undefined,
    },
    groups: [GROUP],
    report: (outcome) => outcomes.push(outcome),
  });
  expect(await worker.runOnce(live)).toEqual([{ group: GROUP, needsResync: false }]);
  expect(outcomes).toEqual([]);
  expect(refused).toBeGreaterThan(20);
  expect(await checkedCuts(world, { 1: first })).toEqual([0, 5, 10].map((minutes) => START_US + minutes * MINUTE_US));
});
