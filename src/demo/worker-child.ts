/** Starts the demo's worker process, and ends it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ERROR_CATALOGUE, type ErrorCode, TidemarkError } from '../errors.ts';
import type { WorkerFigures, WorkerOrder, WorkerReport } from './worker-process.ts';

const PROGRAM = fileURLToPath(new URL('./worker-process.ts', import.meta.url));
/** A worker gives its leases back and closes its connections within this, or is killed. */
const STOP_LIMIT_MS = 8000;
/** What an error message quotes of the worker's stderr. */
const STDERR_CHARACTERS = 600;

export interface WorkerChild {
  /** Settles when the worker ends: with its figures, or with its error. */
  readonly figures: Promise<WorkerFigures>;
  /** Tells the worker that the log is complete: one more cycle, and it ends. */
  finish(): void;
  /** Resolves when the process is gone. Safe to call again. */
  stop(): Promise<void>;
}

/** `environment` points the worker at its accounts; it has no other. */
export function startWorker(group: string, environment: Readonly<Record<string, string>>): WorkerChild {
  const child = spawn(process.execPath, [PROGRAM], {
    // Ctrl-C reaches the demo only, which then stops its worker in order.
    detached: true,
    env: {},
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const exited = once(child, 'exit').catch(() => undefined); // a process that could not be started is gone, too
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_CHARACTERS);
  });
  let report: WorkerReport | undefined;
  child.on('message', (message) => (report = message as WorkerReport));
  // A worker that has ended is found out by its exit.
  const order = (message: WorkerOrder): boolean => child.connected && child.send(message, () => undefined);
  order({ order: 'drain', group, environment });
  const figures = once(child, 'close').then(
    () => {
      if (report?.status === 'done') return report.figures;
      throw failure(report, stderr);
    },
    (cause: unknown) => {
      throw new TidemarkError('DEMO_WORKER_FAILED', 'the worker process cannot be started', { cause });
    },
  );
  figures.catch(() => undefined); // awaited by the caller, but perhaps only after the source has finished
  return {
    figures,
    finish: () => void order({ order: 'finish' }),
    async stop() {
      if (child.connected) child.disconnect();
      const inTime = await Promise.race([exited.then(() => true), sleep(STOP_LIMIT_MS, false, { ref: false })]);
      if (!inTime) child.kill('SIGKILL');
      await exited;
    },
  };
}

function failure(report: Extract<WorkerReport, { status: 'failed' }> | undefined, stderr: string): TidemarkError {
  if (report === undefined) {
    const quoted = stderr.trim() === '' ? 'it said nothing' : stderr.trim();
    return new TidemarkError('DEMO_WORKER_FAILED', `the worker process ended without a report: ${quoted}`);
  }
  const known = Object.hasOwn(ERROR_CATALOGUE, report.code) ? (report.code as ErrorCode) : 'DEMO_WORKER_FAILED';
  return new TidemarkError(known, report.message);
}
