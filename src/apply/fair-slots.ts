/**
 * Slots for requests in flight to one storage account, shared by the groups that are drained at once. One slot stays free for each
 * other group that has none: so a group whose requests hang cannot hold up the others, whatever it asks for.
 */
interface Waiting {
  readonly sharer: string;
  start(): void;
}

export interface FairSlotsOptions {
  /** Requests in flight in all. */
  readonly concurrency: number;
  /** Groups that may want slots at the same time; more than that share what there is, first come first served. */
  readonly sharers: number;
}

export class FairSlots {
  readonly concurrency: number;
  readonly #sharers: number;
  readonly #inFlight = new Map<string, number>();
  #total = 0;
  #waiting: Waiting[] = [];

  constructor({ concurrency, sharers }: FairSlotsOptions) {
    this.concurrency = concurrency;
    this.#sharers = Math.min(sharers, concurrency);
  }

  /** Runs `work` once a slot is free for `sharer`. Of those that may start, the sharer with the fewest requests in flight comes first. */
  async run<T>(sharer: string, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((resolve) => {
      this.#waiting.push({ sharer, start: resolve });
      this.#startWhatMay();
    });
    try {
      return await work();
    } finally {
      this.#give(sharer);
    }
  }

  #startWhatMay(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.#waiting = this.#waiting.filter((other) => other !== next);
      this.#inFlight.set(next.sharer, this.#count(next.sharer) + 1);
      this.#total++;
      next.start();
    }
  }

  #next(): Waiting | undefined {
    if (this.#total >= this.concurrency) return undefined;
    let best: Waiting | undefined;
    for (const waiting of this.#waiting) {
      if (!this.#mayStart(waiting.sharer)) continue;
      if (best === undefined || this.#count(waiting.sharer) < this.#count(best.sharer)) best = waiting;
    }
    return best;
  }

  #mayStart(sharer: string): boolean {
    if (this.#count(sharer) === 0) return true;
    const withoutSlot = Math.max(0, this.#sharers - this.#inFlight.size);
    return this.#total < this.concurrency - withoutSlot;
  }

  #count(sharer: string): number {
    return this.#inFlight.get(sharer) ?? 0;
  }

  #give(sharer: string): void {
    const left = this.#count(sharer) - 1;
    if (left === 0) this.#inFlight.delete(sharer);
    else this.#inFlight.set(sharer, left);
    this.#total--;
    this.#startWhatMay();
  }
}
