/**
 * How an account that refuses for now (429, 503) is treated: nothing is sent before the time that it asks for, and then half as many
 * requests at once; each full round of answers adds one again. So a throttled account slows its callers instead of failing them.
 */
import PQueue from 'p-queue';
import type { Waiting } from '../apply/rate-limit.ts';
import { backoffMs } from '../retry.ts';

/** The first pause, and the longest without a Retry-After. */
const PAUSE = { firstDelayMs: 200, maxDelayMs: 5000 } as const;

export interface ThrottleOptions {
  /** Requests in flight at the most. */
  readonly concurrency: number;
  readonly waiting: Waiting;
  /** In [0, 1). */
  readonly random: () => number;
}

export class Throttle {
  readonly #options: ThrottleOptions;
  readonly #queue: PQueue;
  /** Refusals since the last answer, pauses that are under way not counted. */
  #refusals = 0;
  /** Answers since the concurrency last changed. */
  #answers = 0;
  #opensAtMs = 0;

  constructor(options: ThrottleOptions) {
    this.#options = options;
    this.#queue = new PQueue({ concurrency: options.concurrency });
  }

  /** Requests that may be in flight now. */
  get concurrency(): number {
    return this.#queue.concurrency;
  }

  /** Runs `request` when its turn has come. @throws the signal's reason when it aborts before that */
  run<T>(request: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#queue.add(request, { signal });
  }

  /** A request was carried out, or refused for good. */
  answered(): void {
    this.#refusals = 0;
    if (++this.#answers < this.concurrency) return;
    this.#answers = 0;
    this.#queue.concurrency = Math.min(this.#options.concurrency, this.concurrency + 1);
  }

  /**
   * A request was refused for now. Refusals of requests that were under way when the pause began count once.
   * @param retryAfterMs what the account asks for at least; undefined when it names no time
   * @returns how long nothing is sent from now on, in ms
   */
  refused(retryAfterMs: number | undefined): number {
    const { waiting, random } = this.#options;
    const nowMs = waiting.nowMs();
    const isPaused = nowMs < this.#opensAtMs;
    if (!isPaused) {
      this.#refusals++;
      this.#answers = 0;
      this.#queue.concurrency = Math.max(1, Math.floor(this.concurrency / 2));
    }
    const pauseMs = Math.max(retryAfterMs ?? 0, isPaused ? 0 : backoffMs({ ...PAUSE, random }, this.#refusals));
    if (nowMs + pauseMs > this.#opensAtMs) {
      this.#opensAtMs = nowMs + pauseMs;
      if (!this.#queue.isPaused) this.#pause();
    }
    return this.#opensAtMs - nowMs;
  }

  #pause(): void {
    this.#queue.pause();
    void this.#untilOpen().then(() => this.#queue.start());
  }

  async #untilOpen(): Promise<void> {
    const { waiting } = this.#options;
    for (let leftMs = this.#opensAtMs - waiting.nowMs(); leftMs > 0; leftMs = this.#opensAtMs - waiting.nowMs()) {
      await waiting.sleep(leftMs, NEVER);
    }
  }
}

/** Pauses end by themselves; who waits in one has a signal of its own. */
const NEVER = new AbortController().signal;
