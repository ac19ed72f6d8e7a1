/** Sends a plan's requests to a seed disk: in parallel, within the limits of the disk and of the account. */
import { extentsOfRequest, type ChangedExtent } from '../coalesce/change-list.ts';
import { putData, type SeedRequest } from '../coalesce/requests.ts';
import { mapAll } from '../map-all.ts';
import type { SeedDisk } from '../seed/seed-store.ts';
import type { FairSlots } from './fair-slots.ts';
import type { RateLimit } from './rate-limit.ts';

export interface WriteCounters {
  putRequests: number;
  putBytes: number;
  clearRequests: number;
  clearBytes: number;
}

export interface SeedWriterOptions {
  readonly seed: SeedDisk;
  /** Requests in flight for this disk. */
  readonly requestsPerDisk: number;
  /** Shared by all groups that write to the storage account; its concurrency is the account's limit. */
  readonly account: FairSlots;
  /** Whose slots of the account it takes. */
  readonly group: string;
  readonly rate: RateLimit | undefined;
  /** Added to as requests succeed. */
  readonly counters: WriteCounters;
}

export class SeedWriter {
  readonly #options: SeedWriterOptions;

  constructor(options: SeedWriterOptions) {
    this.#options = options;
  }

  /**
   * Resolves when every request is durable. On the first failure no further request is started, those in flight are awaited, and the
   * failure is thrown: the seed then holds some of the plan, and applying the same records again makes it whole.
   * @returns what changed, ascending, with the checksums of what was sent
   */
  async write(requests: readonly SeedRequest[], signal: AbortSignal): Promise<ChangedExtent[]> {
    const { account, group, requestsPerDisk } = this.#options;
    const changed = await mapAll(requests, requestsPerDisk, signal, (request, either) =>
      account.run(group, () => this.#send(request, either)),
    );
    return changed.flat();
  }

  async #send(request: SeedRequest, signal: AbortSignal): Promise<ChangedExtent[]> {
    const { seed, rate, counters } = this.#options;
    await rate?.take(request.kind === 'put' ? request.lengthBytes : 0, signal);
    signal.throwIfAborted();
    if (request.kind === 'clear') {
      await seed.clearPages(request.offsetBytes, request.lengthBytes, signal);
      counters.clearRequests++;
      counters.clearBytes += request.lengthBytes;
      return extentsOfRequest(request, undefined);
    }
    const data = putData(request);
    const sent = seed.putPages(request.offsetBytes, data, signal);
    const extents = extentsOfRequest(request, data); // checksums are computed while the request is on its way
    await sent;
    counters.putRequests++;
    counters.putBytes += request.lengthBytes;
    return extents;
  }
}
