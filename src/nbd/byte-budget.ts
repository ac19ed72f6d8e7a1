/** Pure. Bytes that all connections of a server may have in memory at once, given out in the order in which they are asked for. */
import { assert } from '../errors.ts';

export interface ByteBudget {
  /** Waits until `bytes` are free; what it returns gives them back, once. Throws the signal's reason when that aborts first. */
  take(bytes: number, signal: AbortSignal): Promise<() => void>;
  /** What is given out at this moment. */
  readonly takenBytes: number;
}

/** No wish may be larger than `limitBytes`. */
export function createByteBudget(limitBytes: number): ByteBudget {
  const waiting: { readonly bytes: number; readonly proceed: () => void }[] = [];
  let takenBytes = 0;
  const admit = (): void => {
    for (let next = waiting[0]; next !== undefined && takenBytes + next.bytes <= limitBytes; next = waiting[0]) {
      waiting.shift();
      takenBytes += next.bytes;
      next.proceed();
    }
  };
  return {
    get takenBytes() {
      return takenBytes;
    },
    async take(bytes, signal) {
      assert(bytes <= limitBytes, `${bytes} bytes are more than the budget of ${limitBytes}`);
      signal.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        const onAbort = (): void => {
          waiting.splice(waiting.indexOf(entry), 1);
          reject(signal.reason as Error);
          admit(); // the one that left may have kept smaller ones waiting
        };
        const entry = {
          bytes,
          proceed: () => {
            signal.removeEventListener('abort', onAbort);
            resolve();
          },
        };
        signal.addEventListener('abort', onAbort, { once: true });
        waiting.push(entry);
        admit();
      });
      let given = false;
      return () => {
        if (given) return;
        given = true;
        takenBytes -= bytes;
        admit();
      };
    },
  };
}
