import type { Confirm, CopyName, CopyOptions, CopyStore, PointDisk } from '../copies/copy-store.ts';
import { TidemarkError } from '../errors.ts';
import { FOOTER_BYTES, vhdFooter } from '../seed/vhd-footer.ts';
import type { SeedDisk, SeedReader } from '../seed/seed-store.ts';
import type { Counter } from './counter.ts';
import { MemorySeedDisk, MemorySeedReader, newPageBlob, type PageBlob } from './memory-seed-disk.ts';
import type { MemorySeedStore } from './memory-seed-store.ts';
import type { PageImage } from './page-image.ts';

/** Copies in memory: they share pages with their source until either is written. */
export class MemoryCopyStore implements CopyStore {
  readonly #counter: Counter;
  readonly #seeds: MemorySeedStore;
  readonly #blobs = new Map<string, PageBlob>();
  /** Of whole copies: what they were made from. */
  readonly #sources = new WeakMap<PageBlob, string>();

  constructor(counter: Counter, seeds: MemorySeedStore) {
    this.#counter = counter;
    this.#seeds = seeds;
  }

  async copy(source: PointDisk, name: CopyName, { signal, onProgress, confirm }: CopyOptions): Promise<void> {
    signal.throwIfAborted();
    const { sizeBytes } = source;
    const wanted = `${source.copy ?? `${source.group}/${source.machine}/${source.disk}`}@${source.snapshot}`;
    const present = this.#blobs.get(name);
    if (present !== undefined && this.#sources.get(present) === wanted) return;
    const image = this.#imageOf(source);
    if (present !== undefined) await this.remove(name, signal, confirm);
    if (this.#blobs.has(name)) throw new TidemarkError('CONFLICT', `${name} is being copied by somebody else`);
    const copied = image.snapshot();
    const blob = { ...newPageBlob(name, sizeBytes + FOOTER_BYTES, this.#counter), image: copied };
    this.#blobs.set(name, blob);
    const leaseId = blob.lease.take();
    copied.write(sizeBytes, vhdFooter(source, sizeBytes));
    await confirm?.(signal);
    const totalBytes = image.ranges(sizeBytes).reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    onProgress?.(totalBytes, totalBytes);
    signal.throwIfAborted();
    blob.lease.require(leaseId);
    this.#sources.set(blob, wanted);
    blob.lease.release(leaseId);
  }

  async open(name: CopyName, sizeBytes: number, signal: AbortSignal): Promise<SeedDisk> {
    signal.throwIfAborted();
    const blob = this.#blobs.get(name);
    if (blob === undefined || !this.#sources.has(blob)) {
      throw new TidemarkError('BLOB_MISSING', `there is no whole copy ${name}`);
    }
    if (blob.blobBytes !== sizeBytes + FOOTER_BYTES) {
      throw new TidemarkError('SEED_MISMATCH', `${name} has ${blob.blobBytes} bytes with its footer, not ${sizeBytes}`);
    }
    return new MemorySeedDisk(this.#blobs, blob, { leaseId: blob.lease.take(), sizeBytes, counter: this.#counter });
  }

  reader(name: CopyName): SeedReader {
    return new MemorySeedReader(this.#blobs, name);
  }

  /** The bytes of a copy as an import finds them, footer included; undefined when there is none. */
  peek(name: CopyName): Pick<PageBlob, 'image' | 'blobBytes'> | undefined {
    return this.#blobs.get(name);
  }

  url(name: CopyName): string {
    return `memory:///${name}`;
  }

  async list(prefix: string, signal: AbortSignal): Promise<readonly CopyName[]> {
    signal.throwIfAborted();
    return ([...this.#blobs.keys()] as CopyName[]).filter((name) => name.startsWith(prefix)).sort();
  }

  async remove(name: CopyName, signal: AbortSignal, confirm?: Confirm): Promise<void> {
    signal.throwIfAborted();
    const blob = this.#blobs.get(name);
    if (blob === undefined) return;
    const leaseId = blob.lease.take();
    await confirm?.(signal);
    signal.throwIfAborted();
    blob.lease.require(leaseId);
    if (this.#blobs.get(name) === blob) this.#blobs.delete(name);
  }

  #imageOf({ copy, snapshot, ...key }: PointDisk): PageImage {
    return copy === null
      ? this.#seeds.snapshotImage(key, snapshot)
      : new MemorySeedReader(this.#blobs, copy).image(snapshot);
  }
}
