import { assertMetadata, assertPut, assertSectors, assertSeed } from '../seed/seed-guards.ts';
import { assert, TidemarkError } from '../errors.ts';
import { type DiskKey, diskOfSeedName, seedName } from '../model/names.ts';
import { SECTOR_BYTES } from '../model/sizes.ts';
import type { ByteRange, SeedDisk, SeedReader, SeedStore, SnapshotInfo, SnapshotMetadata } from '../seed/seed-store.ts';
import { type Counter, snapshotTimeOf } from './counter.ts';
import { MemoryLease } from './memory-lease.ts';
import { PageImage } from './page-image.ts';

interface PageBlob {
  readonly name: string;
  readonly blobBytes: number;
  readonly image: PageImage;
  readonly lease: MemoryLease;
  /** By snapshot time, in the order of making. */
  readonly snapshots: Map<string, { readonly image: PageImage; readonly metadata: SnapshotMetadata }>;
}

/** Seed disks in memory, with leases, immutable snapshots and page ranges of 512 bytes. */
export class MemorySeedStore implements SeedStore {
  readonly #counter: Counter;
  readonly #blobs = new Map<string, PageBlob>();

  constructor(counter: Counter) {
    this.#counter = counter;
  }

  async open(key: DiskKey, sizeBytes: number, footer: Buffer, signal: AbortSignal): Promise<SeedDisk> {
    signal.throwIfAborted();
    assertSeed(sizeBytes, footer);
    const name = seedName(key);
    const blobBytes = sizeBytes + footer.length;
    const blob = this.#blobs.get(name) ?? {
      name,
      blobBytes,
      image: new PageImage(),
      lease: new MemoryLease(name, this.#counter),
      snapshots: new Map(),
    };
    if (blob.blobBytes !== blobBytes) {
      throw new TidemarkError('SEED_MISMATCH', `${name} has ${blob.blobBytes} bytes; wanted are ${blobBytes}`);
    }
    this.#blobs.set(name, blob);
    const leaseId = blob.lease.take();
    blob.image.write(sizeBytes, footer);
    return new MemorySeedDisk(this.#blobs, blob, { leaseId, sizeBytes, counter: this.#counter });
  }

  reader(key: DiskKey): SeedReader {
    return new MemorySeedReader(this.#blobs, seedName(key));
  }

  async list(group: string, signal: AbortSignal): Promise<readonly DiskKey[]> {
    signal.throwIfAborted();
    const keys = [...this.#blobs.keys()].sort().map(diskOfSeedName);
    return keys.filter((key) => key !== undefined).filter((key) => key.group === group);
  }

  async remove(key: DiskKey, confirm: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const blob = this.#blobs.get(seedName(key));
    if (blob === undefined) return;
    const leaseId = blob.lease.take();
    await confirm(signal);
    signal.throwIfAborted();
    blob.lease.require(leaseId);
    blob.lease.release(leaseId);
    if (this.#blobs.get(blob.name) === blob) this.#blobs.delete(blob.name);
  }

  /** Flips every bit of one byte of a snapshot, which storage itself never does: what verification must find. */
  damage(key: DiskKey, snapshot: string, offsetBytes: number): void {
    const image = this.#blobs.get(seedName(key))?.snapshots.get(snapshot)?.image;
    assert(image !== undefined, `there is no snapshot ${snapshot}`);
    const sector = image.read(offsetBytes, SECTOR_BYTES);
    sector.writeUInt8(sector.readUInt8(0) ^ 0xff, 0);
    image.write(offsetBytes, sector);
  }

  /** The disk as it is now, without its footer, for oracles; undefined when there is none. */
  peek(key: DiskKey): Buffer | undefined {
    const blob = this.#blobs.get(seedName(key));
    return blob?.image.read(0, blob.blobBytes - SECTOR_BYTES);
  }
}

class MemorySeedReader implements SeedReader {
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

class MemorySeedDisk extends MemorySeedReader implements SeedDisk {
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
