import type { Catalog, Lease, StoredBlob } from '../catalog/catalog.ts';
import { TidemarkError } from '../errors.ts';
import { type Counter, etagOf } from './counter.ts';
import { MemoryLease } from './memory-lease.ts';

interface Document {
  bytes: Buffer;
  etag: string;
  readonly lease: MemoryLease;
}

/** The catalog in memory, with ETags, conditions and leases. */
export class MemoryCatalog implements Catalog {
  readonly #counter: Counter;
  readonly #documents = new Map<string, Document>();

  constructor(counter: Counter) {
    this.#counter = counter;
  }

  async read(name: string, signal: AbortSignal): Promise<StoredBlob | undefined> {
    signal.throwIfAborted();
    const document = this.#documents.get(name);
    return document === undefined ? undefined : { bytes: Buffer.from(document.bytes), etag: document.etag };
  }

  async create(name: string, bytes: Buffer, signal: AbortSignal): Promise<string | undefined> {
    signal.throwIfAborted();
    if (this.#documents.has(name)) return undefined;
    const etag = etagOf(this.#counter.next());
    this.#documents.set(name, { bytes: Buffer.from(bytes), etag, lease: new MemoryLease(name, this.#counter) });
    return etag;
  }

  async replace(
    name: string,
    bytes: Buffer,
    etag: string,
    lease: Lease | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    signal.throwIfAborted();
    const document = this.#documents.get(name);
    if (document === undefined && lease !== undefined) {
      throw new TidemarkError('OWNERSHIP_LOST', `${name} is gone, and its lease with it`);
    }
    if (lease !== undefined) document?.lease.require(lease.id);
    if (document === undefined || document.etag !== etag) return undefined;
    document.lease.require(lease?.id);
    document.bytes = Buffer.from(bytes);
    document.etag = etagOf(this.#counter.next());
    return document.etag;
  }

  async delete(name: string, etag: string | undefined, signal: AbortSignal): Promise<'deleted' | 'changed'> {
    signal.throwIfAborted();
    const document = this.#documents.get(name);
    if (document === undefined) return 'deleted';
    if (etag !== undefined && document.etag !== etag) return 'changed';
    document.lease.require(undefined);
    this.#documents.delete(name);
    return 'deleted';
  }

  async list(prefix: string, signal: AbortSignal): Promise<readonly string[]> {
    signal.throwIfAborted();
    return [...this.#documents.keys()].filter((name) => name.startsWith(prefix)).sort();
  }

  isLeased(name: string): boolean {
    return this.#documents.get(name)?.lease.isHeld === true;
  }

  async takeLease(name: string, signal: AbortSignal): Promise<Lease> {
    signal.throwIfAborted();
    const document = this.#documents.get(name);
    if (document === undefined) throw new TidemarkError('BLOB_MISSING', `${name} does not exist`);
    const id = document.lease.take();
    return {
      id,
      renew: async (signal) => {
        signal.throwIfAborted();
        if (this.#documents.get(name) !== document) {
          throw new TidemarkError('OWNERSHIP_LOST', `${name} is gone, and its lease with it`);
        }
        document.lease.require(id);
      },
      release: async (signal) => {
        signal.throwIfAborted();
        document.lease.release(id);
      },
    };
  }
}
