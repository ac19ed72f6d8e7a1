/** A limit in time for work that heeds a signal. */
import { TidemarkError } from '../errors.ts';
import type { Clock } from '../worker/ports.ts';

export interface TimeLimit {
  readonly clock: Clock;
  /** From now on; null: none. */
  readonly ms: number | null;
  readonly what: string;
}

/** @throws TidemarkError PLAN_STEP_TIMEOUT once the work has ended after its time was up; what the work throws */
export async function within<T>(
  { clock, ms, what }: TimeLimit,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (ms === null) return work(signal);
  const late = new AbortController();
  const done = new AbortController();
  const watch = clock
    .sleep(ms, AbortSignal.any([signal, done.signal]))
    .then(() => late.abort(new TidemarkError('PLAN_STEP_TIMEOUT', `${what} took more than ${ms / 60_000} min`)))
    .catch(() => undefined); // the work is done, or the signal aborted
  try {
    return await work(AbortSignal.any([signal, late.signal]));
  } catch (error) {
    if (late.signal.aborted && !signal.aborted) throw late.signal.reason;
    throw error;
  } finally {
    done.abort();
    await watch;
  }
}
