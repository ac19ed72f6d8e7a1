/** A token bucket over requests and bytes: Azure's limits of one standard page blob (500 requests/s, 60 MiB/s). */
import { MIB } from '../model/sizes.ts';

export interface Rate {
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
}

/** Azure Storage scalability targets, standard page blobs. */
export const STANDARD_PAGE_BLOB: Rate = { requestsPerSecond: 500, bytesPerSecond: 60 * MIB };

export interface Waiting {
  /** Milliseconds of a monotonic clock. */
  nowMs(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/**
 * Requests pass in the order of their calls. After a pause at most one second's worth passes at once, so over any t seconds at most
 * (t + 1) times the rate passes.
 */
export class RateLimit {
  readonly #rate: Rate;
  readonly #waiting: Waiting;
  /** When the bucket would be full again if nothing more were taken, in ms. */
  #requestsFullAtMs = 0;
  #bytesFullAtMs = 0;

  constructor(rate: Rate, waiting: Waiting) {
    this.#rate = rate;
    this.#waiting = waiting;
  }

  /** Waits until a request of `bytes` may be sent. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.#waiting.nowMs();
    this.#requestsFullAtMs = Math.max(nowMs, this.#requestsFullAtMs) + 1000 / this.#rate.requestsPerSecond;
    this.#bytesFullAtMs = Math.max(nowMs, this.#bytesFullAtMs) + (bytes * 1000) / this.#rate.bytesPerSecond;
    const waitMs = Math.max(this.#requestsFullAtMs, this.#bytesFullAtMs) - nowMs - 1000;
    if (waitMs > 0) await this.#waiting.sleep(waitMs, signal);
  }
}
