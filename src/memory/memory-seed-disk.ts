import { assert, TidemarkError } from '../errors.ts';
import { assertMetadata, assertPut, assertSectors } from '../seed/seed-guards.ts';
import type { ByteRange, SeedDisk, SeedReader, SnapshotInfo, SnapshotMetadata } from '../seed/seed-store.ts';
import { type Counter, snapshotTimeOf } from './counter.ts';
import { MemoryLease } from './memory-lease.ts';
import { PageImage } from './page-image.ts';

export interface PageBlob {
  readonly name: string;
  readonly blobBytes: number;
  readonly image: PageImage;
  readonly lease: MemoryLease;
  /** By snapshot time, in the order of making. */
  readonly snapshots: Map<string, { readonly image: PageImage; readonly metadata: SnapshotMetadata }>;
}

/** An empty blob, held by nobody. */
export function newPageBlob(name: string, blobBytes: number, counter: Counter): PageBlob {
  return { name, blobBytes, image: new PageImage(), lease: new MemoryLease(name, counter), snapshots: new Map() };
}

/** Snapshots of one page blob. */
export class MemorySeedReader implements SeedReader {
  readonly #blobs: ReadonlyMap<string, PageBlob>;
  readonly #name: string;

  constructor(blobs: ReadonlyMap<string, PageBlob>, name: string) {
    this.#blobs = blobs;
    this.#name = name;
  }

  async listSnapshots(signal: AbortSignal): Promise<readonly SnapshotInfo[]> {
    signal.throwIfAborted();
    const snapshots = this.#blobs.get(this.#name)?.snapshots ?? [];
    return [...snapshots].map(([snapshot, { metadata }]) => ({ snapshot, metadata: { ...metadata } }));
  }

  async read(snapshot: string, offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    assert(Number.isSafeInteger(offsetBytes) && offsetBytes >= 0, `offset ${offsetBytes} is no offset`);
    assert(Number.isSafeInteger(lengthBytes) && lengthBytes >= 0, `length ${lengthBytes} is no length`);
    const { image, blobBytes } = this.#require(snapshot);
    assert(offsetBytes + lengthBytes <= blobBytes, `range ${offsetBytes}+${lengthBytes} ends outside the blob`);
    return image.read(offsetBytes, lengthBytes);
  }

  async ranges(snapshot: string, sizeBytes: number, signal: AbortSignal): Promise<readonly ByteRange[]> {
    signal.throwIfAborted();
    return this.#require(snapshot).image.ranges(sizeBytes);
  }

  /** @throws TidemarkError SNAPSHOT_MISSING */
  image(snapshot: string): PageImage {
    return this.#require(snapshot).image;
  }

  #require(snapshot: string): { readonly image: PageImage; readonly blobBytes: number } {
    assert(snapshot !== '', 'a snapshot has a name');
    const blob = this.#blobs.get(this.#name);
    const image = blob?.snapshots.get(snapshot)?.image;
    if (blob === undefined || image === undefined) {
      throw new TidemarkError('SNAPSHOT_MISSING', `${this.#name} has no snapshot ${snapshot}`);
    }
    return { image, blobBytes: blob.blobBytes };
  }
}

/** A page blob under its owner's lease: a seed disk, or a copy of a point. */
export class MemorySeedDisk extends MemorySeedReader implements SeedDisk {
  readonly #blob: PageBlob;
  readonly #leaseId: string;
  readonly #sizeBytes: number;
  readonly #counter: Counter;

  constructor(
    blobs: ReadonlyMap<string, PageBlob>,
    blob: PageBlob,
    owner: { readonly leaseId: string; readonly sizeBytes: number; readonly counter: Counter },
  ) {
    super(blobs, blob.name);
    this.#blob = blob;
    this.#leaseId = owner.leaseId;
    this.#sizeBytes = owner.sizeBytes;
    this.#counter = owner.counter;
  }

  async putPages(offsetBytes: number, data: Buffer, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    assertPut(offsetBytes, data, this.#sizeBytes);
    this.#blob.lease.require(this.#leaseId);
    this.#blob.image.write(offsetBytes, data);
  }

  async clearPages(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    assertSectors(offsetBytes, lengthBytes, this.#sizeBytes);
    this.#blob.lease.require(this.#leaseId);
    this.#blob.image.clear(offsetBytes, lengthBytes);
  }

  async snapshot(metadata: SnapshotMetadata, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    assertMetadata(metadata);
    this.#blob.lease.require(this.#leaseId);
    const id = snapshotTimeOf(this.#counter.next());
    this.#blob.snapshots.set(id, { image: this.#blob.image.snapshot(), metadata: { ...metadata } });
    return id;
  }

  async deleteSnapshot(snapshot: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    assert(snapshot !== '', 'a snapshot has a name');
    this.#blob.snapshots.delete(snapshot);
  }

  async renew(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#blob.lease.require(this.#leaseId);
  }

  async close(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#blob.lease.release(this.#leaseId);
  }
}
