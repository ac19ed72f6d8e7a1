/** What is left of the time that the host gives one invocation. */
import { TidemarkError } from '../../errors.ts';
import type { Waiting } from '../../apply/rate-limit.ts';

/** Of the host's limit: when work is handed over, and when what has not ended by then is dropped. The rest is for giving back. */
export const SHARES = { handOver: 0.8, stop: 0.9 } as const;

export interface TimeLimit {
  readonly handOver: AbortSignal;
  readonly stop: AbortSignal;
}

/** Does the work with its limit. Both signals stay as they are once it has ended. */
export async function withinLimit<T>(
  clock: Pick<Waiting, 'sleep'>,
  timeoutMs: number,
  work: (limit: TimeLimit) => Promise<T>,
): Promise<T> {
  const ended = new AbortController();
  const after = (share: number, what: string): AbortSignal => {
    const controller = new AbortController();
    const late = (): void => controller.abort(new TidemarkError('INTERRUPTED', what));
    void clock.sleep(timeoutMs * share, ended.signal).then(late, () => undefined);
    return controller.signal;
  };
  try {
    return await work({
      handOver: after(SHARES.handOver, "the function's time is nearly over: the next invocation goes on"),
      stop: after(SHARES.stop, "the function's time is over: the next invocation begins again"),
    });
  } finally {
    ended.abort();
  }
}
