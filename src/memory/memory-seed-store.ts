import { assertSeed } from '../seed/seed-guards.ts';
import { assert, TidemarkError } from '../errors.ts';
import { type DiskKey, diskOfSeedName, seedName } from '../model/names.ts';
import { SECTOR_BYTES } from '../model/sizes.ts';
import type { SeedDisk, SeedReader, SeedStore } from '../seed/seed-store.ts';
import type { Counter } from './counter.ts';
import { MemorySeedDisk, MemorySeedReader, newPageBlob, type PageBlob } from './memory-seed-disk.ts';
import type { PageImage } from './page-image.ts';

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
    const blob = this.#blobs.get(name) ?? newPageBlob(name, blobBytes, this.#counter);
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

  /** The content of a snapshot, for a copy of it. @throws TidemarkError SNAPSHOT_MISSING */
  snapshotImage(key: DiskKey, snapshot: string): PageImage {
    return new MemorySeedReader(this.#blobs, seedName(key)).image(snapshot);
  }

  /** All blobs by name, with their sizes in bytes. */
  sizes(): { readonly name: string; readonly blobBytes: number }[] {
    const blobs = [...this.#blobs.values()].map(({ name, blobBytes }) => ({ name, blobBytes }));
    return blobs.toSorted((a, b) => (a.name < b.name ? -1 : 1));
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
