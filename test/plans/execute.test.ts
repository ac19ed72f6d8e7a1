import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { getGroup, pinPoint } from '../../src/catalog/groups.ts';
import { TidemarkError } from '../../src/errors.ts';
import type { PlanPorts } from '../../src/plans/ports.ts';
import type { RunDocument } from '../../src/plans/run-document.ts';
import { ScriptFailure } from '../../src/plans/script.ts';
import { noContent, useHookServer } from './hook-server.ts';
import {
  live,
  plan,
  planMessages,
  planWorld,
  portsOf,
  QUIET,
  runPlan,
  service,
  stepStates,
  type PlanWorld,
} from './support.ts';

const hook = useHookServer();
let folder: string;
let log: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidemark-plans-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(async () => {
  hook.received.length = 0;
  hook.answer = noContent;
  log = join(folder, 'log');
  await rm(log, { force: true });
});

const notify = () => ({ type: 'webhook', name: 'notify', url: hook.url, secret: { env: 'SECRET' } });
const APPROVE = { type: 'manual', name: 'approve', instructions: 'look at it' };
/** Appends a line to the log. */
const write = (name: string, more: object = {}) => ({
  type: 'script',
  name,
  command: ['/bin/sh', '-c', `echo "$TIDEMARK_STEP $TIDEMARK_IDEMPOTENCY_KEY $TIDEMARK_TEST" >> "${log}"; echo done`],
  ...more,
});
const lines = async (): Promise<string[]> => (await readFile(log, 'utf8').catch(() => '')).split('\n').filter(Boolean);

const full = () =>
  plan({
    groups: [
      { name: 'base', pre: [notify()], failover: ['identity'] },
      { name: 'rest', failover: ['identity', 'shop'], post: [APPROVE, write('check')] },
    ],
  });

const GROUPS = { identity: 11, shop: 11 };

const drills = async ({ storage }: PlanWorld): Promise<string[]> => {
  const states = Object.keys(GROUPS).map(async (group) => {
    const { failover, drill } = await getGroup(storage.catalog, group, live);
    return `${group} ${failover?.state ?? 'none'} ${drill?.state ?? 'none'}`;
  });
  return Promise.all(states);
};

const jobs = async ({ ports }: PlanWorld, group: string): Promise<string[]> =>
  (await ports.commands.jobs(group, live)).map(({ command, state }) => `${command} ${state}`);

async function approve(
  ports: PlanPorts,
  { run }: RunDocument,
  step = 'group-2/post/approve',
  decision: 'approve' | 'reject' = 'approve',
) {
  await service(ports).decide({ run, step, decision, by: 'grace', note: 'it boots' }, live);
  return service(ports).execute(run, QUIET, live);
}

describe('a test run', () => {
  it('fails over in order, waits for an approval, ends, and is cleaned up', async () => {
    const world = await planWorld(GROUPS);
    const waiting = await runPlan(world.ports, full());
    expect(waiting.state).toBe('waiting');
    expect(stepStates(waiting)).toEqual([
      'group-1/pre/notify: done',
      'group-1/failover/identity: done',
      'group-2/failover/identity: done',
      'group-2/failover/shop: done',
      'group-2/post/approve: waiting',
      'group-2/post/check: pending',
    ]);
    expect(await drills(world)).toEqual(['identity none tested', 'shop none tested']);
    expect(await lines()).toEqual([]);
    expect((await service(world.ports).execute(waiting.run, QUIET, live)).state).toBe('waiting');

    const done = await approve(world.ports, waiting);
    expect(done.state).toBe('succeeded');
    expect(done.steps[4]?.approval).toMatchObject({ decision: 'approve', by: 'grace', note: 'it boots' });
    expect(done.steps[5]).toMatchObject({ state: 'done', output: 'done\n' });
    const key = (step: string) => `plan:${done.run}:${step}`;
    expect(await lines()).toEqual([`group-2/post/check ${key('group-2/post/check')} true`]);
    expect(hook.received.map(({ headers, body }) => [headers['idempotency-key'], JSON.parse(body)])).toEqual([
      [
        key('group-1/pre/notify'),
        { run: done.run, plan: 'p', step: 'group-1/pre/notify', group: 'base', phase: 'pre', test: true, points: {} },
      ],
    ]);
    expect(done.steps[2]?.job).toBe(done.steps[1]?.job);
    expect(await jobs(world, 'identity')).toEqual(['test-failover succeeded']);

    await service(world.ports).cleanUp(done.run, live);
    const cleaned = await service(world.ports).execute(done.run, QUIET, live);
    expect(cleaned.state).toBe('cleaned-up');
    expect(await drills(world)).toEqual(['identity none none', 'shop none none']);
    await expect(service(world.ports).cleanUp(done.run, live)).rejects.toMatchObject({ code: 'PLAN_STATE' });
    expect((await service(world.ports).list(live)).map(({ run }) => run)).toEqual([done.run]);
  });

  it('tells its steps as messages, each after its fact', async () => {
    const world = await planWorld(GROUPS);
    await approve(world.ports, await runPlan(world.ports, full()));
    const said = await planMessages(world);
    expect(said.filter((text) => !text.includes('/'))).toEqual(['running', 'waiting', 'running', 'succeeded']);
    expect(said.filter((text) => text.includes('/'))).toEqual([
      'group-1/pre/notify done',
      'group-1/failover/identity done',
      'group-2/failover/identity done',
      'group-2/failover/shop done',
      'group-2/post/approve waiting',
      'group-2/post/approve done',
      'group-2/post/check done',
    ]);
  });

  it('that waits goes on once somebody approves, when its executor stays', async () => {
    const world = await planWorld(GROUPS);
    const plans = service(world.ports);
    const { run } = await plans.start(full(), { test: true, requestedBy: 'ada' }, live);
    const decisions: Promise<unknown>[] = [];
    const onProgress = ({ state }: RunDocument): void => {
      if (state !== 'waiting' || decisions.length > 0) return;
      decisions.push(
        plans.decide({ run, step: 'group-2/post/approve', decision: 'approve', by: 'grace', note: null }, live),
      );
    };
    expect((await plans.execute(run, { wait: true, onProgress }, live)).state).toBe('succeeded');
    expect(decisions).toHaveLength(1);
  });

  it('waits for no message: what Service Bus does not take is sent later', async () => {
    const world = await planWorld({ shop: 11 });
    let isDown = true;
    const topic = {
      ...world.ports.topic,
      send: async (...args: Parameters<typeof world.topic.send>): Promise<void> => {
        if (isDown) throw new TidemarkError('MESSAGING_UNAVAILABLE', 'nobody answers');
        await world.topic.send(...args);
      },
    };
    const ports = { ...world.ports, topic };
    const done = await runPlan(ports, plan({ groups: [{ name: 'g', pre: [write('a')], failover: ['shop'] }] }));
    expect(done.state).toBe('succeeded');
    expect(done.outbox.queued.map(({ type }) => type)).toEqual([
      'PlanRunChanged',
      'PlanStepChanged',
      'PlanStepChanged',
      'PlanRunChanged',
    ]);
    expect(await planMessages(world)).toEqual([]);
    isDown = false;
    expect((await service(ports).execute(done.run, QUIET, live)).outbox.queued).toEqual([]);
    expect(await planMessages(world)).toEqual([
      'running',
      'group-1/pre/a done',
      'group-1/failover/shop done',
      'succeeded',
    ]);
  });

  it('takes the address of a webhook, too, from where secrets are, and shows neither', async () => {
    const world = await planWorld({ shop: 11 }, { SECRET: 'hunter22', ADDRESS: `${hook.url}?sig=topsecret` });
    hook.answer = (response) => void response.writeHead(403).end();
    const pre = [{ ...notify(), url: { env: 'ADDRESS' } }];
    const failed = await runPlan(world.ports, plan({ groups: [{ name: 'g', pre, failover: ['shop'] }] }));
    expect(hook.received.map(({ path }) => path)).toEqual(['/hook?sig=topsecret']);
    const journal = await world.storage.catalog.read(`runs/${failed.run}.json`, live);
    expect(failed.steps[0]?.error?.message).toContain('answered 403');
    expect(journal?.bytes.toString()).not.toMatch(/hunter22|topsecret/);
    expect(JSON.stringify(await planMessages(world))).not.toMatch(/hunter22|topsecret/);
  });

  it('leaves out what is not for tests, and does what is only for them', async () => {
    const world = await planWorld({ shop: 11 });
    const post = [write('a', { skipInTest: true }), write('b', { testOnly: true })];
    const file = plan({ groups: [{ name: 'g', failover: ['shop'], post }] });
    expect(stepStates(await runPlan(world.ports, file)).slice(1)).toEqual([
      'group-1/post/a: skipped',
      'group-1/post/b: done',
    ]);
    const real = await runPlan(world.ports, file, { test: false });
    expect(stepStates(real).slice(1)).toEqual(['group-1/post/a: done', 'group-1/post/b: skipped']);
    expect((await getGroup(world.storage.catalog, 'shop', live)).failover?.state).toBe('failed-over');
    await expect(service(world.ports).cleanUp(real.run, live)).rejects.toMatchObject({ code: 'PLAN_STATE' });
  });

  it('cleans up only its own test failovers, in any state', async () => {
    const world = await planWorld(GROUPS);
    const { run } = await runPlan(world.ports, full());
    const own = await world.ports.commands.submit(
      { command: 'cleanup-test-failover', group: 'shop' },
      { requestedBy: 'x' },
      live,
    );
    await world.ports.commands.execute('shop', own.job, {}, live);
    const other = await world.ports.commands.submit(
      { command: 'test-failover', group: 'shop', point: 'latest-processed' },
      { requestedBy: 'x' },
      live,
    );
    await world.ports.commands.execute('shop', other.job, {}, live);
    await service(world.ports).cleanUp(run, live);
    expect((await service(world.ports).execute(run, QUIET, live)).state).toBe('cleaned-up');
    expect(await drills(world)).toEqual(['identity none none', 'shop none tested']);
  });
});

describe('a run that fails', () => {
  it('stops, and goes on where it stopped', async () => {
    const world = await planWorld(GROUPS);
    hook.answer = (response) => void response.writeHead(400).end();
    const failed = await runPlan(world.ports, full());
    expect(failed.state).toBe('failed');
    expect(failed.steps[0]).toMatchObject({ state: 'failed', error: { code: 'PLAN_STEP_FAILED' } });
    expect(
      stepStates(failed)
        .slice(1)
        .every((text) => text.endsWith('pending')),
    ).toBe(true);
    expect(await drills(world)).toEqual(['identity none none', 'shop none none']);
    hook.answer = noContent;
    const resumed = await service(world.ports).execute(failed.run, QUIET, live);
    expect(resumed.state).toBe('waiting');
    expect(resumed.steps[0]).toMatchObject({ state: 'done', error: null });
  });

  it('at a failover goes on with the same job', async () => {
    const world = await planWorld({ shop: 11 });
    let isRefused = true;
    const compute = new Proxy(world.compute, {
      get: (target, property) => {
        const member: unknown = Reflect.get(target, property, target);
        if (typeof member !== 'function') return member;
        return async (...args: unknown[]) => {
          if (isRefused && property !== 'findDisk') throw new TidemarkError('COMPUTE_REFUSED', 'over quota');
          return (member as (...args: unknown[]) => unknown).apply(target, args);
        };
      },
    });
    const { ports } = portsOf({ ...world, compute }, {});
    const failed = await runPlan(ports, plan({ groups: [{ name: 'g', failover: ['shop'] }] }));
    const [step] = failed.steps;
    expect(failed.state).toBe('failed');
    expect(step?.error?.code).toBe('COMPUTE_REFUSED');
    expect(step?.error?.message).toContain(`job ${step?.job} failed: over quota`);
    expect(await jobs(world, 'shop')).toEqual(['test-failover failed']);
    isRefused = false;
    const resumed = await service(ports).execute(failed.run, QUIET, live);
    expect(resumed).toMatchObject({ state: 'succeeded', steps: [{ job: step?.job, error: null }] });
    expect(await jobs(world, 'shop')).toEqual(['test-failover succeeded']);
    expect(await planMessages(world)).toEqual([
      'running',
      'group-1/failover/shop failed',
      'failed',
      'running',
      'group-1/failover/shop done',
      'succeeded',
    ]);
  });

  it('goes past what may fail, and says so', async () => {
    const world = await planWorld({ shop: 11 });
    const bad = { ...write('bad', { onFailure: 'continue' }), command: ['/bin/sh', '-c', 'echo because; exit 4'] };
    const degraded = await runPlan(world.ports, plan({ groups: [{ name: 'g', pre: [bad], failover: ['shop'] }] }));
    expect(degraded.state).toBe('degraded');
    expect(degraded.steps[0]).toMatchObject({
      state: 'failed',
      output: 'because\n',
      error: { code: 'PLAN_STEP_FAILED' },
    });
    expect(await service(world.ports).execute(degraded.run, QUIET, live)).toEqual(degraded);
  });

  it('at one group lets those beside it end, and what shares the group fails too', async () => {
    const world = await planWorld(GROUPS);
    const { catalog } = world.storage;
    const taken = await world.ports.commands.submit(
      { command: 'test-failover', group: 'identity', point: 'latest-processed' },
      { requestedBy: 'x' },
      live,
    );
    const file = plan({
      groups: [
        { name: 'a', failover: [{ group: 'identity', onFailure: 'continue' }, 'shop'] },
        { name: 'b', failover: ['identity'] },
      ],
    });
    const failed = await runPlan(world.ports, file);
    expect(stepStates(failed)).toEqual([
      'group-1/failover/identity: failed',
      'group-1/failover/shop: done',
      'group-2/failover/identity: failed',
    ]);
    expect(failed.steps.map(({ error }) => error?.code)).toEqual(['FAILOVER_STATE', undefined, 'PLAN_STEP_FAILED']);
    expect((await getGroup(catalog, 'identity', live)).drill?.job).toBe(taken.job);
  });

  it('at a rejected approval asks again when it is resumed', async () => {
    const world = await planWorld(GROUPS);
    const waiting = await runPlan(world.ports, full());
    const rejected = await approve(world.ports, waiting, 'group-2/post/approve', 'reject');
    expect(rejected.state).toBe('failed');
    expect(rejected.steps[4]?.error?.message).toBe('grace has rejected group-2/post/approve: it boots');
    expect((await service(world.ports).execute(waiting.run, QUIET, live)).state).toBe('waiting');
    expect((await approve(world.ports, waiting)).state).toBe('succeeded');
  });

  it.each([
    ['fail', 'failed', 'failed'],
    ['continue', 'succeeded', 'done'],
  ])('when nobody approves in time: %s', async (onTimeout, state, step) => {
    const world = await planWorld({ shop: 11 });
    const pre = [{ ...APPROVE, timeoutMinutes: 30, onTimeout }];
    const waiting = await runPlan(world.ports, plan({ groups: [{ name: 'g', pre, failover: ['shop'] }] }));
    world.clock.advance(29);
    expect((await service(world.ports).execute(waiting.run, QUIET, live)).state).toBe('waiting');
    world.clock.advance(2);
    const ended = await service(world.ports).execute(waiting.run, QUIET, live);
    expect([ended.state, ended.steps[0]?.state]).toEqual([state, step]);
  });

  it('when a step takes too long', async () => {
    const world = await planWorld({ shop: 11 });
    const pre = [{ ...write('slow', { timeoutMinutes: 0.01 }), command: ['/bin/sh', '-c', 'echo slow; sleep 60'] }];
    const failed = await runPlan(world.ports, plan({ groups: [{ name: 'g', pre, failover: ['shop'] }] }));
    expect(failed.steps[0]).toMatchObject({ state: 'failed', error: { code: 'PLAN_STEP_TIMEOUT' } });
  });
});

describe('before a run', () => {
  it('is checked what it needs', async () => {
    const world = await planWorld({ shop: 11 });
    const start = (file: object, ports = world.ports) =>
      service(ports).start(plan(file), { test: true, requestedBy: 'ada' }, live);
    await expect(start({ groups: [{ name: 'g', failover: ['shop', 'none', 'nope'] }] })).rejects.toMatchObject({
      code: 'PLAN_INVALID',
      message: 'there is no consistency group none; there is no consistency group nope',
    });
    const hooked = { groups: [{ name: 'g', pre: [notify()], failover: ['shop'] }] };
    const poor = portsOf(world, {}).ports;
    await expect(start(hooked, poor)).rejects.toMatchObject({ code: 'PLAN_SECRET_MISSING' });
    const real = { groups: [{ name: 'g', pre: [{ ...notify(), skipInTest: true }], failover: ['shop'] }] };
    expect((await start(real, poor)).state).toBe('running');
    expect(await world.storage.catalog.list('jobs/', live)).toEqual([]);
  });

  it('a preview says what would be refused, and changes nothing', async () => {
    const world = await planWorld(GROUPS);
    await world.ports.commands.submit(
      { command: 'test-failover', group: 'shop', point: 'latest-processed' },
      { requestedBy: 'x' },
      live,
    );
    const before = await world.storage.catalog.list('', live);
    const preview = await service(world.ports).preview(full(), { test: true }, live);
    expect(preview.map(({ step, refusal }) => [step.id, refusal === null])).toEqual([
      ['group-1/pre/notify', true],
      ['group-1/failover/identity', true],
      ['group-2/failover/identity', true],
      ['group-2/failover/shop', false],
      ['group-2/post/approve', true],
      ['group-2/post/check', true],
    ]);
    expect(await world.storage.catalog.list('', live)).toEqual(before);
  });

  it('a key makes one run of two requests', async () => {
    const world = await planWorld(GROUPS);
    const { run } = await runPlan(world.ports, full(), { key: 'k' });
    expect((await runPlan(world.ports, full(), { key: 'k' })).run).toBe(run);
    await expect(runPlan(world.ports, full(), { key: 'k', test: false })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
    expect(await service(world.ports).list(live)).toHaveLength(1);
    await expect(service(world.ports).status('nothing', live)).rejects.toMatchObject({ code: 'PLAN_RUN_NOT_FOUND' });
    await expect(service(world.ports).status('../policies/p', live)).rejects.toMatchObject({
      code: 'PLAN_RUN_NOT_FOUND',
    });
  });
});

describe('common points', () => {
  const common = () => plan({ common: true, groups: [{ name: 'g', failover: ['identity', 'shop'], post: [APPROVE] }] });

  it('are the latest that all groups have reached, held until they are used', async () => {
    const world = await planWorld({ identity: 11, shop: 7 });
    const { catalog } = world.storage;
    const foreign = {
      group: 'shop',
      point: '20261123T040500.000000Z-crash',
      owner: 'ada',
      reason: 'x',
      expiresAtUs: null,
      nowUs: 1,
    };
    await pinPoint(catalog, foreign, live);
    const waiting = await runPlan(world.ports, common());
    const chosen = { identity: '20261123T040500.000000Z-crash', shop: '20261123T040500.000000Z-crash' };
    expect(waiting.points).toEqual(chosen);
    const views = await Promise.all(['identity', 'shop'].map((group) => world.ports.commands.jobs(group, live)));
    expect(views.flat().map(({ point }) => point)).toEqual(Object.values(chosen));
    const owners = async () =>
      (await Promise.all(['identity', 'shop'].map((group) => getGroup(catalog, group, live)))).map(({ pins }) =>
        pins.map(({ owner }) => owner),
      );
    expect(await owners()).toEqual([[`plan run ${waiting.run}`], ['ada', `plan run ${waiting.run}`]]);
    expect((await approve(world.ports, waiting, 'group-1/post/approve')).state).toBe('succeeded');
    expect(await owners()).toEqual([[], ['ada']]);
  });
});

describe('two executors', () => {
  it('never have one run: the first stops when the second takes it', async () => {
    const world = await planWorld({ shop: 11 });
    const plans = service(world.ports);
    const { run } = await plans.start(
      plan({ groups: [{ name: 'g', pre: [write('a')], failover: ['shop'] }] }),
      { test: true, requestedBy: 'ada' },
      live,
    );
    let second: Promise<RunDocument> | undefined;
    const taken: PlanPorts = {
      ...world.ports,
      actions: {
        ...world.ports.actions,
        script: async (call, signal) => {
          const output = await world.ports.actions.script(call, signal);
          second ??= plans.execute(run, QUIET, live);
          await second;
          return output;
        },
      },
    };
    await expect(service(taken).execute(run, QUIET, live)).rejects.toMatchObject({ code: 'OWNERSHIP_LOST' });
    expect((await second)?.state).toBe('succeeded');
    expect(await jobs(world, 'shop')).toEqual(['test-failover succeeded']);
    expect(await lines()).toHaveLength(2);
  });

  it('of one job: the run waits for the one that somebody else executes', async () => {
    const world = await planWorld({ shop: 11 });
    const { commands } = world.ports;
    const stolen: PlanPorts = {
      ...world.ports,
      commands: {
        ...commands,
        execute: async (group, job, options, signal) => {
          await commands.execute(group, job, options, signal);
          throw new TidemarkError('OWNERSHIP_LOST', 'somebody resumed the job');
        },
      },
    };
    const file = plan({ groups: [{ name: 'g', failover: ['shop'] }] });
    expect((await runPlan(stolen, file)).state).toBe('succeeded');
  });

  it('keep a script that must not run twice from doing so unasked', async () => {
    const world = await planWorld({ shop: 11 });
    const plans = service(world.ports);
    const file = plan({ groups: [{ name: 'g', pre: [write('a', { afterCrash: 'askFirst' })], failover: ['shop'] }] });
    const { run } = await plans.start(file, { test: true, requestedBy: 'ada' }, live);
    const killed = new AbortController();
    const dying: PlanPorts = {
      ...world.ports,
      actions: {
        ...world.ports.actions,
        script: async (call, signal) => {
          await world.ports.actions.script(call, signal);
          killed.abort(new Error('killed'));
          throw new ScriptFailure('killed', '');
        },
      },
    };
    await expect(service(dying).execute(run, QUIET, killed.signal)).rejects.toThrow('killed');
    const waiting = await plans.execute(run, QUIET, live);
    expect(waiting.steps[0]).toMatchObject({ state: 'waiting', output: expect.stringContaining('executor died') });
    expect(await lines()).toHaveLength(1);
    expect((await approve(world.ports, waiting, 'group-1/pre/a')).state).toBe('succeeded');
    expect(await lines()).toHaveLength(2);
  });
});
