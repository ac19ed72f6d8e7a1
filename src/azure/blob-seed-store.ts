import type { ContainerClient, PageBlobClient } from '@azure/storage-blob';
import type { Lease } from '../catalog/catalog.ts';
import { assert, TidemarkError } from '../errors.ts';
import { CONTAINERS, type DiskKey, diskOfSeedName, seedName } from '../model/names.ts';
import type { SeedDisk, SeedReader, SeedStore } from '../seed/seed-store.ts';
import { type BlobAccount, inContainer } from './blob-account.ts';
import { takeLease } from './blob-lease.ts';
import { BlobSeedDisk, removeDisk } from './blob-seed-disk.ts';
import { BlobSeedReader } from './blob-seed-reader.ts';
import { assertSeed } from '../seed/seed-guards.ts';
import { isConditionRefusal, isLeaseRefusal, isMissing } from './storage-errors.ts';
import { bodyInto } from './transfer.ts';

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
    return new BlobSeedDisk({ account: this.#account, container: this.#container, client, lease, sizeBytes });
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
    await removeDisk(this.#account, this.#container.getPageBlobClient(seedName(key)), confirm, signal);
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
