/** Runs a script action: a program with its arguments, no shell, in a process group of its own, with a bounded tail of its output. */
import { spawn, type ChildProcess } from 'node:child_process';
import { TidemarkError } from '../errors.ts';
import type { Clock } from '../worker/ports.ts';
import { redactor } from './redact.ts';

/** Between SIGTERM and SIGKILL. */
export const KILL_AFTER_MS = 10_000;
/** How long output is waited for after the program has ended: what it left in the background may hold the pipe for ever. */
const DRAIN_MS = 1000;

export interface ScriptCall {
  readonly command: readonly string[];
  readonly cwd?: string;
  /** All that the program gets. */
  readonly environment: Readonly<Record<string, string>>;
  /** Name to value; taken out of the output. */
  readonly secrets: ReadonlyMap<string, string>;
  /** Of the output, kept. */
  readonly tailChars: number;
}

/** A program that could not be started, was killed, or ended with another code than 0. */
export class ScriptFailure extends TidemarkError {
  readonly output: string;

  constructor(what: string, output: string) {
    super('PLAN_STEP_FAILED', what);
    this.output = output;
  }
}

/** Returns the tail of its output. @throws ScriptFailure; the signal's reason once its process group is gone */
export async function runScript(clock: Clock, call: ScriptCall, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted();
  const [program = '', ...args] = call.command;
  const child = spawn(program, args, {
    cwd: call.cwd,
    env: { ...call.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // its pid is that of its process group
  });
  const output = redactor(call.secrets, call.tailChars);
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => output.push(text));
  }
  const ended = Promise.withResolvers<string | undefined>();
  const closed = Promise.withResolvers<void>();
  child.on('error', (error: NodeJS.ErrnoException) => ended.resolve(`cannot be started: ${error.code ?? error.name}`));
  child.on('exit', (code, killer) => {
    ended.resolve(
      code === 0 ? undefined : code === null ? `was killed by ${killer ?? 'a signal'}` : `exited with ${code}`,
    );
  });
  child.on('close', () => closed.resolve());
  const failure = await endOf(clock, child, ended.promise, signal);
  await atMost(clock, DRAIN_MS, closed.promise);
  for (const stream of [child.stdout, child.stderr]) stream.destroy();
  signal.throwIfAborted();
  const tail = output.end();
  if (failure !== undefined) throw new ScriptFailure(`${program} ${failure}`, tail);
  return tail;
}

/** Ends the process group when the signal aborts: by SIGTERM, and by SIGKILL when that does not help in time. */
async function endOf(
  clock: Clock,
  child: ChildProcess,
  ended: Promise<string | undefined>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const aborted = Promise.withResolvers<'aborted'>();
  const onAbort = (): void => aborted.resolve('aborted');
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const first = await Promise.race([ended, aborted.promise]);
    if (first !== 'aborted') return first;
    killGroup(child, 'SIGTERM');
    await atMost(clock, KILL_AFTER_MS, ended);
    killGroup(child, 'SIGKILL'); // what the program has left behind, too
    return await ended;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // gone already
  }
}

/** Waits for `work`, but no longer than that. */
async function atMost(clock: Clock, ms: number, work: Promise<unknown>): Promise<void> {
  const enough = new AbortController();
  await Promise.race([work, clock.sleep(ms, enough.signal).catch(() => undefined)]);
  enough.abort();
}
