import { TidemarkError } from '../errors.ts';
import type { Counter } from './counter.ts';

/** The lease of one blob. It never expires, since there is no clock; it is taken away or given back. */
export class MemoryLease {
  readonly #name: string;
  readonly #counter: Counter;
  #holder: string | undefined;

  constructor(name: string, counter: Counter) {
    this.#name = name;
    this.#counter = counter;
  }

  /** Takes the lease away from whoever holds it. Returns its new id. */
  take(): string {
    this.#holder = `lease-${String(this.#counter.next()).padStart(12, '0')}`;
    return this.#holder;
  }

  /** @throws TidemarkError OWNERSHIP_LOST unless `id` holds the lease, or there is none and none is given. */
  require(id: string | undefined): void {
    if (this.#holder === id) return;
    throw new TidemarkError('OWNERSHIP_LOST', `the lease of ${this.#name} is not held by ${id ?? 'this call'}`);
  }

  get isHeld(): boolean {
    return this.#holder !== undefined;
  }

  /** Lost already counts as given back. */
  release(id: string): void {
    if (this.#holder === id) this.#holder = undefined;
  }
}
