/** A recovery plan of two groups by the command line, on the local stack: a test run, its approval, and its cleanup. */
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ComputeManagementClient } from '@azure/arm-compute';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GroupStatus } from '../../src/worker/status.ts';
import { useHookServer } from '../plans/hook-server.ts';
import { Operator } from '../support/cli.ts';
import { useStack } from '../support/stack.ts';
import { SYNTHETIC_DISK_BYTES, writeSyntheticTrace } from '../support/synthetic-trace.ts';

interface RunView {
  readonly run: string;
  readonly state: string;
  readonly steps: readonly { readonly id: string; readonly state: string; readonly job: string | null }[];
}

const stack = useStack();
const hook = useHookServer();
const operator = new Operator(() => ({ ...stack.environment, HOOK_SECRET: 'hunter22' }));
let folder: string;
let file: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidemark-plans-'));
  const trace = await writeSyntheticTrace(folder);
  await operator.ok('policy', 'set', 'p', '--app-consistent-hours', '0');
  for (const group of ['identity', 'shop']) {
    const disks = ['disk0', 'disk1'].flatMap((disk) => ['--disk', `${disk}=${SYNTHETIC_DISK_BYTES}`]);
    await operator.ok('group', 'protect', group, '--policy', 'p', '--machine', 'web', ...disks);
    const times = ['--start', '2026-11-23T04:01:00Z', '--stretch', '20', '--until', '16', '--segment-seconds', '60'];
    await operator.ok('source', 'ship', group, '--trace', trace, ...times);
  }
  await operator.ok('worker', 'run', '--once');
  file = join(folder, 'plan.json');
  await writeFile(file, JSON.stringify(planOf(join(folder, 'log'))));
}, 60_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

const planOf = (log: string) => ({
  version: 1,
  name: 'site',
  groups: [
    {
      name: 'base',
      pre: [{ type: 'webhook', name: 'notify', url: hook.url, secret: { env: 'HOOK_SECRET' } }],
      failover: ['identity'],
    },
    {
      name: 'rest',
      failover: ['identity', 'shop'],
      post: [
        { type: 'manual', name: 'approve', instructions: 'Look at it.' },
        {
          type: 'script',
          name: 'check',
          command: ['/bin/sh', '-c', `echo "$TIDEMARK_PHASE $TIDEMARK_TEST" > "${log}"`],
        },
      ],
    },
  ],
});

async function disksInAzure(): Promise<readonly string[]> {
  const variable = (name: string): string => stack.environment[name] ?? '';
  const credential = { getToken: async () => ({ token: 'local', expiresOnTimestamp: Date.now() + 3_600_000 }) };
  const { disks } = new ComputeManagementClient(credential, variable('TIDEMARK_SUBSCRIPTION_ID'), {
    endpoint: variable('TIDEMARK_ARM_ENDPOINT'),
    tlsOptions: { ca: readFileSync(variable('TIDEMARK_ARM_CA_FILE'), 'utf8') },
  });
  const names: string[] = [];
  for await (const { name = '' } of disks.listByResourceGroup(variable('TIDEMARK_RESOURCE_GROUP'))) names.push(name);
  return names;
}

const drill = async (group: string) => (await operator.json<GroupStatus>('status', group)).testFailover;
const parsed = (text: string): RunView => JSON.parse(text) as RunView;

describe('a recovery plan', () => {
  it('is shown, tested, approved and cleaned up', async () => {
    const preview = await operator.ok('plan', 'run', file, '--test', '--dry-run');
    expect(preview.stdout).toMatch(/^a test run of plan site would:/);
    expect(preview.stdout).toMatch(/group-2\/failover\/identity +shared/);
    expect(await disksInAzure()).toEqual([]);

    const refused = await operator.run('plan', 'run', file);
    expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining('error[CONFIRMATION_REQUIRED]')]);

    const begun = await operator.run('plan', 'run', file, '--test', '--key', 'night', '--json');
    expect(begun.exitCode, begun.stderr).toBe(3);
    const { run, state } = parsed(begun.stdout);
    expect(state).toBe('waiting');
    expect(await disksInAzure()).toHaveLength(4);
    expect(await drill('identity')).toMatchObject({ state: 'tested' });
    expect(hook.received).toHaveLength(1);
    expect(hook.received[0]?.headers['idempotency-key']).toBe(`plan:${run}:group-1/pre/notify`);
    const status = await operator.ok('plan', 'status', run);
    expect(status.stdout).toContain(`tidemark plan approve ${run} group-2/post/approve`);

    const early = await operator.run('plan', 'approve', run, 'group-2/post/check');
    expect([early.exitCode, early.stderr]).toEqual([1, expect.stringContaining('error[PLAN_STATE]')]);
    await operator.ok('plan', 'approve', run, 'group-2/post/approve', '--note', 'it boots', '--by', 'grace');
    const ended = await operator.json<RunView>('plan', 'resume', run);
    expect(ended.state).toBe('succeeded');
    expect(await readFile(join(folder, 'log'), 'utf8')).toBe('post true\n');
    expect(parsed((await operator.ok('plan', 'run', file, '--test', '--key', 'night', '--json')).stdout)).toEqual(
      ended,
    );

    expect((await operator.json<RunView>('plan', 'cleanup', run)).state).toBe('cleaned-up');
    expect(await disksInAzure()).toEqual([]);
    expect(await drill('shop')).toBeNull();
    expect((await operator.json<RunView[]>('plan', 'list')).map(({ run: id }) => id)).toEqual([run]);
    const { stdout } = await operator.ok('monitor', 'tail', '--no-follow');
    expect(stdout).toMatch(
      /warning +PlanStepChanged +- +step group-2\/post\/approve of run \w+ \(plan site\) is waiting/,
    );
    expect(stdout).toMatch(/info +PlanRunChanged +- +test run \w+ of plan site is cleaned-up/);
    expect(stdout).not.toContain('hunter22');
  });

  it('that is wrong is refused with every place', async () => {
    const bad = join(folder, 'bad.json');
    await writeFile(bad, JSON.stringify({ ...planOf('x'), name: 'A B', point: 'now' }));
    const { exitCode, stderr } = await operator.run('plan', 'run', bad, '--test');
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/error\[PLAN_INVALID\]: name: .*; point: /);
    expect((await operator.run('plan', 'run', join(folder, 'none'))).exitCode).toBe(2);
    expect((await operator.run('plan', 'run', file, '--test', '--point', 'now')).exitCode).toBe(2);
    const unknown = await operator.run('plan', 'status', 'nothing');
    expect(unknown.stderr).toContain('error[PLAN_RUN_NOT_FOUND]');
  });
});
