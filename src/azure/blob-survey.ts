import type { ContainerClient } from '@azure/storage-blob';
import { isCopyName } from '../copies/copy-store.ts';
import { assert } from '../errors.ts';
import { CONTAINERS, diskOfSeedName } from '../model/names.ts';
import type { ReplicaSurvey, SizedCopy, SizedDisk } from '../rebuild/survey.ts';
import type { BlobAccount } from './blob-account.ts';
import { isMissing } from './storage-errors.ts';

/** Blobs in one listing, as for seed disks and copies elsewhere. */
const MAX_BLOBS = 100_000;

/** Looks at the replica account. */
export class BlobSurvey implements ReplicaSurvey {
  readonly #account: BlobAccount;

  constructor(account: BlobAccount) {
    this.#account = account;
  }

  async groups(signal: AbortSignal): Promise<readonly string[]> {
    const groups = new Set<string>();
    for (const { name } of await this.#blobs(CONTAINERS.seeds, '', signal)) {
      const key = diskOfSeedName(name);
      if (key !== undefined) groups.add(key.group);
    }
    return [...groups].sort();
  }

  async seeds(group: string, signal: AbortSignal): Promise<readonly SizedDisk[]> {
    const blobs = await this.#blobs(CONTAINERS.seeds, `${group}/`, signal);
    return blobs.flatMap(({ name, blobBytes }) => {
      const key = diskOfSeedName(name);
      return key === undefined ? [] : [{ machine: key.machine, disk: key.disk, blobBytes }];
    });
  }

  async copies(group: string, signal: AbortSignal): Promise<readonly SizedCopy[]> {
    const blobs = await this.#blobs(CONTAINERS.pointDisks, `${group}/`, signal);
    return blobs.flatMap(({ name, blobBytes }) => {
      const copy = `${CONTAINERS.pointDisks}/${name}`;
      return isCopyName(copy) ? [{ copy, blobBytes }] : [];
    });
  }

  async isLeased(name: string, signal: AbortSignal): Promise<boolean> {
    const client = this.#account.container(CONTAINERS.catalog).getBlobClient(name);
    return this.#account.call({ action: `Look at the lease of ${name}` }, signal, async ({ abortSignal }) => {
      try {
        return (await client.getProperties({ abortSignal })).leaseStatus === 'locked';
      } catch (error) {
        if (isMissing(error)) return false;
        throw error;
      }
    });
  }

  /** Names below the prefix, ascending, with their sizes; none when there is no such container. */
  async #blobs(
    container: string,
    prefix: string,
    signal: AbortSignal,
  ): Promise<{ readonly name: string; readonly blobBytes: number }[]> {
    const client: ContainerClient = this.#account.container(container);
    return this.#account.call({ action: `List ${container}/${prefix}` }, signal, async ({ abortSignal }) => {
      const found: { name: string; blobBytes: number }[] = [];
      try {
        for await (const { name, properties } of client.listBlobsFlat({ prefix, abortSignal })) {
          assert(found.length < MAX_BLOBS, `the listing of ${container}/${prefix} does not end`);
          // Anything but a page blob has no snapshots of ours and no size of a disk.
          found.push({ name, blobBytes: properties.blobType === 'PageBlob' ? (properties.contentLength ?? 0) : 0 });
        }
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      return found.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    });
  }
}
