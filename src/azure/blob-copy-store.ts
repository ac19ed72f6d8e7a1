import { setTimeout as pause } from 'node:timers/promises';
import type { BlobGetPropertiesResponse, ContainerClient, PageBlobClient } from '@azure/storage-blob';
import { LEASE_SECONDS, type Lease } from '../catalog/catalog.ts';
import { MAX_PUT_BYTES } from '../coalesce/requests.ts';
import {
  isCopyName,
  type Confirm,
  type CopyName,
  type CopyOptions,
  type CopyStore,
  type PointDisk,
} from '../copies/copy-store.ts';
import { assert, TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { CONTAINERS, seedName } from '../model/names.ts';
import { FOOTER_BYTES, vhdFooter } from '../seed/vhd-footer.ts';
import type { ByteRange, SeedDisk, SeedReader } from '../seed/seed-store.ts';
import { redactSecrets } from '../telemetry/redact.ts';
import { type BlobAccount, inContainer } from './blob-account.ts';
import { takeLease } from './blob-lease.ts';
import { BlobSeedDisk, removeDisk } from './blob-seed-disk.ts';
import { BlobSeedReader } from './blob-seed-reader.ts';
import { codeOf, isConditionRefusal, isLeaseRefusal, isMissing } from './storage-errors.ts';
import { newWriteMark, ownWriteEtag, type WriteMark } from './write-mark.ts';

/** Pieces read and written at once: 16 MiB in memory. */
const PIECES_IN_FLIGHT = 4;
/** A copy renews its lease this often. */
const RENEW_AFTER_MS = (LEASE_SECONDS * 1000) / 3;
/** Storage copies within an account by itself; between two looks the waits double from the first figure up to the second. */
const POLL_MS = { first: 100, most: 5000 } as const;
/** An end to the waiting: more than a day for one disk. */
const MAX_POLLS = 20_000;
/** Copies in one listing. */
const MAX_COPIES = 100_000;

export interface BlobCopyOptions {
  /**
   * Storage copies a snapshot by itself, and the copy is independent. False for the emulator, whose copies share their ranges with the
   * source: there the data is read and written.
   */
  readonly serverSideCopy: boolean;
}

/** What a copy's metadata says of it; `complete` is set last. */
interface CopyMetadata extends Record<string, string>, WriteMark {
  readonly source: string;
  readonly snapshot: string;
  readonly complete: 'yes' | 'no';
}

/** Copies of points as page blobs of the replica account. */
export class BlobCopyStore implements CopyStore {
  readonly #account: BlobAccount;
  readonly #serverSideCopy: boolean;

  constructor(account: BlobAccount, { serverSideCopy }: BlobCopyOptions) {
    this.#account = account;
    this.#serverSideCopy = serverSideCopy;
  }

  async copy(source: PointDisk, name: CopyName, options: CopyOptions): Promise<void> {
    const { signal, confirm } = options;
    const { container, client } = this.#blob(name);
    const present = await this.#properties(client, signal);
    if (present !== undefined && isWholeCopyOf(present, source)) return;
    const reader = this.#sourceReader(source);
    const ranges = await reader.ranges(source.snapshot, source.sizeBytes, signal);
    if (present !== undefined) await this.remove(name, signal, confirm);
    const metadata: CopyMetadata = {
      source: nameOf(source),
      snapshot: source.snapshot,
      complete: 'no',
      ...newWriteMark(),
    };
    await this.#create(container, client, { blobBytes: source.sizeBytes + FOOTER_BYTES, metadata }, signal);
    const lease = await takeLease(this.#account, client, signal);
    await whileRenewed(lease, signal, async (held) => {
      await confirm?.(held);
      await this.#requireOwn(client, metadata, held);
      const target = { client, lease, metadata, ranges };
      if (this.#serverSideCopy) await this.#copyOnServer(source, target, { ...options, signal: held });
      else await this.#copyData(source, reader, target, { ...options, signal: held });
      await this.#account.call({ action: `Complete ${name}` }, held, ({ abortSignal }) =>
        client.setMetadata({ ...metadata, complete: 'yes' }, { abortSignal, conditions: { leaseId: lease.id } }),
      );
      await lease.release(held);
    });
  }

  async open(name: CopyName, sizeBytes: number, signal: AbortSignal): Promise<SeedDisk> {
    const { container, client } = this.#blob(name);
    const lease = await takeLease(this.#account, client, signal);
    const present = await this.#properties(client, signal);
    if (present?.metadata?.['complete'] !== 'yes') {
      await lease.release(signal);
      throw new TidemarkError('BLOB_MISSING', `there is no whole copy ${name}`);
    }
    if (present.contentLength !== sizeBytes + FOOTER_BYTES) {
      await lease.release(signal);
      const is = `${name} has ${present.contentLength} bytes with its footer`;
      throw new TidemarkError('SEED_MISMATCH', `${is}; wanted is a disk of ${sizeBytes}`);
    }
    return new BlobSeedDisk({ account: this.#account, container, client, lease, sizeBytes });
  }

  reader(name: CopyName): SeedReader {
    const { container, client } = this.#blob(name);
    return new BlobSeedReader(this.#account, container, client.name);
  }

  url(name: CopyName): string {
    const url = new URL(this.#blob(name).client.url);
    url.search = ''; // a connection string with a shared access signature puts it there
    return url.href;
  }

  async list(prefix: string, signal: AbortSignal): Promise<readonly CopyName[]> {
    const { container: containerName, blob } = splitName(prefix);
    const container = this.#account.container(containerName);
    return this.#account.call({ action: `List the copies below ${prefix}` }, signal, async ({ abortSignal }) => {
      const names: CopyName[] = [];
      try {
        for await (const { name } of container.listBlobsFlat({ prefix: blob, abortSignal })) {
          assert(names.length < MAX_COPIES, `the listing of ${prefix} does not end`);
          const full = `${containerName}/${name}`;
          if (isCopyName(full)) names.push(full);
        }
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      return names.sort();
    });
  }

  async remove(name: CopyName, signal: AbortSignal, confirm: Confirm = async () => undefined): Promise<void> {
    const { client } = this.#blob(name);
    await removeDisk(
      this.#account,
      client,
      async (either, { id }) => {
        await confirm(either);
        await this.#abortPending(client, id, either);
      },
      signal,
    );
  }

  /** Storage refuses to touch a blob that it is still copying to. */
  async #abortPending(client: PageBlobClient, leaseId: string, signal: AbortSignal): Promise<void> {
    const present = await this.#properties(client, signal);
    const { copyId, copyStatus } = present ?? {};
    if (copyStatus !== 'pending' || copyId === undefined) return;
    await this.#account.call({ action: `Abort the copy to ${client.name}` }, signal, async ({ abortSignal }) => {
      try {
        await client.abortCopyFromURL(copyId, { abortSignal, conditions: { leaseId } });
      } catch (error) {
        if (codeOf(error) !== 'NoPendingCopyOperation') throw error;
      }
    });
  }

  async #create(
    container: ContainerClient,
    client: PageBlobClient,
    { blobBytes, metadata }: { readonly blobBytes: number; readonly metadata: CopyMetadata },
    signal: AbortSignal,
  ): Promise<void> {
    await this.#account.call({ action: `Create ${client.name}` }, signal, async ({ abortSignal, ambiguous }) => {
      try {
        const options = { abortSignal, metadata, conditions: { ifNoneMatch: '*' } };
        await inContainer(container, abortSignal, () => client.create(blobBytes, options));
      } catch (error) {
        // Our own first try may have made it; whether it did is looked at under the lease.
        if (!(ambiguous && (isConditionRefusal(error) || isLeaseRefusal(error)))) throw error;
      }
    });
  }

  /** @throws TidemarkError CONFLICT when the blob under our lease is not the one that this attempt made */
  async #requireOwn(client: PageBlobClient, mark: WriteMark, signal: AbortSignal): Promise<void> {
    const own = await this.#account.call({ action: `Look at ${client.name}` }, signal, ({ abortSignal }) =>
      ownWriteEtag(client, mark, abortSignal),
    );
    if (own === undefined) throw new TidemarkError('CONFLICT', `${client.name} is being copied by somebody else`);
  }

  async #copyOnServer(
    source: PointDisk,
    { client, lease, metadata, ranges }: Target,
    options: CopyOptions,
  ): Promise<void> {
    const { signal, onProgress } = options;
    const totalBytes = bytesOf(ranges);
    const from = this.#sourceClient(source).withSnapshot(source.snapshot).url;
    const conditions = { leaseId: lease.id };
    const call = { action: `Copy to ${client.name}`, repeat: 'unprocessed' } as const;
    await this.#account.call(call, signal, async ({ abortSignal }) => {
      // Only begun here; storage is asked below how far it is. Its first answer may already be the last.
      await client.beginCopyFromURL(from, { abortSignal, metadata, conditions, intervalInMs: POLL_MS.first });
    });
    let waitMs: number = POLL_MS.first;
    for (let polls = 0; polls < MAX_POLLS; polls++) {
      const present = await this.#properties(client, signal);
      if (present?.copyStatus === 'success') return onProgress?.(totalBytes, totalBytes);
      if (present?.copyStatus !== 'pending') {
        const said = present?.copyStatusDescription ?? present?.copyStatus ?? 'the copy is gone';
        throw new TidemarkError('STORAGE_UNAVAILABLE', `Copy to ${client.name}: ${redactSecrets(said)}`);
      }
      const [done, all] = (present.copyProgress ?? '0/1').split('/').map(Number);
      onProgress?.(Math.floor(((done ?? 0) / (all ?? 1)) * totalBytes), totalBytes);
      await pause(waitMs, undefined, { signal });
      waitMs = Math.min(POLL_MS.most, waitMs * 2);
    }
    throw new TidemarkError('STORAGE_TIMEOUT', `Copy to ${client.name}: not done after ${MAX_POLLS} looks`);
  }

  async #copyData(
    source: PointDisk,
    reader: SeedReader,
    { client, lease, ranges }: Target,
    { signal, onProgress }: CopyOptions,
  ): Promise<void> {
    const totalBytes = bytesOf(ranges);
    const { sizeBytes } = source;
    let doneBytes = 0;
    // One lease is one attempt: a write that got no answer is not repeated, and whoever begins anew takes another lease.
    const put = (data: Buffer, offsetBytes: number, either: AbortSignal): Promise<unknown> =>
      this.#account.call(
        { action: `Put Page at ${offsetBytes} of ${client.name}`, repeat: 'unprocessed' },
        either,
        ({ abortSignal }) =>
          client.uploadPages(data, offsetBytes, data.length, { abortSignal, conditions: { leaseId: lease.id } }),
      );
    await mapAll(piecesOf(ranges), PIECES_IN_FLIGHT, signal, async ({ offsetBytes, lengthBytes }, either) => {
      await put(await reader.read(source.snapshot, offsetBytes, lengthBytes, either), offsetBytes, either);
      doneBytes += lengthBytes;
      onProgress?.(doneBytes, totalBytes);
    });
    await put(vhdFooter(source, sizeBytes), sizeBytes, signal);
  }

  async #properties(client: PageBlobClient, signal: AbortSignal): Promise<BlobGetPropertiesResponse | undefined> {
    return this.#account.call({ action: `Get the properties of ${client.name}` }, signal, async ({ abortSignal }) => {
      try {
        return await client.getProperties({ abortSignal });
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    });
  }

  #blob(name: CopyName): { readonly container: ContainerClient; readonly client: PageBlobClient } {
    const { container: containerName, blob } = splitName(name);
    const container = this.#account.container(containerName);
    return { container, client: container.getPageBlobClient(blob) };
  }

  #sourceClient(source: PointDisk): PageBlobClient {
    if (source.copy !== null) return this.#blob(source.copy).client;
    return this.#account.container(CONTAINERS.seeds).getPageBlobClient(seedName(source));
  }

  #sourceReader(source: PointDisk): SeedReader {
    if (source.copy !== null) return this.reader(source.copy);
    return new BlobSeedReader(this.#account, this.#account.container(CONTAINERS.seeds), seedName(source));
  }
}

/** A blob that is being copied to. */
interface Target {
  readonly client: PageBlobClient;
  readonly lease: Lease;
  readonly metadata: CopyMetadata;
  readonly ranges: readonly ByteRange[];
}

const nameOf = (source: PointDisk): string => source.copy ?? `${CONTAINERS.seeds}/${seedName(source)}`;

function isWholeCopyOf({ contentLength, metadata }: BlobGetPropertiesResponse, source: PointDisk): boolean {
  return (
    contentLength === source.sizeBytes + FOOTER_BYTES &&
    metadata?.['complete'] === 'yes' &&
    metadata['source'] === nameOf(source) &&
    metadata['snapshot'] === source.snapshot
  );
}

function splitName(name: string): { readonly container: string; readonly blob: string } {
  const slash = name.indexOf('/');
  assert(slash > 0, `${name} names no container`);
  return { container: name.slice(0, slash), blob: name.slice(slash + 1) };
}

const bytesOf = (ranges: readonly ByteRange[]): number => ranges.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);

function* piecesOf(ranges: readonly ByteRange[]): Generator<ByteRange> {
  for (const { offsetBytes, lengthBytes } of ranges) {
    for (let at = 0; at < lengthBytes; at += MAX_PUT_BYTES) {
      yield { offsetBytes: offsetBytes + at, lengthBytes: Math.min(MAX_PUT_BYTES, lengthBytes - at) };
    }
  }
}

/** Runs `work` while the lease is renewed; a renewal that fails aborts it with its error. */
async function whileRenewed(
  lease: Lease,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const lost = new AbortController();
  const over = new AbortController();
  const ending = AbortSignal.any([signal, over.signal]);
  const renewing = (async () => {
    for (;;) {
      await pause(RENEW_AFTER_MS, undefined, { signal: ending });
      await lease.renew(ending);
    }
  })().catch((error: unknown) => {
    if (!ending.aborted) lost.abort(error);
  });
  try {
    await work(AbortSignal.any([signal, lost.signal]));
  } finally {
    over.abort();
    await renewing;
  }
}
