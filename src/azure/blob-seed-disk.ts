import { setTimeout as pause } from 'node:timers/promises';
import type { ContainerClient, PageBlobClient } from '@azure/storage-blob';
import type { Lease } from '../catalog/catalog.ts';
import { assert, TidemarkError } from '../errors.ts';
import { assertMetadata, assertPut, assertSectors } from '../seed/seed-guards.ts';
import type { SeedDisk, SnapshotMetadata } from '../seed/seed-store.ts';
import type { BlobAccount } from './blob-account.ts';
import { takeLease } from './blob-lease.ts';
import { BlobSeedReader } from './blob-seed-reader.ts';
import { isMissing } from './storage-errors.ts';

/**
 * Wait before each snapshot of a disk. Azure names snapshots with 100 ns digits and keeps them apart; the emulator has milliseconds only
 * and gives two snapshots of the same millisecond one name.
 */
const SNAPSHOT_PAUSE_MS = 3;

export interface BlobSeedDiskOptions {
  readonly account: BlobAccount;
  readonly container: ContainerClient;
  readonly client: PageBlobClient;
  /** Held by the caller until {@link BlobSeedDisk.close}. */
  readonly lease: Lease;
  /** Without the footer. */
  readonly sizeBytes: number;
}

/** A page blob under its owner's lease: a seed disk, or a copy of a point. */
export class BlobSeedDisk extends BlobSeedReader implements SeedDisk {
  readonly #account: BlobAccount;
  readonly #client: PageBlobClient;
  readonly #lease: Lease;
  readonly #sizeBytes: number;
  readonly #conditions: { readonly leaseId: string };
  /** Snapshots that this owner made and did not delete. */
  readonly #snapshots = new Set<string>();
  /** Settles when the last snapshot asked for is made; never rejects. */
  #lastSnapshot: Promise<unknown> = Promise.resolve();

  constructor({ account, container, client, lease, sizeBytes }: BlobSeedDiskOptions) {
    super(account, container, client.name);
    this.#account = account;
    this.#client = client;
    this.#lease = lease;
    this.#sizeBytes = sizeBytes;
    this.#conditions = { leaseId: lease.id };
  }

  /**
   * A write that got no answer is not repeated under the same lease: it may still land, and then over a newer one. The error makes the
   * owner open the disk anew, and the new lease keeps the old write out.
   */
  async putPages(offsetBytes: number, data: Buffer, signal: AbortSignal): Promise<void> {
    assertPut(offsetBytes, data, this.#sizeBytes);
    const action = `Put Page at ${offsetBytes} of ${this.#client.name}`;
    await this.#account.call({ action, repeat: 'unprocessed' }, signal, ({ abortSignal }) =>
      this.#client.uploadPages(data, offsetBytes, data.length, { abortSignal, conditions: this.#conditions }),
    );
  }

  /** Repeated as little as putPages, and for the same reason. */
  async clearPages(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<void> {
    assertSectors(offsetBytes, lengthBytes, this.#sizeBytes);
    const action = `Clear Pages at ${offsetBytes} of ${this.#client.name}`;
    await this.#account.call({ action, repeat: 'unprocessed' }, signal, ({ abortSignal }) =>
      this.#client.clearPages(offsetBytes, lengthBytes, { abortSignal, conditions: this.#conditions }),
    );
  }

  async snapshot(metadata: SnapshotMetadata, signal: AbortSignal): Promise<string> {
    assertMetadata(metadata);
    const made = this.#lastSnapshot.then(() => this.#makeSnapshot(metadata, signal));
    this.#lastSnapshot = made.catch(() => undefined);
    return made;
  }

  /** Not repeated when it got no answer: it might be made twice. The caller finds it by its metadata, if it was made. */
  async #makeSnapshot(metadata: SnapshotMetadata, signal: AbortSignal): Promise<string> {
    const call = { action: `Snapshot ${this.#client.name}`, repeat: 'unprocessed' } as const;
    const id = await this.#account.call(call, signal, async ({ abortSignal }) => {
      await pause(SNAPSHOT_PAUSE_MS, undefined, { signal: abortSignal });
      const options = { abortSignal, metadata: { ...metadata }, conditions: this.#conditions };
      return (await this.#client.createSnapshot(options)).snapshot;
    });
    assert(id !== undefined && id !== '', `storage gave no name for a snapshot of ${this.#client.name}`);
    assert(!this.#snapshots.has(id), `storage named two snapshots of ${this.#client.name} ${id}`);
    this.#snapshots.add(id);
    return id;
  }

  async deleteSnapshot(snapshot: string, signal: AbortSignal): Promise<void> {
    // Without its time the same client would delete the disk.
    assert(snapshot !== '', 'a snapshot has a name');
    const action = `Delete snapshot ${snapshot} of ${this.#client.name}`;
    await this.#account.call({ action }, signal, async ({ abortSignal }) => {
      try {
        await this.#client.withSnapshot(snapshot).delete({ abortSignal });
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    });
    this.#snapshots.delete(snapshot);
  }

  async renew(signal: AbortSignal): Promise<void> {
    await this.#lease.renew(signal);
  }

  async close(signal: AbortSignal): Promise<void> {
    await this.#lease.release(signal);
  }
}

/**
 * Takes the blob's lease, calls `confirm`, and deletes the blob with its snapshots: what `SeedStore.remove` promises.
 */
export async function removeDisk(
  account: BlobAccount,
  client: PageBlobClient,
  confirm: (signal: AbortSignal, lease: Lease) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const lease = await takeLease(account, client, signal).catch((error: unknown) => {
    if (error instanceof TidemarkError && error.code === 'BLOB_MISSING') return undefined;
    throw error;
  });
  if (lease === undefined) return;
  await confirm(signal, lease);
  await account.call({ action: `Delete ${client.name}` }, signal, async ({ abortSignal }) => {
    try {
      // One request for the disk and its snapshots: the lease does not protect these by themselves.
      await client.delete({ abortSignal, deleteSnapshots: 'include', conditions: { leaseId: lease.id } });
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  });
}
