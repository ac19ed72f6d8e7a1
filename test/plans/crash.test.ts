/** An executor that dies at any call that changes something, and another one that goes on: the same end as an undisturbed run. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getGroup } from '../../src/catalog/groups.ts';
import type { PlanFile } from '../../src/plans/plan-file.ts';
import type { PlanPorts } from '../../src/plans/ports.ts';
import type { RunDocument } from '../../src/plans/run-document.ts';
import { useHookServer } from './hook-server.ts';
import { live, plan, planWorld, portsOf, QUIET, service, stepStates, type PlanWorld } from './support.ts';

const hook = useHookServer();
let folder: string;
let log: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidemark-plans-'));
  log = join(folder, 'log');
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(forget);

async function forget(): Promise<void> {
  hook.received.length = 0;
  await writeFile(log, '');
}

const ENVIRONMENT = { SECRET: 'hunter22' };
const GROUPS = { identity: 11, shop: 7 };

const thePlan = (): PlanFile =>
  plan({
    common: true,
    groups: [
      {
        name: 'base',
        pre: [{ type: 'webhook', name: 'notify', url: hook.url, secret: { env: 'SECRET' } }],
        failover: ['identity'],
      },
      {
        name: 'rest',
        failover: ['identity', 'shop'],
        post: [
          { type: 'manual', name: 'approve', instructions: 'look' },
          { type: 'script', name: 'check', command: ['/bin/sh', '-c', `echo "$TIDEMARK_IDEMPOTENCY_KEY" >> "${log}"`] },
        ],
      },
    ],
  });

/** What changes something outside of the process. */
const CHANGES: ReadonlySet<string> = new Set([
  'create',
  'replace',
  'delete',
  'takeLease',
  'release',
  'send',
  'copy',
  'remove',
  'importDisk',
  'uploadDisk',
  'createMachine',
  'deleteDisk',
  'deleteMachine',
  'webhook',
  'script',
]);

const SYNCHRONOUS: ReadonlySet<string> = new Set(['reader', 'url', 'importUrl', 'source']);

interface Mortal {
  readonly ports: PlanPorts;
  readonly died: () => string | undefined;
  /** What was changed: the call, and what it was about. */
  readonly changes: readonly string[];
  /** Where a process may die so that it matters. */
  readonly moments: () => readonly Moment[];
}

interface Moment {
  readonly at: number;
  readonly moment: 'before' | 'after';
}

/**
 * Before a change storage is as after the one before it, so that dying before one is told apart for the first and for actions only.
 * Of the changes that failover jobs make by themselves, every fifth is enough here: their own tests have them all.
 */
const momentsOf = (changes: readonly string[]): readonly Moment[] =>
  changes.flatMap((change, index): readonly Moment[] => {
    const at = index + 1;
    const isJobs = /(?:jobs|groups|failover)\//.test(change);
    const isAction = change.startsWith('webhook') || change.startsWith('script');
    const after: readonly Moment[] = isJobs && at % 5 !== 0 ? [] : [{ at, moment: 'after' }];
    return at === 1 || isAction ? [{ at, moment: 'before' }, ...after] : after;
  });

/** The ports of a process that dies at its n-th change: `before` it, or `after` it was done, with the answer lost. */
function mortal(world: PlanWorld, at: number, moment: 'before' | 'after'): Mortal {
  const changes: string[] = [];
  let died: string | undefined;
  const requireLife = (): void => {
    if (died !== undefined) throw new Error('this process is dead');
  };
  const wrap = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(_, property) {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        const method = value as (...args: unknown[]) => unknown;
        const name = String(property);
        if (SYNCHRONOUS.has(name)) return method.bind(target);
        return async (...args: unknown[]) => {
          requireLife();
          const call = CHANGES.has(name) ? changes.push(`${name} ${String(args[0])}`) : -1;
          if (call === at && moment === 'before') died = name;
          requireLife();
          const result = await method.apply(target, args);
          if (call === at) died = name;
          requireLife();
          return name === 'takeLease' || name === 'open' ? wrap(result as object) : result;
        };
      },
    });
  const { storage, topic, compute, clock } = world;
  const wrapped = {
    ...storage,
    catalog: wrap(storage.catalog),
    copies: wrap(storage.copies),
    seeds: wrap(storage.seeds),
  };
  const outside = { storage: wrapped, topic: wrap(topic), compute: wrap(compute), clock };
  const { ports } = portsOf(outside, ENVIRONMENT);
  return {
    ports: { ...ports, actions: wrap(ports.actions) },
    died: () => died,
    changes,
    moments: () => momentsOf(changes),
  };
}

/** What an operator does, from the begin; whoever repeats it goes on. */
async function operate(ports: PlanPorts): Promise<RunDocument> {
  const plans = service(ports);
  const { run } = await plans.start(thePlan(), { test: true, requestedBy: 'ada', idempotencyKey: 'k' }, live);
  const document = await plans.execute(run, QUIET, live);
  const ended = document.state === 'waiting' ? await approve(ports, run) : document;
  if (ended.state === 'failed') throw new Error(`the run has failed: ${JSON.stringify(ended.steps)}`);
  if (ended.state !== 'cleaned-up') await plans.cleanUp(run, live);
  return plans.execute(run, QUIET, live);
}

async function approve(ports: PlanPorts, run: string): Promise<RunDocument> {
  const about = { run, step: 'group-2/post/approve', by: 'grace', note: null };
  await service(ports).decide({ ...about, decision: 'approve' }, live);
  return service(ports).execute(run, QUIET, live);
}

/** All that is to be the same at the end. */
async function endOf({ storage, ports, compute }: PlanWorld, document: RunDocument): Promise<unknown> {
  const groups = Object.keys(GROUPS).map(async (group) => {
    const { failover, drill, lastDrill, pins } = await getGroup(storage.catalog, group, live);
    const jobs = await ports.commands.jobs(group, live);
    const disks = jobs.flatMap(({ result }) => (result?.['disks'] ?? []) as { name: string }[]);
    const left = await Promise.all(disks.map(({ name }) => compute.findDisk(name, live)));
    return {
      states: [failover?.state, drill?.state, lastDrill?.outcome],
      pins,
      jobs: jobs
        .map(({ job, command, state, point }) => ({ job, command, state, point }))
        .toSorted((a, b) => (a.job < b.job ? -1 : 1)),
      made: disks.length,
      left: left.filter((disk) => disk !== undefined),
    };
  });
  return {
    state: document.state,
    steps: stepStates(document),
    details: document.steps.map(({ job, approval, error, output, kind, usedPoint }) => [
      job,
      approval?.by,
      error,
      kind === 'choose-points' ? null : output,
      usedPoint,
    ]),
    points: document.points,
    unsent: document.outbox.queued,
    groups: await Promise.all(groups),
    copies: await storage.copies.list('failover/', live),
  };
}

/** Effects outside, by key: each at least once. */
async function effects(): Promise<{ readonly keys: ReadonlySet<string>; readonly count: number }> {
  const scripts = (await readFile(log, 'utf8')).split('\n').filter((line) => line !== '');
  const hooks = hook.received.map(({ headers }) => String(headers['idempotency-key']));
  return { keys: new Set([...scripts, ...hooks]), count: scripts.length + hooks.length };
}

describe('an executor that dies', () => {
  it('at any change is followed by one that comes to the same end', async () => {
    const calm = await planWorld(GROUPS, ENVIRONMENT);
    const counting = mortal(calm, 0, 'before');
    const expected = await endOf(calm, await operate(counting.ports));
    expect(expected).toMatchObject({ state: 'cleaned-up', unsent: [], copies: [] });
    const once = await effects();
    expect(once).toMatchObject({ count: 2, keys: { size: 2 } });
    const total = counting.changes.length;
    expect(total).toBeGreaterThan(100);
    const seen = new Set<string>();
    for (const { at, moment } of counting.moments()) {
      await forget();
      const world = await planWorld(GROUPS, ENVIRONMENT);
      const first = mortal(world, at, moment);
      await operate(first.ports).catch(() => undefined);
      const where = `${moment} change ${at} of ${total}, ${first.died() ?? 'none'}`;
      expect(first.died(), where).toBeDefined();
      seen.add(first.died() ?? '');
      expect(await endOf(world, await operate(world.ports)), where).toEqual(expected);
      const { keys, count } = await effects();
      expect(keys, where).toEqual(once.keys);
      expect(count, where).toBeLessThanOrEqual(3);
    }
    for (const name of ['create', 'replace', 'takeLease', 'send', 'importDisk', 'deleteDisk', 'webhook', 'script']) {
      expect(seen).toContain(name);
    }
  });
});
