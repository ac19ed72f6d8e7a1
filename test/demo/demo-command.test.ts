/** `tidemark demo` as people run it: a process of its own, a real stack, a small trace. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startWorker } from '../../src/demo/worker-child.ts';
import { stopStack } from '../../src/local/detached.ts';
import { PROJECT_ROOT } from '../../src/local/stack-config.ts';
import { readStack } from '../../src/local/stack-state.ts';
import { Operator } from '../support/cli.ts';
import { writeSmallTrace } from './small-trace.ts';

const BIN = join(PROJECT_ROOT, 'bin/tidemark.js');

let folder: string;
let temporary: string;
let home: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidemark-demo-test-'));
  temporary = join(folder, 'tmp');
  home = join(folder, 'home');
  await mkdir(temporary);
  await writeSmallTrace(join(folder, 'trace'));
  await writeSmallTrace(join(folder, 'wrong'), 'app-consistent id=1');
});
afterAll(async () => {
  await stopStack(home);
  await rm(folder, { recursive: true });
});

interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function tidemark(...args: string[]): { child: ChildProcess; finished: Promise<Finished> } {
  const env = {
    PATH: process.env['PATH'] ?? '',
    TMPDIR: temporary,
    TIDEMARK_HOME: home,
    NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache'), // where Node has it for all others
  };
  const child = spawn(process.execPath, [BIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const finished = Promise.all([exit, text(child.stdout), text(child.stderr)]).then(([code, stdout, stderr]) => ({
    code,
    stdout,
    stderr,
  }));
  return { child, finished };
}

/** For what needs no process of its own. `point list` finds the stack by its home, as any command does. */
const operator = new Operator(() => ({ TIDEMARK_HOME: home }));

const demo = (trace: string, ...args: string[]) => tidemark('demo', '--trace', join(folder, trace), ...args);

/** Process ids of the children of `pid`: services and worker. */
function childrenOf(pid: number): number[] {
  const rows = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n');
  return rows
    .map((row) => row.trim().split(/\s+/).map(Number))
    .flatMap(([child = 0, parent]) => (parent === pid ? [child] : []));
}

const leftBehind = async (): Promise<string[]> =>
  (await readdir(temporary)).filter((name) => name.startsWith('tidemark-'));

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('tidemark demo', () => {
  it('makes and verifies the points, and leaves nothing behind', async () => {
    const { code, stdout, stderr } = await demo('trace', '--json').finished;
    expect([code, stderr]).toEqual([0, '']);
    const { points, messages, home: kept, figures } = JSON.parse(stdout);
    // The wall clock decides where the boundaries lie: 44 min 40 s hold eight or nine.
    const kinds = points.map(({ kind }: { kind: string }) => kind);
    expect(kinds.filter((kind: string) => kind === 'app')).toHaveLength(2);
    expect([10, 11]).toContain(kinds.length);
    expect(points.every(({ verified }: { verified: boolean }) => verified)).toBe(true);
    expect(messages).toMatchObject({ InitialReplicationCompleted: 1, PointCreated: kinds.length });
    expect(kept).toBeNull();
    // Five writes, a discard, and the initial copy of 1 MiB as one write.
    expect(figures).toMatchObject({ naiveRequests: 7, payloadBytes: 1_048_576 + 83 * 512 });
    expect(await leftBehind()).toEqual([]);
  });

  it('keeps its stack and data when asked to, and ends with an error when a point is not as recorded', async () => {
    const { code, stdout, stderr } = await demo('wrong', '--keep').finished;
    expect(code).toBe(1);
    expect(stdout).toContain('1 WRONG');
    expect(stderr).toMatch(/^error\[DEMO_POINT_DIFFERS\]: point \S+-app has SHA-256 /m);
    expect(readStack(home)).toBeDefined();
    expect(await operator.json('point', 'list', 'demo')).not.toEqual([]);
    const again = await operator.run('demo', '--trace', join(folder, 'trace'), '--keep');
    expect([again.exitCode, again.stderr]).toEqual([1, expect.stringContaining('error[LOCAL_ALREADY_RUNNING]')]);
    expect(readStack(home)).toBeDefined();

    await stopStack(home);
    const second = await demo('trace', '--keep').finished;
    expect(second.stdout).toContain('npx tidemark status demo-2');
    expect([second.code, second.stdout]).toEqual([0, expect.stringMatching(/Done in .* every point/)]);
    expect(await leftBehind()).toEqual([]);
  });

  it('stops everything at Ctrl-C', async () => {
    const { child, finished } = demo('trace');
    const pid = child.pid ?? 0;
    // Azurite, broker and worker.
    const children = await vi.waitFor(
      () => {
        const found = childrenOf(pid);
        if (found.length < 3) throw new Error('not begun');
        return found;
      },
      { timeout: 25_000, interval: 25 },
    );
    child.kill('SIGINT');
    expect(await finished).toMatchObject({ code: 130, stderr: expect.stringContaining('error[INTERRUPTED]') });
    expect(children.filter(isRunning)).toEqual([]);
    expect(await leftBehind()).toEqual([]);
  });
});

describe('the worker process', () => {
  it('reports its failure as what it is', async () => {
    const worker = startWorker('demo', { TIDEMARK_HOME: join(folder, 'nowhere') });
    await expect(worker.figures).rejects.toMatchObject({ code: 'CONFIG_MISSING' });
    await worker.stop();
  });
});
