import { BlobServiceClient } from '@azure/storage-blob';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { stopStack } from '../../src/local/detached.ts';
import { isAlive } from '../../src/local/process-identity.ts';
import { PROJECT_ROOT, readStackConfig, stackEnvironment } from '../../src/local/stack-config.ts';
import { readStack } from '../../src/local/stack-state.ts';
import { Operator } from '../support/cli.ts';
import { extent } from '../support/extent.ts';

const BIN = join(PROJECT_ROOT, 'bin/tidemark.js');
const BOUND = { timeout: 25_000, interval: 25 };

interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Started {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
}

let homes: string[] = [];
beforeEach(() => {
  homes = [];
});
afterEach(async () => {
  for (const home of homes) {
    await stopStack(home);
    await rm(home, { recursive: true, force: true });
  }
});

/** Like the triples of `onFreePorts`, in a range of its own, so that the two never meet. */
let nextPort = 32_100 + 18 * Math.floor(Math.random() * 30);

/** Runs the command line in a home and on ports of its own. */
async function makeHome(): Promise<(...args: string[]) => Started> {
  const home = await mkdtemp(join(tmpdir(), 'tidemark-cli-'));
  homes.push(home);
  nextPort += 3;
  const env = { PATH: process.env['PATH'] ?? '', TIDEMARK_HOME: home, TIDEMARK_PORT_BASE: String(nextPort) };
  return (...args) => {
    const child = spawn(process.execPath, [BIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const finished = Promise.all([exit, text(child.stdout), text(child.stderr)]).then(([code, stdout, stderr]) => ({
      code,
      stdout,
      stderr,
    }));
    return { child, finished };
  };
}

const lastHome = (): string => homes.at(-1) ?? '';

/** For what needs no process of its own: commands that start nothing and wait for no signal. */
const operator = new Operator(() => ({ TIDEMARK_HOME: lastHome(), TIDEMARK_PORT_BASE: String(nextPort) }));

/** The state of the stack in the newest home, once it is up. */
const untilUp = () =>
  vi.waitFor(() => {
    const state = readStack(lastHome());
    if (state === undefined) throw new Error('not up');
    return state;
  }, BOUND);

describe('local up in the foreground', () => {
  // Each run sends both; only the order differs.
  it.each(extent<NodeJS.Signals[]>({ quick: ['SIGINT'], full: ['SIGINT', 'SIGTERM'] }))(
    'ends with all its processes at %s',
    async (signal) => {
      const tidemark = await makeHome();
      const { child, finished } = tidemark('local', 'up');
      const { services } = await untilUp();
      expect(services.every(isAlive)).toBe(true);
      // A second signal at once, as when both the terminal and a launcher pass Ctrl-C on; two of one kind would melt into one.
      child.kill(signal);
      child.kill(signal === 'SIGINT' ? 'SIGTERM' : 'SIGINT');
      expect(await finished).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('is down') });
      expect(services.filter(isAlive)).toEqual([]);
      expect(existsSync(join(lastHome(), 'stack.json'))).toBe(false);
    },
  );

  it('leaves no process behind at SIGKILL, detached or not, and loses no data', async () => {
    const tidemark = await makeHome();
    const { child } = tidemark('local', 'up');
    const { services } = await untilUp();
    const containerOf = async () => {
      const { ports } = await untilUp();
      const connectionString = stackEnvironment(readStackConfig(), ports, lastHome())[
        'TIDEMARK_REPLICA_CONNECTION_STRING'
      ];
      return BlobServiceClient.fromConnectionString(connectionString ?? '').getContainerClient('kept');
    };
    await (await containerOf()).create();
    child.kill('SIGKILL');
    await vi.waitFor(() => expect(services.filter(isAlive)).toEqual([]), BOUND);
    expect(readStack(lastHome())).toBeUndefined();
    expect((await tidemark('local', 'up', '--detach').finished).code).toBe(0);
    expect(await (await containerOf()).exists()).toBe(true);

    const detached = await untilUp();
    process.kill(detached.supervisor.pid, 'SIGKILL');
    await vi.waitFor(() => expect(detached.services.filter(isAlive)).toEqual([]), BOUND);
    const env = await operator.run('local', 'env');
    expect(env).toMatchObject({
      exitCode: 1,
      stdout: '',
      stderr: expect.stringContaining('error[LOCAL_NOT_RUNNING]: '),
    });
  });
});

describe('local up --detach', () => {
  it('outlives its command, and goes down with local down', async () => {
    const tidemark = await makeHome();
    expect(await tidemark('local', 'up', '--detach').finished).toMatchObject({ code: 0, stderr: '' });
    const { supervisor, services, ports } = await untilUp();
    expect([supervisor, ...services].every(isAlive)).toBe(true);

    const again = await operator.json('local', 'up', '--detach');
    expect(again).toMatchObject({ status: 'already-running', ports });
    const shell = await operator.ok('local', 'env');
    expect(shell.stdout).toContain(
      `export TIDEMARK_SERVICE_BUS_CONNECTION_STRING='Endpoint=sb://127.0.0.1:${ports.broker};`,
    );

    expect(await operator.run('local', 'down')).toMatchObject({ exitCode: 0, stderr: '' });
    expect([supervisor, ...services].filter(isAlive)).toEqual([]);
    expect(await operator.json('local', 'down')).toMatchObject({ status: 'not-running' });
  });

  it('reports why it cannot start', async () => {
    const tidemark = await makeHome();
    await writeFile(join(lastHome(), 'azurite'), 'a file where the data folder should be');
    const failed = await tidemark('local', 'up', '--detach').finished;
    expect(failed).toMatchObject({ code: 1, stdout: '' });
    expect(failed.stderr).toMatch(/^error\[LOCAL_START_FAILED\]: .*\nhint: .*\n$/s);
    expect(existsSync(join(lastHome(), 'stack.json'))).toBe(false);
  });
});
