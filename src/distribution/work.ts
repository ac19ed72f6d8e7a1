/** A process's share of the work: the sessions that it takes, the worker that does their turns, and the orders that it gives. */
import { createJobRunner } from '../commands/job-runner.ts';
import type { CommandService } from '../commands/commands.ts';
import type { CommandQueue } from '../commands/command-queue.ts';
import { TidemarkError } from '../errors.ts';
import type { WorkerPorts, WorkerSettings } from '../worker/ports.ts';
import { Worker, type WorkerOptions } from '../worker/worker.ts';
import { workAlone, type AloneOptions } from './alone.ts';
import { listen, type ListenerOptions } from './listener.ts';
import { Scheduler, type SchedulerOptions } from './scheduler.ts';
import { Turns } from './turns.ts';
import type { CacheEventQueue, WorkQueue } from './work-queue.ts';

export interface Queues {
  /** Each has a connection of its own, and is the caller's to close. */
  openCommandQueue(): CommandQueue;
  openWorkQueue(): WorkQueue;
  openCacheEvents(): CacheEventQueue;
}

export interface Scheduling {
  /** Distance of two turns of a group of which nothing is heard. */
  readonly periodMs: number;
  /** Groups that a worker owns at once. */
  readonly groupsAtOnce: number;
}

export interface WorkOptions extends Queues {
  readonly ports: WorkerPorts & AloneOptions['ports'];
  readonly settings: WorkerSettings;
  readonly scheduling: Scheduling;
  readonly commands: CommandService;
  readonly report: WorkerOptions['report'];
  readonly onEvents?: WorkerOptions['onEvents'];
  readonly openSession?: WorkerOptions['openSession'];
  /** Told of what the queue does not give or take. */
  readonly reportError: (error: unknown) => void;
  /** Aborts when no more sessions are to be taken, and turns are to end at their next stop. */
  readonly draining?: AbortSignal;
  /** Called while the loop goes round. */
  readonly beat?: () => void;
}

/** Takes sessions until the signal aborts, or `draining` does and what is in hand is done. */
export class Work {
  readonly #options: WorkOptions;
  readonly #queue: WorkQueue;
  readonly #turns: Turns;
  readonly worker: Worker;

  constructor(options: WorkOptions) {
    const { ports, settings, scheduling, report, reportError, onEvents, openSession } = options;
    this.#options = options;
    this.#queue = options.openWorkQueue();
    this.worker = new Worker({
      ports,
      settings,
      groups: [],
      groupsAtOnce: scheduling.groupsAtOnce,
      report,
      ...(onEvents !== undefined && { onEvents }),
      ...(openSession !== undefined && { openSession }),
    });
    this.#turns = new Turns({
      worker: this.worker,
      queue: this.#queue,
      clock: ports.clock,
      report: reportError,
      draining: options.draining ?? new AbortController().signal,
    });
  }

  get counters(): Turns['counters'] {
    return this.#turns.counters;
  }

  /** Never throws. */
  async #workAlone(draining: AbortSignal, signal: AbortSignal): Promise<void> {
    const { ports, scheduling, reportError, beat } = this.#options;
    const { groupsAtOnce } = scheduling;
    const alone = { worker: this.worker, ports, groupsAtOnce, draining, ...(beat !== undefined && { beat }) };
    await workAlone(alone, signal).catch((error: unknown) => {
      if (!signal.aborted) reportError(error);
    });
  }

  async run(signal: AbortSignal): Promise<void> {
    const { scheduling, draining, beat } = this.#options;
    const listening = {
      ...listenerOptions(this.#options, signal),
      turns: this.#turns,
      whileUnreached: (taking: AbortSignal) => this.#workAlone(taking, signal),
      sessionsAtOnce: scheduling.groupsAtOnce,
      ...(draining !== undefined && { draining }),
      ...(beat !== undefined && { beat }),
    };
    try {
      await listen(listening, signal);
    } finally {
      await Promise.all([listening.queue.close(), this.#queue.close(), listening.runner.idle()]);
      await this.worker.close();
    }
  }
}

/** What a listener needs that does commands, and no turns. Its queue is the caller's to close. */
export function listenerOptions(
  {
    ports: { clock, random },
    commands,
    openCommandQueue,
    reportError,
  }: Omit<WorkOptions, 'settings' | 'scheduling' | 'report'>,
  signal: AbortSignal,
): ListenerOptions {
  return {
    queue: openCommandQueue(),
    commands,
    runner: createJobRunner({ commands, sleep: (ms, until) => clock.sleep(ms, until), random, signal }),
    clock,
    random,
    report: reportError,
  };
}

export interface GivingOptions extends Pick<
  WorkOptions,
  'ports' | 'scheduling' | 'openWorkQueue' | 'openCacheEvents' | 'reportError'
> {
  readonly beat?: SchedulerOptions['beat'];
}

/** A scheduler for the time of `work`, with the queues that it needs. */
export async function withScheduler<T>(options: GivingOptions, work: (scheduler: Scheduler) => Promise<T>): Promise<T> {
  const { ports, scheduling, reportError, beat } = options;
  const queue = options.openWorkQueue();
  const events = options.openCacheEvents();
  const schedulerOptions: SchedulerOptions = {
    ports,
    queue,
    events,
    periodMs: scheduling.periodMs,
    report: reportError,
    ...(beat !== undefined && { beat }),
  };
  try {
    return await work(new Scheduler(schedulerOptions));
  } finally {
    await Promise.all([queue.close(), events.close()]);
  }
}

/** Gives orders for as long as `work` takes. */
export function besideScheduler(options: GivingOptions, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
  return withScheduler(options, async (scheduler) => {
    const stop = new AbortController();
    const scheduling = scheduler.run(AbortSignal.any([signal, stop.signal]));
    try {
      await work();
    } finally {
      stop.abort(new TidemarkError('INTERRUPTED', 'the work ends'));
      await scheduling;
    }
  });
}
