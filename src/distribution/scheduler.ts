/**
 * Gives every group its turn: an order per group and period, and one soon after something was written to its log. Any number of
 * schedulers may run at once, also none for a while: orders are the same whoever gives them, and what is due stays due.
 */
import { listGroups } from '../catalog/groups.ts';
import { TidemarkError } from '../errors.ts';
import { backoffMs, LOOP_PAUSE } from '../retry.ts';
import type { WorkerPorts } from '../worker/ports.ts';
import { cycleOrder, eventOrder, groupOfEvent, pruneOrder, type Order } from './orders.ts';
import type { CacheEventQueue, WorkQueue } from './work-queue.ts';

/** What one round of a loop may take; a longer one is given up, and begun anew after a pause. */
export const STEP_LIMIT_MS = 45_000;
/** While nothing is due. */
const BEAT_MS = 10_000;

/** One gives orders by the clock, the other by cache events. */
export const SCHEDULER_LOOPS = ['ticks', 'cache-events'] as const;
export type SchedulerLoop = (typeof SCHEDULER_LOOPS)[number];

export interface SchedulerOptions {
  readonly ports: Pick<WorkerPorts, 'catalog' | 'clock' | 'random'>;
  readonly queue: WorkQueue;
  /** Undefined: nobody tells of new segments. */
  readonly events: CacheEventQueue | undefined;
  /** Distance of two turns of a group of which nothing is heard. */
  readonly periodMs: number;
  /** Told of what keeps orders from being given, once per streak of failures. */
  readonly report: (error: unknown) => void;
  /** Called while a loop of it goes round, also when what it does fails: at least every {@link STEP_LIMIT_MS}, and a pause. */
  readonly beat?: (loop: SchedulerLoop) => void;
}

/** What a scheduler has done since it was made. */
export interface SchedulerCounters {
  ticks: number;
  /** Sent; the queue may have dropped some as duplicates. */
  orders: number;
  events: number;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly counters: SchedulerCounters = { ticks: 0, orders: 0, events: 0 };
  /** As of `listedAtMs`: an event of any other group waits for the next look. */
  #groups: ReadonlySet<string> = new Set();
  #listedAtMs = -Infinity;

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /** Until the signal aborts. Never throws. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#repeat('ticks', () => this.#tickAndWait(signal), signal),
      this.#repeat('cache-events', () => this.#takeEvents(signal), signal),
    ]);
  }

  /** An order for every group that has none in line. @throws TidemarkError what storage and the queue throw */
  async tick(signal: AbortSignal): Promise<void> {
    const { periodMs } = this.#options;
    await this.#orderAll((group, nowMs) => cycleOrder(group, periodMs, nowMs), signal);
    this.counters.ticks++;
  }

  /** An order to prune every group, paused ones too. @throws as {@link Scheduler.tick} */
  async prune(signal: AbortSignal): Promise<void> {
    const { periodMs } = this.#options;
    await this.#orderAll((group, nowMs) => pruneOrder(group, periodMs, nowMs), signal);
  }

  /**
   * An order for every group that these events tell of; one of a group that was protected a moment ago is left to the next tick.
   * @param bodies of messages of Event Grid @throws as {@link Scheduler.tick}
   */
  async tell(bodies: readonly unknown[], signal: AbortSignal): Promise<void> {
    this.counters.events += bodies.length;
    const told = [...new Set(bodies.map(groupOfEvent).filter((group) => group !== undefined))];
    const isOld = this.#nowMs() - this.#listedAtMs >= this.#options.periodMs;
    if (isOld && told.some((group) => !this.#groups.has(group))) await this.#list(signal);
    const nowMs = this.#nowMs();
    const known = told.filter((group) => this.#groups.has(group));
    await this.#send(
      known.map((group) => eventOrder(group, nowMs)),
      signal,
    );
  }

  async #list(signal: AbortSignal): Promise<readonly string[]> {
    const groups = await listGroups(this.#options.ports.catalog, signal);
    this.#groups = new Set(groups);
    this.#listedAtMs = this.#nowMs();
    return groups;
  }

  async #orderAll(orderOf: (group: string, nowMs: number) => Order, signal: AbortSignal): Promise<void> {
    const groups = await this.#list(signal);
    const waiting = await this.#options.queue.waiting(signal);
    const nowMs = this.#nowMs();
    await this.#send(
      groups.filter((group) => !waiting.has(group)).map((group) => orderOf(group, nowMs)),
      signal,
    );
  }

  async #tickAndWait(signal: AbortSignal): Promise<void> {
    const { periodMs } = this.#options;
    await inTime(signal, (limited) => this.tick(limited));
    const nowMs = this.#nowMs();
    await this.#wait('ticks', periodMs - (nowMs % periodMs), signal);
  }

  async #wait(loop: SchedulerLoop, ms: number, signal: AbortSignal): Promise<void> {
    for (let leftMs = ms; leftMs > 0; leftMs -= BEAT_MS) {
      await this.#options.ports.clock.sleep(Math.min(leftMs, BEAT_MS), signal);
      this.#options.beat?.(loop);
    }
  }

  async #takeEvents(signal: AbortSignal): Promise<void> {
    const { events, periodMs } = this.#options;
    if (events === undefined) return this.#wait('cache-events', periodMs, signal);
    const batch = await events.receive(signal);
    this.#options.beat?.('cache-events');
    if (batch === undefined) return;
    await inTime(signal, async (limited) => {
      await this.tell(batch.bodies, limited);
      await batch.complete(limited);
    });
  }

  async #send(orders: readonly Order[], signal: AbortSignal): Promise<void> {
    if (orders.length === 0) return;
    await this.#options.queue.send(orders, signal);
    this.counters.orders += orders.length;
  }

  async #repeat(loop: SchedulerLoop, step: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { ports, report } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      this.#options.beat?.(loop);
      try {
        await step();
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (++failures === 1) report(error);
        const pauseMs = backoffMs({ ...LOOP_PAUSE, random: ports.random }, failures);
        await ports.clock.sleep(pauseMs, signal).catch(() => undefined);
      }
    }
  }

  #nowMs(): number {
    return Math.floor(this.#options.ports.clock.nowUs() / 1000);
  }
}

/** @throws TidemarkError MESSAGING_UNAVAILABLE when it takes longer than {@link STEP_LIMIT_MS} */
async function inTime(signal: AbortSignal, step: (limited: AbortSignal) => Promise<void>): Promise<void> {
  const late = new AbortController();
  const reason = new TidemarkError('MESSAGING_UNAVAILABLE', `no orders were given within ${STEP_LIMIT_MS / 1000} s`);
  const timer = setTimeout(() => late.abort(reason), STEP_LIMIT_MS);
  try {
    await step(AbortSignal.any([signal, late.signal]));
  } finally {
    clearTimeout(timer);
  }
}
