import { createCounter, type Counter } from './counter.ts';
import { MemoryCatalog } from './memory-catalog.ts';
import { MemoryCopyStore } from './memory-copy-store.ts';
import { MemoryLogStore } from './memory-log-store.ts';
import { MemorySeedStore } from './memory-seed-store.ts';

export interface MemoryStorage {
  readonly logStore: MemoryLogStore;
  /** The same object as `logStore`. */
  readonly logUpload: MemoryLogStore;
  readonly seeds: MemorySeedStore;
  readonly copies: MemoryCopyStore;
  readonly catalog: MemoryCatalog;
}

/**
 * Storage for simulations and properties: the same ports and conditions as the Azure adapters, no I/O, no clock. The same calls in the
 * same order give the same ids, ETags and bytes.
 */
export function createMemoryStorage(counter: Counter = createCounter()): MemoryStorage {
  const logs = new MemoryLogStore();
  const seeds = new MemorySeedStore(counter);
  return {
    logStore: logs,
    logUpload: logs,
    seeds,
    copies: new MemoryCopyStore(counter, seeds),
    catalog: new MemoryCatalog(counter),
  };
}
