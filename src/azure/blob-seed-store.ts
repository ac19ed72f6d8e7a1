import { setTimeout as pause } from 'node:timers/promises';
import type { ContainerClient, PageBlobClient } from '@azure/storage-blob';
import type { Lease } from '../catalog/catalog.ts';
import { assert, TidemarkError } from '../errors.ts';
import { CONTAINERS, type DiskKey, diskOfSeedName, seedName } from '../model/names.ts';
import type { SeedDisk, SeedReader, SeedStore, SnapshotMetadata } from '../seed/seed-store.ts';
import { type BlobAccount, inContainer } from './blob-account.ts';
import { takeLease } from './blob-lease.ts';
import { BlobSeedReader } from './blob-seed-reader.ts';
import { assertMetadata, assertPut, assertSectors, assertSeed } from '../seed/seed-guards.ts';
import { isConditionRefusal, isLeaseRefusal, isMissing } from './storage-errors.ts';
import { bodyInto } from './transfer.ts';

/**
 * Wait before each snapshot of a disk. Azure names snapshots with 100 ns digits and keeps them apart; the emulator has milliseconds only
 * and gives two snapshots of the same millisecond one name.
 */
const SNAPSHOT_PAUSE_MS = 3;
/** Seed disks in one listing; a group has at most 1,024, and one that was protected anew leaves those it has no more. */
const MAX_DISKS = 100_000;

/** Seed disks: page blobs of the disk's size and a 512-byte footer, in the replica account. */
export class BlobSeedStore implements SeedStore {
  readonly #account: BlobAccount;
  readonly #container: ContainerClient;

  constructor(account: BlobAccount) {
    this.#account = account;
    this.#container = account.container(CONTAINERS.seeds);
  }

  async open(key: DiskKey, sizeBytes: number, footer: Buffer, signal: AbortSignal): Promise<SeedDisk> {
    assertSeed(sizeBytes, footer);
    const client = this.#container.getPageBlobClient(seedName(key));
    await this.#requireBlob(client, sizeBytes + footer.length, signal);
    const lease = await takeLease(this.#account, client, signal);
    await this.#requireFooter(client, lease, { sizeBytes, footer }, signal);
    return new BlobSeedDisk(this.#account, client, lease, sizeBytes);
  }

  reader(key: DiskKey): SeedReader {
    return new BlobSeedReader(this.#account, this.#container, seedName(key));
  }

  async list(group: string, signal: AbortSignal): Promise<readonly DiskKey[]> {
    const prefix = `${group}/`;
    return this.#account.call({ action: `List the seed disks below ${prefix}` }, signal, async ({ abortSignal }) => {
      const names: string[] = [];
      try {
        for await (const { name } of this.#container.listBlobsFlat({ prefix, abortSignal })) {
          assert(names.length < MAX_DISKS, `the listing of ${prefix} does not end`);
          names.push(name);
        }
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      return names
        .sort()
        .map(diskOfSeedName)
        .filter((key) => key !== undefined);
    });
  }

  async remove(key: DiskKey, confirm: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    const client = this.#container.getPageBlobClient(seedName(key));
    const lease = await takeLease(this.#account, client, signal).catch((error: unknown) => {
      if (error instanceof TidemarkError && error.code === 'BLOB_MISSING') return undefined;
      throw error;
    });
    if (lease === undefined) return;
    await confirm(signal);
    await this.#account.call({ action: `Delete ${client.name}` }, signal, async ({ abortSignal }) => {
      try {
        // One request for the disk and its snapshots: the lease does not protect these by themselves.
        await client.delete({ abortSignal, deleteSnapshots: 'include', conditions: { leaseId: lease.id } });
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    });
  }

  async #requireBlob(client: PageBlobClient, blobBytes: number, signal: AbortSignal): Promise<void> {
    await this.#account.call({ action: `Create ${client.name}` }, signal, async ({ abortSignal }) => {
      if (await hasBlob(client, blobBytes, abortSignal)) return;
      try {
        const options = { abortSignal, conditions: { ifNoneMatch: '*' } };
        await inContainer(this.#container, abortSignal, () => client.create(blobBytes, options));
      } catch (error) {
        // Another owner created it first, and may hold its lease already.
        if (!isConditionRefusal(error) && !isLeaseRefusal(error)) throw error;
        await hasBlob(client, blobBytes, abortSignal);
      }
    });
  }

  /** A crash between the creation and the footer leaves a blob without one, so every opening looks and repairs. */
  async #requireFooter(
    client: PageBlobClient,
    lease: Lease,
    { sizeBytes, footer }: { readonly sizeBytes: number; readonly footer: Buffer },
    signal: AbortSignal,
  ): Promise<void> {
    await this.#account.call({ action: `Write the footer of ${client.name}` }, signal, async ({ abortSignal }) => {
      const present = Buffer.alloc(footer.length);
      await bodyInto(await client.download(sizeBytes, footer.length, { abortSignal }), present);
      if (present.equals(footer)) return;
      await client.uploadPages(footer, sizeBytes, footer.length, { abortSignal, conditions: { leaseId: lease.id } });
    });
  }
}

/** Whether the blob exists. @throws TidemarkError SEED_MISMATCH when it is no page blob of `blobBytes`. */
async function hasBlob(client: PageBlobClient, blobBytes: number, abortSignal: AbortSignal): Promise<boolean> {
  try {
    const { contentLength, blobType } = await client.getProperties({ abortSignal });
    if (blobType === 'PageBlob' && contentLength === blobBytes) return true;
    const message = `${client.name} is a ${blobType} of ${contentLength} bytes; wanted is a page blob of ${blobBytes}`;
    throw new TidemarkError('SEED_MISMATCH', message);
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

class BlobSeedDisk extends BlobSeedReader implements SeedDisk {
  readonly #account: BlobAccount;
  readonly #client: PageBlobClient;
  readonly #lease: Lease;
  readonly #sizeBytes: number;
  readonly #conditions: { readonly leaseId: string };
  /** Snapshots that this owner made and did not delete. */
  readonly #snapshots = new Set<string>();
  /** Settles when the last snapshot asked for is made; never rejects. */
  #lastSnapshot: Promise<unknown> = Promise.resolve();

  constructor(account: BlobAccount, client: PageBlobClient, lease: Lease, sizeBytes: number) {
    super(account, account.container(CONTAINERS.seeds), client.name);
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
