/** A small blob of the catalog with the ETag it had when it was read. */
export interface StoredBlob {
  readonly bytes: Buffer;
  readonly etag: string;
}

/**
 * The catalog container. Each call is atomic on one blob, and durable when it returns. There is no order between blobs other than
 * the order of awaited calls.
 */
export interface Catalog {
  read(name: string, signal: AbortSignal): Promise<StoredBlob | undefined>;
  /** `If-None-Match: *`. Returns the new ETag, or undefined and changes nothing when the blob exists. */
  create(name: string, bytes: Buffer, signal: AbortSignal): Promise<string | undefined>;
  /**
   * `If-Match`. Returns the new ETag, or undefined and changes nothing when the blob has another ETag or is gone.
   * @throws TidemarkError OWNERSHIP_LOST when `lease` is given and no longer held, or the blob is leased and none is given.
   */
  replace(
    name: string,
    bytes: Buffer,
    etag: string,
    lease: Lease | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined>;
  /** Removes a blob; done already counts as done. With `etag`: returns 'changed' when it has another. */
  delete(name: string, etag: string | undefined, signal: AbortSignal): Promise<'deleted' | 'changed'>;
  /** Names with the prefix, ascending. */
  list(prefix: string, signal: AbortSignal): Promise<readonly string[]>;
  /** Takes the blob's lease away from whoever holds it (break, then acquire). @throws TidemarkError when the blob is missing. */
  takeLease(name: string, signal: AbortSignal): Promise<Lease>;
}

export interface Lease {
  readonly id: string;
  /** @throws TidemarkError OWNERSHIP_LOST */
  renew(signal: AbortSignal): Promise<void>;
  /** Gives it back; lost already counts as given back. */
  release(signal: AbortSignal): Promise<void>;
}

/** Term of every lease, in seconds: the longest finite term that storage grants. Renewed at a third of it. */
export const LEASE_SECONDS = 60;
