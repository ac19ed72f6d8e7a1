/** One child process of the local stack: start it, wait until it answers, stop it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TidemarkError } from '../errors.ts';
import { type ProcessIdentity, processStart } from './process-identity.ts';

const GUARD = fileURLToPath(new URL('./guarded.ts', import.meta.url));
/** Azurite answers after 0.6 s on an idle machine; a busy one may take a lot longer. */
const START_LIMIT_MS = 60_000;
const START_POLL_MS = 25;
/** Saving a large index takes Azurite seconds. */
const STOP_LIMIT_MS = 15_000;
/** What an error message quotes of the log file. */
const LOG_TAIL_CHARACTERS = 600;

export interface ServiceDefinition {
  readonly name: string;
  /** JavaScript or TypeScript module that is the program. */
  readonly entry: string;
  readonly args: readonly string[];
  /** The whole environment of the process. */
  readonly environment: Readonly<Record<string, string>>;
  readonly logFile: string;
  /** In the log once the process itself listens; another program on its port cannot fake that. */
  readonly readyLine: string;
  readonly answers: () => Promise<boolean>;
}

export class Service {
  readonly definition: ServiceDefinition;
  readonly identity: ProcessIdentity;
  /** Resolves when the process has ended, whyever. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;

  constructor(definition: ServiceDefinition, child: ChildProcess, identity: ProcessIdentity) {
    this.definition = definition;
    this.identity = identity;
    this.#child = child;
    this.ended = hasEnded(child) ? Promise.resolve() : once(child, 'exit').then(() => undefined);
  }

  get isRunning(): boolean {
    return !hasEnded(this.#child);
  }

  /** @throws TidemarkError LOCAL_START_FAILED, or the signal's reason when it aborts */
  async waitUntilReady(signal: AbortSignal): Promise<void> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(START_LIMIT_MS)]);
    while (!(this.#log().includes(this.definition.readyLine) && (await this.definition.answers()))) {
      if (!this.isRunning) throw this.failure('LOCAL_START_FAILED', 'ended while it was starting');
      signal.throwIfAborted();
      if (limit.aborted) throw this.failure('LOCAL_START_FAILED', `did not answer within ${START_LIMIT_MS / 1000} s`);
      await sleep(START_POLL_MS);
    }
  }

  /** SIGTERM, then SIGKILL when that takes too long. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    const inTime = await Promise.race([this.ended.then(() => true), sleep(STOP_LIMIT_MS, false, { ref: false })]);
    if (!inTime) this.#child.kill('SIGKILL');
    await this.ended;
  }

  failure(code: 'LOCAL_START_FAILED' | 'LOCAL_CHILD_EXITED', what: string): TidemarkError {
    const { name, logFile } = this.definition;
    const tail = this.#log().trim().slice(-LOG_TAIL_CHARACTERS);
    return new TidemarkError(code, `${name} ${what}; its log ${logFile} ends with: ${tail === '' ? '(empty)' : tail}`);
  }

  #log(): string {
    return readFileSync(this.definition.logFile, 'utf8');
  }
}

/**
 * Starts a service under the guard, which ends it when this process is gone. It gets a process group of its own, so that Ctrl-C
 * reaches this process only, which then stops it in order.
 * @throws TidemarkError LOCAL_START_FAILED
 */
export async function startService(definition: ServiceDefinition): Promise<Service> {
  const log = openSync(definition.logFile, 'w');
  try {
    const child = spawn(process.execPath, [GUARD, definition.entry, ...definition.args], {
      detached: true,
      env: { ...definition.environment },
      stdio: ['pipe', log, log],
    });
    await once(child, 'spawn');
    const pid = child.pid ?? 0;
    // Its end of the pipe closes when it ends; that is no error of ours.
    child.stdin?.on('error', () => undefined);
    return new Service(definition, child, { pid, start: processStart(pid) ?? '' });
  } catch (cause) {
    throw new TidemarkError('LOCAL_START_FAILED', `cannot start ${definition.name}`, { cause });
  } finally {
    closeSync(log);
  }
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;
