/**
 * What an order asks for, done by this process's worker. The group is owned from its first turn in a session until the session is given
 * back; a worker that has lost the session stops, and storage refuses what it may still send (its leases are broken).
 */
import type { CommandMessage, CommandSession } from '../commands/command-queue.ts';
import { TidemarkError } from '../errors.ts';
import type { Clock } from '../worker/ports.ts';
import type { Worker } from '../worker/worker.ts';
import { moreOrder, type OrderSubject } from './orders.ts';
import type { WorkQueue } from './work-queue.ts';

export interface TurnsOptions {
  readonly worker: Worker;
  readonly queue: WorkQueue;
  readonly clock: Clock;
  /** Told of a prune that failed; the worker tells of turns by itself. */
  readonly report: (error: unknown) => void;
  /** Aborts when turns are to end at their next stop. */
  readonly draining: AbortSignal;
}

export interface TurnCounters {
  turns: number;
  /** Orders that an earlier turn of the same session had done already. */
  contained: number;
}

/** The turns of all sessions that this process holds. */
export class Turns {
  readonly #options: TurnsOptions;
  readonly #begunAtMs = new Map<string, number>();
  readonly counters: TurnCounters = { turns: 0, contained: 0 };

  constructor(options: TurnsOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the order is done with; what failed is due again at the next one.
   * @throws TidemarkError OWNERSHIP_LOST when the session is lost; MESSAGING_UNAVAILABLE, MESSAGING_REFUSED when the rest of a long turn
   * cannot be ordered; the signal's reason. Then the message must come again.
   */
  async take(
    session: CommandSession,
    message: CommandMessage,
    subject: OrderSubject,
    signal: AbortSignal,
  ): Promise<void> {
    const { worker, queue, clock, draining } = this.#options;
    const group = session.id;
    const either = AbortSignal.any([signal, session.lost]);
    if (subject === 'prune') return this.#prune(group, either);
    const begunAtMs = this.#begunAtMs.get(group);
    if (begunAtMs !== undefined && message.enqueuedAtMs < begunAtMs) {
      this.counters.contained++;
      return;
    }
    this.#begunAtMs.set(group, nowMs(clock));
    this.counters.turns++;
    const { hasMore } = await worker.turn(group, draining, either);
    either.throwIfAborted();
    if (hasMore) await queue.send([moreOrder(group, message.sequence, nowMs(clock))], either);
  }

  async #prune(group: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.worker.prune(group, signal);
    } catch (error) {
      signal.throwIfAborted();
      // Points of a disabled group or of a failover stay as they are.
      const isKept = error instanceof TidemarkError && ['GROUP_DISABLED', 'FAILOVER_STATE'].includes(error.code);
      if (!isKept) this.#options.report(error);
    }
  }

  /** Before the session is closed. Never throws. */
  async giveBack(group: string): Promise<void> {
    this.#begunAtMs.delete(group);
    await this.#options.worker.giveBack(group);
  }
}

const nowMs = (clock: Clock): number => Math.floor(clock.nowUs() / 1000);
