import type { ContainerClient, PageBlobClient } from '@azure/storage-blob';
import { assert, TidemarkError } from '../errors.ts';
import { MIB } from '../model/sizes.ts';
import type { ByteRange, SeedReader, SnapshotInfo } from '../seed/seed-store.ts';
import type { BlobAccount } from './blob-account.ts';
import { isMissing } from './storage-errors.ts';
import { bodyInto, discard, inParallel } from './transfer.ts';
import { safeError } from './safe-error.ts';

/**
 * The largest page that List Blobs gives (Azure, "List Blobs"), the disk itself included. It bounds the snapshots of a disk, because the
 * emulator loses entries between pages; the longest retention keeps a few hundred.
 */
const PAGE_ENTRIES = 5000;
/** Pages of a listing that Azure may cut short at will. */
const MAX_PAGES = 100;
/** Azurite looks through all ranges of a disk for each request, so that few large ones are twice as fast as many of 4 MiB. */
const READ_PIECE_BYTES = 16 * MIB;
const READ_PARALLEL = 4;

/** Snapshots of one seed disk. Never writes: through a client of a snapshot the emulator would change the disk itself. */
export class BlobSeedReader implements SeedReader {
  readonly #account: BlobAccount;
  readonly #container: ContainerClient;
  readonly #name: string;

  constructor(account: BlobAccount, container: ContainerClient, name: string) {
    this.#account = account;
    this.#container = container;
    this.#name = name;
  }

  /** @throws TidemarkError SNAPSHOT_LIMIT */
  async listSnapshots(signal: AbortSignal): Promise<readonly SnapshotInfo[]> {
    const options = { prefix: this.#name, includeSnapshots: true, includeMetadata: true };
    const action = `List the snapshots of ${this.#name}`;
    return this.#account.call({ action }, signal, async ({ abortSignal }) => {
      const found: SnapshotInfo[] = [];
      let pages = 0;
      try {
        const listing = this.#container.listBlobsFlat({ ...options, abortSignal });
        for await (const page of listing.byPage({ maxPageSize: PAGE_ENTRIES })) {
          const items = page.segment.blobItems;
          if (items.length >= PAGE_ENTRIES || ++pages > MAX_PAGES) throw this.#tooMany();
          for (const { name, snapshot, metadata } of items) {
            // The prefix also fits disks whose names go on after it.
            if (name !== this.#name || snapshot === undefined || snapshot === '') continue;
            found.push({ snapshot, metadata: metadata ?? {} });
          }
        }
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      return found.sort((a, b) => (a.snapshot < b.snapshot ? -1 : 1));
    });
  }

  async read(snapshot: string, offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer> {
    assert(Number.isSafeInteger(offsetBytes) && offsetBytes >= 0, `offset ${offsetBytes} is no offset`);
    assert(Number.isSafeInteger(lengthBytes) && lengthBytes >= 0, `length ${lengthBytes} is no length`);
    const client = this.#snapshotClient(snapshot);
    const target = Buffer.allocUnsafe(lengthBytes);
    const action = `Read ${lengthBytes} bytes at ${offsetBytes} of ${this.#name}, snapshot ${snapshot}`;
    await inParallel(Math.ceil(lengthBytes / READ_PIECE_BYTES), READ_PARALLEL, async (index) => {
      const piece = target.subarray(index * READ_PIECE_BYTES, (index + 1) * READ_PIECE_BYTES);
      const pieceOffsetBytes = offsetBytes + index * READ_PIECE_BYTES;
      await this.#account.call({ action }, signal, async ({ abortSignal }) => {
        try {
          const response = await client.download(pieceOffsetBytes, piece.length, { abortSignal });
          if (response.contentLength !== piece.length) discard(response);
          // Azure refuses a range that begins after the end (416); the emulator sends nothing.
          assert(response.contentLength === piece.length, `${action}: the range ends outside the blob`);
          await bodyInto(response, piece);
        } catch (error) {
          throw this.#missingOr(error, snapshot);
        }
      });
    });
    return target;
  }

  async ranges(snapshot: string, sizeBytes: number, signal: AbortSignal): Promise<readonly ByteRange[]> {
    const client = this.#snapshotClient(snapshot);
    const action = `Get the page ranges of ${this.#name}, snapshot ${snapshot}`;
    return this.#account.call({ action }, signal, async ({ abortSignal }) => {
      const merged: { offsetBytes: number; lengthBytes: number }[] = [];
      try {
        for await (const { start, end, isClear } of client.listPageRanges(0, undefined, { abortSignal })) {
          // Storage counts the last byte in.
          const endBytes = Math.min(end + 1, sizeBytes);
          const last = merged.at(-1);
          if (isClear || start >= endBytes) continue;
          if (last !== undefined && last.offsetBytes + last.lengthBytes === start)
            last.lengthBytes = endBytes - last.offsetBytes;
          else merged.push({ offsetBytes: start, lengthBytes: endBytes - start });
        }
      } catch (error) {
        throw this.#missingOr(error, snapshot);
      }
      return merged;
    });
  }

  #snapshotClient(snapshot: string): PageBlobClient {
    assert(snapshot !== '', 'a snapshot has a name');
    return this.#container.getPageBlobClient(this.#name).withSnapshot(snapshot);
  }

  #missingOr(error: unknown, snapshot: string): unknown {
    if (!isMissing(error)) return error;
    return new TidemarkError('SNAPSHOT_MISSING', `${this.#name} has no snapshot ${snapshot}`, {
      cause: safeError(error),
    });
  }

  #tooMany(): TidemarkError {
    return new TidemarkError('SNAPSHOT_LIMIT', `${this.#name} has ${PAGE_ENTRIES} snapshots or more`);
  }
}
