/**
 * A document of the catalog in the hands of one executor: its lease, and every write under lease and ETag. Whoever takes it later takes
 * the lease away, and this one's next write fails.
 */
import type { z } from 'zod';
import type { Catalog, Lease } from '../catalog/catalog.ts';
import { readDocument, replaceDocument, type Versioned } from '../catalog/documents.ts';
import { assert } from '../errors.ts';
import { keepLeases, RELEASE_LIMIT_MS, type KeptLeases } from './lease-keeper.ts';
import type { Clock } from './ports.ts';

export interface DocumentPorts {
  readonly catalog: Catalog;
  readonly clock: Clock;
}

export interface LeasedName<T> {
  readonly name: string;
  readonly schema: z.ZodType<T>;
  /** For messages about the lease. */
  readonly title: string;
}

interface Held<T> {
  readonly ports: DocumentPorts;
  readonly about: LeasedName<T>;
  readonly lease: Lease;
  readonly kept: KeptLeases;
  readonly document: T;
  readonly etag: string;
}

export class LeasedDocument<T extends Versioned> {
  readonly #held: Held<T>;
  #document: T;
  #etag: string;
  #isLost = false;
  /** Saves queue up behind each other: steps beside each other share one document. */
  #saving: Promise<void> = Promise.resolve();

  private constructor(held: Held<T>) {
    this.#held = held;
    this.#document = held.document;
    this.#etag = held.etag;
  }

  /** Takes it away from whoever holds it. @throws TidemarkError BLOB_MISSING when there is none */
  static async take<T extends Versioned>(
    ports: DocumentPorts,
    about: LeasedName<T>,
    signal: AbortSignal,
  ): Promise<LeasedDocument<T>> {
    const lease = await ports.catalog.takeLease(about.name, signal);
    const kept = keepLeases({ group: about.title, leases: [lease] }, ports.clock, signal);
    try {
      const stored = await readDocument(ports.catalog, about.name, about.schema, kept.signal);
      assert(stored !== undefined, `${about.name} was there when its lease was taken`);
      return new LeasedDocument({ ports, about, lease, kept, document: stored.value, etag: stored.etag });
    } catch (error) {
      await giveBack(lease, kept);
      throw error;
    }
  }

  get document(): T {
    return this.#document;
  }

  /** Aborts when the lease may no longer be held. */
  get signal(): AbortSignal {
    return this.#held.kept.signal;
  }

  /** Whether a write has failed: what is remembered here is then no longer what is stored, and the executor must stop. */
  get isLost(): boolean {
    return this.#isLost || this.signal.aborted;
  }

  /** @throws TidemarkError OWNERSHIP_LOST unless it is still this executor's */
  readonly confirm = (signal: AbortSignal): Promise<void> => this.#held.lease.renew(signal);

  /** Writes the changed document: one guarded write. @throws TidemarkError OWNERSHIP_LOST, CONFLICT, STORAGE_* */
  async save(change: (current: T) => T): Promise<void> {
    const write = this.#write(this.#saving, change);
    this.#saving = write.catch(() => undefined); // the caller has the failure
    await write;
  }

  async #write(after: Promise<void>, change: (current: T) => T): Promise<void> {
    await after;
    const value = change(this.#document);
    if (value === this.#document) return;
    const { ports, about, lease } = this.#held;
    try {
      const replacement = { name: about.name, schema: about.schema, value, etag: this.#etag, lease };
      this.#etag = await replaceDocument(ports.catalog, replacement, this.signal);
    } catch (error) {
      this.#isLost = true;
      throw error;
    }
    this.#document = value;
  }

  /** Gives the lease back; what cannot be given back expires. */
  async close(): Promise<void> {
    await giveBack(this.#held.lease, this.#held.kept);
  }
}

async function giveBack(lease: Lease, kept: KeptLeases): Promise<void> {
  await kept.stop();
  await lease.release(AbortSignal.timeout(RELEASE_LIMIT_MS)).catch(() => undefined);
}
