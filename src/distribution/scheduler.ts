/**
 * Gives every group its turn: an order per group and period, and one soon after something was written to its log. Any number of
 * schedulers may run at once, also none for a while: orders are the same whoever gives them, and what is due stays due.
 */
import { listGroups } from '../catalog/groups.ts';
import { backoffMs } from '../retry.ts';
import type { WorkerPorts } from '../worker/ports.ts';
import { cycleOrder, eventOrder, groupOfEvent, pruneOrder, type Order } from './orders.ts';
import type { CacheEventQueue, WorkQueue } from './work-queue.ts';

/** Pause after a failure, doubled each time up to the second figure. */
const PAUSE = { firstDelayMs: 1000, maxDelayMs: 30_000 } as const;

export interface SchedulerOptions {
  readonly ports: Pick<WorkerPorts, 'catalog' | 'clock' | 'random'>;
  readonly queue: WorkQueue;
  /** Undefined: nobody tells of new segments. */
  readonly events: CacheEventQueue | undefined;
  /** Distance of two turns of a group of which nothing is heard. */
  readonly periodMs: number;
  /** Told of what keeps orders from being given, once per streak of failures. */
  readonly report: (error: unknown) => void;
  /** Called while its loops go round. */
  readonly beat?: () => void;
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
  /** As of the last tick: an event of any other group waits for the next one. */
  #groups: ReadonlySet<string> = new Set();

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /** Until the signal aborts. Never throws. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#repeat(() => this.#tickAndWait(signal), signal),
      this.#repeat(() => this.#takeEvents(signal), signal),
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

  async #orderAll(orderOf: (group: string, nowMs: number) => Order, signal: AbortSignal): Promise<void> {
    const { ports, queue } = this.#options;
    const groups = await listGroups(ports.catalog, signal);
    this.#groups = new Set(groups);
    const waiting = await queue.waiting(signal);
    const nowMs = this.#nowMs();
    await this.#send(
      groups.filter((group) => !waiting.has(group)).map((group) => orderOf(group, nowMs)),
      signal,
    );
  }

  async #tickAndWait(signal: AbortSignal): Promise<void> {
    const { ports, periodMs } = this.#options;
    await this.tick(signal);
    const nowMs = this.#nowMs();
    await ports.clock.sleep(periodMs - (nowMs % periodMs), signal);
  }

  async #takeEvents(signal: AbortSignal): Promise<void> {
    const { events, ports } = this.#options;
    if (events === undefined) return ports.clock.sleep(this.#options.periodMs, signal);
    const batch = await events.receive(signal);
    if (batch === undefined) return;
    this.counters.events += batch.bodies.length;
    const groups = new Set(batch.bodies.map(groupOfEvent).filter((group) => group !== undefined));
    const nowMs = this.#nowMs();
    const known = [...groups].filter((group) => this.#groups.has(group));
    await this.#send(
      known.map((group) => eventOrder(group, nowMs)),
      signal,
    );
    await batch.complete(signal);
  }

  async #send(orders: readonly Order[], signal: AbortSignal): Promise<void> {
    if (orders.length === 0) return;
    await this.#options.queue.send(orders, signal);
    this.counters.orders += orders.length;
  }

  async #repeat(step: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { ports, report } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      this.#options.beat?.();
      try {
        await step();
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (++failures === 1) report(error);
        const pauseMs = backoffMs({ ...PAUSE, random: ports.random }, failures);
        await ports.clock.sleep(pauseMs, signal).catch(() => undefined);
      }
    }
  }

  #nowMs(): number {
    return Math.floor(this.#options.ports.clock.nowUs() / 1000);
  }
}
