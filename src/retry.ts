/** Bounded retries with jittered backoff; time and chance are passed in. */
import { TidemarkError } from './errors.ts';

/** Rejects when the signal aborts. */
export type Sleep = (milliseconds: number, signal: AbortSignal) => Promise<void>;

export interface RetryPolicy {
  /** Calls in all, the first one included. */
  readonly attempts: number;
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  readonly sleep: Sleep;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Four calls within about ten seconds: an outage longer than that is left to the next cycle of the caller. */
export const MESSAGING_RETRY = { attempts: 4, firstDelayMs: 500, maxDelayMs: 5000 } as const;

/** Of a loop that goes on whatever happens: the pause after a failure, doubled each time up to the second figure. */
export const LOOP_PAUSE = { firstDelayMs: 1000, maxDelayMs: 30_000 } as const;

/** Before call `attempt + 1`: doubled each time, capped, then somewhere between half and all of that. */
export function backoffMs(
  policy: Pick<RetryPolicy, 'firstDelayMs' | 'maxDelayMs' | 'random'>,
  attempt: number,
): number {
  const ceilingMs = Math.min(policy.maxDelayMs, policy.firstDelayMs * 2 ** (attempt - 1));
  return ceilingMs * (0.5 + policy.random() / 2);
}

/**
 * Repeats `call` while it fails with an error of class `retry`, at most `attempts` times in all.
 *
 * @throws the last error; the signal's reason when it aborts
 */
export async function withRetries<T>(policy: RetryPolicy, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await call();
    } catch (error) {
      const again = error instanceof TidemarkError && error.class === 'retry' && attempt < policy.attempts;
      if (!again) throw error;
    }
    await policy.sleep(backoffMs(policy, attempt), signal);
  }
}
