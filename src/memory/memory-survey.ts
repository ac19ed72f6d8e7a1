import { pointCopiesPrefix } from '../copies/copy-store.ts';
import { diskOfSeedName } from '../model/names.ts';
import type { ReplicaSurvey, SizedCopy, SizedDisk } from '../rebuild/survey.ts';
import type { MemoryStorage } from './memory-storage.ts';

type Surveyed = Pick<MemoryStorage, 'seeds' | 'copies' | 'catalog'>;

/** Looks at storage in memory. */
export class MemorySurvey implements ReplicaSurvey {
  readonly #storage: Surveyed;

  constructor(storage: Surveyed) {
    this.#storage = storage;
  }

  async groups(signal: AbortSignal): Promise<readonly string[]> {
    signal.throwIfAborted();
    const keys = this.#storage.seeds.sizes().map(({ name }) => diskOfSeedName(name));
    return [...new Set(keys.flatMap((key) => (key === undefined ? [] : [key.group])))].sort();
  }

  async seeds(group: string, signal: AbortSignal): Promise<readonly SizedDisk[]> {
    signal.throwIfAborted();
    return this.#storage.seeds.sizes().flatMap(({ name, blobBytes }) => {
      const key = diskOfSeedName(name);
      return key?.group === group ? [{ machine: key.machine, disk: key.disk, blobBytes }] : [];
    });
  }

  async copies(group: string, signal: AbortSignal): Promise<readonly SizedCopy[]> {
    const { copies } = this.#storage;
    const names = await copies.list(pointCopiesPrefix(group), signal);
    return names.map((copy) => ({ copy, blobBytes: copies.peek(copy)?.blobBytes ?? 0 }));
  }

  async isLeased(name: string, signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    return this.#storage.catalog.isLeased(name);
  }
}
