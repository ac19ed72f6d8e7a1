/** The same commands through the command line, HTTP and Service Bus, on the local stack: the same jobs, the same states. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { JobView } from '../../src/commands/commands.ts';
import type { GroupStatus } from '../../src/worker/status.ts';
import { giveByHttp } from '../api/support.ts';
import { Child } from '../processes/child.ts';
import { Operator, type CommandResult } from '../support/cli.ts';
import { useStack } from '../support/stack.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';

const stack = useStack();
const environment = (): Record<string, string> => ({ ...stack.environment, TIDEMARK_HOME: stack.home, USER: 'ada' });
const operator = new Operator(environment);
/** Longer than a loaded machine takes. */
const LIMIT_MS = 180_000;

/** Five minutes and a bit, for two points, in few and sparse segments: each written range costs Azurite time at every copy. */
const SHIPPED = ['--start', '2026-11-20T04:00:00Z', '--stretch', '32', '--until', '10', '--segment-seconds', '60'];

beforeAll(async () => {
  const dir = await writeSyntheticTrace(join(stack.home, 'trace'), 1);
  await operator.ok('policy', 'set', 'p', '--app-consistent-hours', '0');
  for (const group of ['by-cli', 'by-http', 'by-message']) {
    await operator.ok('group', 'protect', group, '--policy', 'p', '--machine', 'web', '--disk', 'disk0=2MiB');
    await operator.ok('source', 'ship', group, '--trace', dir, ...SHIPPED);
  }
  await operator.ok('worker', 'run', '--once');
}, LIMIT_MS);

type Given = Readonly<Record<string, string>>;

/** What became of a command: its job, or what it was refused with. */
type Door = (group: string, command: Given, key: string) => Promise<JobView | string>;

const SUBCOMMANDS: Readonly<Record<string, string>> = {
  'test-failover': 'test',
  'cleanup-test-failover': 'cleanup',
  failover: 'start',
};

const refusalOf = ({ stderr }: CommandResult): string => /^error\[([A-Z_]+)\]/m.exec(stderr)?.[1] ?? stderr;

const byCli: Door = async (group, { command = '', ...fields }, key) => {
  const options = Object.entries(fields).flatMap(([name, value]) => [`--${name}`, value]);
  const argv = ['failover', SUBCOMMANDS[command] ?? command, group, ...options, '--key', key, '--yes', '--json'];
  const result = await operator.run(...argv);
  return result.exitCode === 0 ? (JSON.parse(result.stdout) as JobView) : refusalOf(result);
};

const byMessage: Door = async (group, command, key) => {
  const argv = ['command', 'send', group, JSON.stringify(command), '--key', key, '--wait', '--timeout', '90', '--json'];
  const result = await operator.run(...argv);
  return result.exitCode === 0 ? (JSON.parse(result.stdout) as JobView) : refusalOf(result);
};

interface Served {
  readonly child: Child;
  readonly url: string;
  readonly token: string;
  readonly door: Door;
}

async function serve(): Promise<Served> {
  const child = new Child(environment(), ['api', 'run', '--port', '0', '--json']);
  const { url, tokenFile } = await vi.waitFor(
    () => JSON.parse(child.stdout) as { readonly url: string; readonly tokenFile: string },
    { timeout: 30_000, interval: 50 },
  );
  const token = readFileSync(tokenFile, 'utf8').trim();
  const headers = { authorization: `Bearer ${token}` };
  const api = {
    get: (path: string) => fetch(`${url}${path}`, { headers }),
    post: (path: string, body: unknown, more?: Given) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json', ...more },
        body: JSON.stringify(body),
      }),
  };
  const door: Door = async (group, command, key) => {
    try {
      return await giveByHttp(api, group, command, key);
    } catch (error) {
      return /"code":"([A-Z_]+)"/.exec(String(error))?.[1] ?? String(error);
    }
  };
  return { child, url, token, door };
}

const OLDEST = '20261120T040000.000000Z-crash';

const SCENARIO: readonly Given[] = [
  { command: 'commit' },
  { command: 'failover', point: 'nothing' },
  { command: 'test-failover' },
  { command: 'cleanup-test-failover', notes: 'it boots' },
  { command: 'failover', point: 'latest' },
  { command: 'failover' },
  { command: 'cancel' },
];

/** A job without what differs from group to group: ids and times. */
function essence(outcome: JobView | string): unknown {
  if (typeof outcome === 'string') return outcome;
  const { command, state, point, steps, error, result } = outcome;
  const made = (result?.['disks'] ?? []) as { machine: string; disk: string }[];
  return {
    command,
    state,
    point,
    error,
    steps: steps.map((step) => `${step.name.replaceAll(/[0-9a-f]{32}|(?<=-)[0-9a-f]{8}\b/g, '*')} ${step.state}`),
    made: made.map(({ machine, disk }) => `${machine}/${disk}`),
  };
}

async function play(group: string, door: Door): Promise<readonly (readonly unknown[])[]> {
  const told: unknown[][] = [];
  for (const [index, command] of SCENARIO.entries()) {
    const outcome = await door(group, command, `${group}-${index}`);
    const { state, failover, testFailover, points } = await operator.json<GroupStatus>('status', group);
    told.push([command['command'], essence(outcome), state, failover?.state, testFailover?.state, points]);
  }
  return told;
}

describe('a command', () => {
  it('does the same through each door', { timeout: LIMIT_MS }, async () => {
    const { child, token, door } = await serve();
    const worker = new Child(environment(), ['worker', 'run']);
    const [cli, http, message] = await Promise.all([
      play('by-cli', byCli),
      play('by-http', door),
      play('by-message', byMessage),
    ]);
    expect(http).toEqual(cli);
    expect(message).toEqual(cli);
    expect(cli.map(([command, outcome]) => `${String(command)} ${describeOutcome(outcome)}`)).toEqual([
      'commit FAILOVER_STATE',
      'failover POINT_NOT_FOUND',
      'test-failover succeeded',
      'cleanup-test-failover succeeded',
      'failover succeeded',
      'failover FAILOVER_STATE',
      'cancel succeeded',
    ]);
    const jobs = await operator.json<JobView[]>('job', 'list', 'by-message');
    expect(new Set(jobs.map(({ requestedBy }) => requestedBy))).toEqual(new Set(['ada (message)']));
    await oneKey(door);
    for (const running of [child, worker]) running.kill('SIGTERM');
    const ended = performance.now();
    expect(await child.ended).toEqual({ code: 0, signal: null });
    expect(await worker.ended).toEqual({ code: 0, signal: null });
    expect(performance.now() - ended).toBeLessThan(10_000);
    for (const { stdout, stderr } of [child, worker]) expect(`${stdout}${stderr}`).not.toContain(token);
    expect(child.stderr).toBe('');
  });
});

/** One key is one job, whichever doors it comes by. */
async function oneKey(door: Door): Promise<void> {
  const cliJobs = (await operator.json<JobView[]>('job', 'list', 'by-cli')).length;
  const command = { command: 'test-failover', point: OLDEST };
  const outcomes = await Promise.all([door('by-cli', command, 'one'), byMessage('by-cli', command, 'one')]);
  outcomes.push(await byCli('by-cli', command, 'one'));
  const [first] = outcomes;
  for (const outcome of outcomes) expect(outcome).toMatchObject({ job: (first as JobView).job, state: 'succeeded' });
  expect(await operator.json('job', 'list', 'by-cli')).toHaveLength(cliJobs + 1);
  const other = { command: 'failover', point: OLDEST };
  expect([await door('by-cli', other, 'one'), await byCli('by-cli', other, 'one')]).toEqual([
    'IDEMPOTENCY_CONFLICT',
    'IDEMPOTENCY_CONFLICT',
  ]);
}

const describeOutcome = (outcome: unknown): string =>
  typeof outcome === 'string' ? outcome : String((outcome as { state: unknown }).state);

describe('the command line of the doors', () => {
  it('makes a token that only its owner reads, and shows it nowhere', async () => {
    const { child, token, url } = await serve();
    expect(statSync(join(stack.home, 'api.token')).mode & 0o777).toBe(0o600);
    expect(token).toMatch(/^[\w-]{43}$/);
    const wrong = await fetch(`${url}/v1/groups`, { headers: { authorization: `Bearer ${token}x` } });
    expect(`${JSON.stringify([...wrong.headers])}${await wrong.text()}`).not.toContain(token);
    child.kill('SIGINT');
    expect(await child.ended).toEqual({ code: 0, signal: null });
    expect(`${child.stdout}${child.stderr}`).not.toContain(token);
  });

  it.each<[string, readonly string[]]>([
    ['USAGE', ['api', 'run', '--port', 'x']],
    ['API_HOST_INSECURE', ['api', 'run', '--port', '0', '--host', '0.0.0.0']],
    ['CONFIG_INVALID', ['api', 'run', '--port', '0', '--token-file', '/none']],
    ['USAGE', ['command', 'send', 'by-cli']],
    ['USAGE', ['command', 'send', 'by-cli', '{}', '--file', 'x']],
    ['USAGE', ['command', 'send', 'by-cli', '{}', '--key', 'a b']],
    ['NAME_INVALID', ['command', 'send', 'a/b', '{}']],
    ['REPLY_MISSING', ['command', 'send', 'by-cli', '{"command":"commit"}', '--wait', '--timeout', '1']],
  ])('fails with %s: %j', async (code, argv) => {
    const result = await operator.run(...argv);
    expect(refusalOf(result)).toBe(code);
    expect(result.exitCode).toBe(code === 'USAGE' ? 2 : 1);
  });
});
