import type { BlockBlobClient, ContainerClient } from '@azure/storage-blob';
import type { Catalog, Lease, StoredBlob } from '../catalog/catalog.ts';
import { assert, TidemarkError } from '../errors.ts';
import { CONTAINERS } from '../model/names.ts';
import { formatBytes, MIB } from '../model/sizes.ts';
import { type BlobAccount, inContainer } from './blob-account.ts';
import { takeLease } from './blob-lease.ts';
import { isConditionRefusal, isLeaseRefusal, isMissing } from './storage-errors.ts';
import { downloadWhole } from './transfer.ts';
import { newWriteMark, ownWriteEtag } from './write-mark.ts';
import { safeError } from './safe-error.ts';

/** Bound of every catalog blob; the largest are lists of changed extents, 24 bytes or so for each. */
const MAX_DOCUMENT_BYTES = 64 * MIB;
/** Names in one listing; the emulator itself ends at 5,000 blobs. */
const MAX_NAMES = 1_000_000;

/** The catalog container of the replica account. */
export class BlobCatalog implements Catalog {
  readonly #account: BlobAccount;
  readonly #container: ContainerClient;

  constructor(account: BlobAccount) {
    this.#account = account;
    this.#container = account.container(CONTAINERS.catalog);
  }

  async read(name: string, signal: AbortSignal): Promise<StoredBlob | undefined> {
    return this.#account.call({ action: `Read ${name}` }, signal, async ({ abortSignal }) => {
      try {
        const { sizeBytes, etag, bytes } = await downloadWhole(this.#client(name), MAX_DOCUMENT_BYTES, abortSignal);
        if (bytes !== undefined) return { bytes, etag };
        const most = formatBytes(MAX_DOCUMENT_BYTES);
        throw new TidemarkError('DOCUMENT_INVALID', `${name} has ${sizeBytes} bytes; a document has at most ${most}`);
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    });
  }

  async create(name: string, bytes: Buffer, signal: AbortSignal): Promise<string | undefined> {
    assertDocument(name, bytes);
    const client = this.#client(name);
    const metadata = newWriteMark();
    return this.#account.call({ action: `Create ${name}` }, signal, async ({ abortSignal, ambiguous }) => {
      try {
        const options = { abortSignal, metadata, conditions: { ifNoneMatch: '*' } };
        const { etag } = await inContainer(this.#container, abortSignal, () =>
          client.upload(bytes, bytes.length, options),
        );
        return requireEtag(name, etag);
      } catch (error) {
        if (!isConditionRefusal(error)) throw error;
        return ambiguous ? ownWriteEtag(client, metadata, abortSignal) : undefined;
      }
    });
  }

  async replace(
    name: string,
    bytes: Buffer,
    etag: string,
    lease: Lease | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    assertDocument(name, bytes);
    const client = this.#client(name);
    const metadata = newWriteMark();
    const leaseId = lease === undefined ? {} : { leaseId: lease.id };
    return this.#account.call({ action: `Replace ${name}` }, signal, async ({ abortSignal, ambiguous }) => {
      try {
        const options = { abortSignal, metadata, conditions: { ifMatch: etag, ...leaseId } };
        return requireEtag(name, (await client.upload(bytes, bytes.length, options)).etag);
      } catch (error) {
        if (!isConditionRefusal(error) && !isMissing(error)) throw error;
        const ownEtag = ambiguous ? await ownWriteEtag(client, metadata, abortSignal) : undefined;
        // Which of two broken conditions storage names is not documented; a lost lease counts for more.
        if (ownEtag === undefined && lease !== undefined) await this.#requireLease(client, lease, abortSignal);
        return ownEtag;
      }
    });
  }

  /** @throws TidemarkError OWNERSHIP_LOST unless the blob exists and `lease` holds it. */
  async #requireLease(client: BlockBlobClient, lease: Lease, abortSignal: AbortSignal): Promise<void> {
    try {
      await client.getProperties({ abortSignal, conditions: { leaseId: lease.id } });
    } catch (error) {
      if (!isMissing(error) && !isLeaseRefusal(error)) throw error;
      throw new TidemarkError('OWNERSHIP_LOST', `the lease of ${client.name} is no longer held`, {
        cause: safeError(error),
      });
    }
  }

  async delete(name: string, etag: string | undefined, signal: AbortSignal): Promise<'deleted' | 'changed'> {
    const client = this.#client(name);
    const conditions = etag === undefined ? {} : { ifMatch: etag };
    return this.#account.call({ action: `Delete ${name}` }, signal, async ({ abortSignal }) => {
      try {
        await client.delete({ abortSignal, conditions });
        return 'deleted';
      } catch (error) {
        if (isMissing(error)) return 'deleted';
        if (!isConditionRefusal(error)) throw error;
        // A blob that is gone has no ETag to match.
        return (await client.exists({ abortSignal })) ? 'changed' : 'deleted';
      }
    });
  }

  async list(prefix: string, signal: AbortSignal): Promise<readonly string[]> {
    const names = await this.#account.call({ action: `List ${prefix}` }, signal, async ({ abortSignal }) => {
      const names: string[] = [];
      try {
        for await (const item of this.#container.listBlobsFlat({ prefix, abortSignal })) {
          assert(names.length < MAX_NAMES, `the listing of ${prefix} does not end`);
          names.push(item.name);
        }
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      return names;
    });
    return names.sort();
  }

  async takeLease(name: string, signal: AbortSignal): Promise<Lease> {
    return takeLease(this.#account, this.#client(name), signal);
  }

  #client(name: string): BlockBlobClient {
    return this.#container.getBlockBlobClient(name);
  }
}

function assertDocument(name: string, bytes: Buffer): void {
  assert(bytes.length <= MAX_DOCUMENT_BYTES, `${name} would have ${bytes.length} bytes`);
}

function requireEtag(name: string, etag: string | undefined): string {
  assert(etag !== undefined && etag !== '', `storage gave no ETag for ${name}`);
  return etag;
}
