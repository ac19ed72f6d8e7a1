import pMap from 'p-map';

/**
 * Runs `work` over `items`, at most `limit` at a time. The first failure aborts the signal that the others were given and is thrown
 * when all of them have ended: nothing goes on behind the caller's back.
 */
export async function mapAll<T, R>(
  items: Iterable<T>,
  limit: number,
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal, index: number) => Promise<R>,
): Promise<R[]> {
  signal.throwIfAborted();
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  try {
    return await pMap(
      items,
      async (item, index) => {
        either.throwIfAborted();
        try {
          return await work(item, either, index);
        } catch (error) {
          failed.abort(error);
          throw error;
        }
      },
      { concurrency: limit, stopOnError: false },
    );
  } catch (error) {
    signal.throwIfAborted();
    throw failed.signal.aborted ? failed.signal.reason : error;
  }
}
