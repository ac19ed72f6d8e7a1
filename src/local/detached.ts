/** A local stack that outlives the command that starts it, and how any stack is stopped from outside. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ERROR_CATALOGUE, type ErrorCode, TidemarkError } from '../errors.ts';
import { isAlive, type ProcessIdentity } from './process-identity.ts';
import type { StackOptions } from './stack.ts';
import { findStack, leftovers, makeFolder, readStack, releaseHome, type StackState } from './stack-state.ts';
import type { SupervisorOptions, SupervisorReport } from './supervisor.ts';

const SUPERVISOR = fileURLToPath(new URL('./supervisor.ts', import.meta.url));
/** A supervisor stops its services within 15 s, or kills them. */
const STOP_LIMIT_MS = 20_000;
/** Services whose supervisor is gone stop by themselves within 20 s. */
const ORPHAN_LIMIT_MS = 25_000;
const KILL_LIMIT_MS = 5000;
const POLL_MS = 25;

/**
 * Starts a stack under a supervisor of its own and returns once its services answer.
 * @throws TidemarkError as `startStack` does
 */
export async function startDetachedStack(options: StackOptions): Promise<StackState> {
  const { signal } = options;
  const home = resolve(options.home);
  makeFolder(home);
  const supervisorOptions: SupervisorOptions = { home, portBase: options.portBase, fresh: options.fresh ?? false };
  const log = openSync(join(home, 'supervisor.log'), 'w');
  const child = spawn(process.execPath, [SUPERVISOR, JSON.stringify(supervisorOptions)], {
    detached: true,
    env: {},
    stdio: ['ignore', log, log, 'ipc'],
  });
  closeSync(log);
  try {
    const report = await firstReport(child, signal);
    if (report?.status === 'failed') throw asError(report);
    const state = report === undefined ? undefined : readStack(home);
    if (state === undefined)
      throw new TidemarkError('LOCAL_START_FAILED', `the supervisor ended; see ${join(home, 'supervisor.log')}`);
    return state;
  } finally {
    // A supervisor that is not ready yet gives up at this, and takes its services down.
    if (child.connected) child.disconnect();
    child.unref();
  }
}

/** What the supervisor says first; undefined when it ends without a word. */
function firstReport(child: ChildProcess, signal: AbortSignal): Promise<SupervisorReport | undefined> {
  return new Promise((resolve, reject) => {
    child.once('message', (message) => resolve(message as SupervisorReport));
    child.once('exit', () => resolve(undefined));
    child.once('error', reject);
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    if (signal.aborted) reject(signal.reason as Error);
  });
}

/**
 * Stops the stack that lives in `home`, whoever started it, and waits until its processes are gone.
 * @returns false when none runs there
 * @throws TidemarkError LOCAL_STOP_FAILED
 */
export async function stopStack(home: string): Promise<boolean> {
  const state = findStack(home);
  const services = state?.services ?? leftovers(home);
  if (state === undefined && services.length === 0) return false;
  const supervisors = state === undefined ? [] : [state.supervisor];
  signalAll(supervisors, 'SIGTERM');
  if (!(await haveEnded([...supervisors, ...services], STOP_LIMIT_MS))) {
    signalAll(supervisors, 'SIGKILL');
    if (!(await haveEnded(services, ORPHAN_LIMIT_MS))) signalAll(services, 'SIGKILL');
  }
  if (!(await haveEnded([...supervisors, ...services], KILL_LIMIT_MS))) {
    const pids = [...supervisors, ...services].filter(isAlive).map(({ pid }) => pid);
    throw new TidemarkError('LOCAL_STOP_FAILED', `the local stack in ${home} does not end: process ${pids.join(', ')}`);
  }
  if (state !== undefined) releaseHome(home, state.supervisor);
  return true;
}

async function haveEnded(processes: readonly ProcessIdentity[], limitMs: number): Promise<boolean> {
  const limit = AbortSignal.timeout(limitMs);
  while (processes.some(isAlive)) {
    if (limit.aborted) return false;
    await sleep(POLL_MS);
  }
  return true;
}

function signalAll(processes: readonly ProcessIdentity[], signal: NodeJS.Signals): void {
  for (const { pid } of processes.filter(isAlive)) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      // It ended in the meantime.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

function asError({ code, message }: SupervisorReport & { status: 'failed' }): TidemarkError {
  const known = Object.hasOwn(ERROR_CATALOGUE, code) ? (code as ErrorCode) : 'LOCAL_START_FAILED';
  return new TidemarkError(known, message);
}
