/**
 * The demo's worker, in a process of its own so that its memory can be told from the demo's: drains one group again and again, until its
 * parent says that the source has finished; then once more, and reports. It ends when its parent is gone.
 *
 * usage: node worker-process.ts, with an IPC channel: {@link WorkerOrder} in, {@link WorkerReport} out
 */
import { readFile } from 'node:fs/promises';
import { parseConfiguration } from '../config.ts';
import { TidemarkError } from '../errors.ts';
import { KIB } from '../model/sizes.ts';
import { openRuntime } from '../runtime.ts';
import { systemClock } from '../system-clock.ts';
import type { DrainCounters } from '../worker/disk-drain.ts';
import { Worker } from '../worker/worker.ts';

/** Pause after a cycle that found nothing to do. */
const PAUSE_MS = 100;

export type WorkerOrder =
  | { readonly order: 'drain'; readonly group: string; readonly environment: Readonly<Record<string, string>> }
  | { readonly order: 'finish' };

export interface WorkerFigures {
  readonly counters: DrainCounters;
  /** Time of the cycles that drained something. */
  readonly drainMs: number;
  /** The process's largest resident set. */
  readonly peakMemoryBytes: number;
}

export type WorkerReport =
  | { readonly status: 'done'; readonly figures: WorkerFigures }
  | { readonly status: 'failed'; readonly code: string; readonly message: string };

const stop = new AbortController();
const giveUp = (): void => stop.abort(new TidemarkError('INTERRUPTED', 'asked to stop'));
process.on('SIGTERM', giveUp).on('SIGINT', giveUp).on('disconnect', giveUp);

let finishing = false;
const begin = Promise.withResolvers<Extract<WorkerOrder, { order: 'drain' }>>();
process.on('message', (message) => {
  const order = message as WorkerOrder;
  if (order.order === 'finish') finishing = true;
  else begin.resolve(order);
});
stop.signal.addEventListener('abort', () => begin.reject(stop.signal.reason as Error));

async function drain(): Promise<WorkerFigures> {
  const { group, environment } = await begin.promise;
  const runtime = openRuntime(parseConfiguration(environment));
  const { ports, settings } = runtime;
  const worker = new Worker({ ports, settings, groups: [group], report: () => undefined });
  const { counters } = worker;
  let drainMs = 0;
  try {
    for (;;) {
      const isLast = finishing;
      const { logBytes } = counters;
      const fromMs = systemClock.nowMs();
      await cycle(worker);
      if (counters.logBytes > logBytes) drainMs += systemClock.nowMs() - fromMs;
      if (isLast) return { counters, drainMs, peakMemoryBytes: await peakMemoryBytes() };
      if (counters.logBytes === logBytes) await systemClock.sleep(PAUSE_MS, stop.signal);
    }
  } finally {
    await runtime.close();
  }
}

/** On Linux a process begins with its parent's maximum (getrusage counts the time before exec), but the kernel's high-water mark is its own. */
async function peakMemoryBytes(): Promise<number> {
  const status = process.platform === 'linux' ? await readFile('/proc/self/status', 'utf8') : '';
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  return (kibibytes === undefined ? process.resourceUsage().maxRSS : Number(kibibytes)) * KIB;
}

/** @throws what ended the cycle; TidemarkError DEMO_WORKER_FAILED when the log is not to be trusted */
async function cycle(worker: Worker): Promise<void> {
  for (const { group, needsResync, error } of await worker.runOnce(stop.signal)) {
    stop.signal.throwIfAborted();
    if (error !== undefined) throw error;
    if (needsResync)
      throw new TidemarkError('DEMO_WORKER_FAILED', `replication of ${group} stopped at a defect in its log`);
  }
}

/** Sends the report, then lets go of the parent. */
async function report(message: WorkerReport): Promise<void> {
  if (!process.connected) return;
  await new Promise<void>((resolve) => process.send?.(message, undefined, undefined, () => resolve()));
  process.disconnect();
}

try {
  await report({ status: 'done', figures: await drain() });
} catch (error) {
  const { code, message } = error instanceof TidemarkError ? error : { code: 'UNEXPECTED', message: String(error) };
  await report({ status: 'failed', code, message });
  process.exitCode = 1;
}
