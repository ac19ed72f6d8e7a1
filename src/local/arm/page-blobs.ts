/**
 * The bytes of managed disks and snapshots: page blobs in a container of their own in the replica account. The emulator stands in for
 * Azure here, so that this is the one place outside of `src/azure/` that uses an Azure SDK.
 */
import {
  type BlobClient,
  BlobSASPermissions,
  BlobServiceClient,
  type ContainerClient,
  generateBlobSASQueryParameters,
  type PageBlobClient,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { mapAll } from '../../map-all.ts';
import { ArmError } from './arm-error.ts';
import { FOOTER_BYTES } from './vhd-check.ts';

const CONTAINER = 'managed-disks';
/** The largest Put Page. */
const PIECE_BYTES = 4 * 1024 * 1024;
const PARALLEL = 4;

export interface SourceBlob {
  readonly name: string;
  readonly client: BlobClient;
  readonly blobBytes: number;
  readonly etag: string;
  readonly footer: Buffer;
}

export class PageBlobs {
  readonly #service: BlobServiceClient;
  readonly #container: ContainerClient;

  constructor(connectionString: string) {
    this.#service = BlobServiceClient.fromConnectionString(connectionString);
    this.#container = this.#service.getContainerClient(CONTAINER);
  }

  get accountName(): string {
    return this.#service.accountName;
  }

  /** The page blob that a `sourceUri` names. @throws ArmError when there is none, or it is no page blob */
  async source(uri: string, signal: AbortSignal): Promise<SourceBlob> {
    const { container, blob } = this.#placeOf(uri);
    return this.#inspect(this.#service.getContainerClient(container).getBlobClient(blob), signal);
  }

  managed(name: string, signal: AbortSignal): Promise<SourceBlob> {
    return this.#inspect(this.#container.getBlobClient(name), signal);
  }

  #placeOf(uri: string): { readonly container: string; readonly blob: string } {
    const url = URL.canParse(uri) ? new URL(uri) : undefined;
    const [account, container, ...rest] = decodeURIComponent(url?.pathname ?? '')
      .slice(1)
      .split('/');
    if (url === undefined || account !== this.accountName || container === undefined || rest.length === 0) {
      throw new ArmError(400, 'InvalidParameter', 'The source blob is not in the account that storageAccountId names.');
    }
    if (url.searchParams.has('snapshot')) {
      throw new ArmError(400, 'InvalidParameter', 'The source blob must not be a snapshot.');
    }
    return { container, blob: rest.join('/') };
  }

  async #inspect(client: BlobClient, abortSignal: AbortSignal): Promise<SourceBlob> {
    try {
      const properties = await client.getProperties({ abortSignal });
      const blobBytes = properties.contentLength ?? 0;
      if (properties.blobType !== 'PageBlob' || blobBytes < FOOTER_BYTES) {
        throw new ArmError(400, 'InvalidParameter', `The source blob ${client.name} is not a page blob with a VHD.`);
      }
      const footer = await client.downloadToBuffer(blobBytes - FOOTER_BYTES, FOOTER_BYTES, { abortSignal });
      return { name: client.name, client, blobBytes, etag: properties.etag ?? '', footer };
    } catch (error) {
      if ((error as { readonly statusCode?: unknown }).statusCode !== 404) throw error;
      throw new ArmError(400, 'BlobNotFound', `The source blob ${client.name} does not exist.`);
    }
  }

  async create(name: string, blobBytes: number, abortSignal: AbortSignal): Promise<PageBlobClient> {
    await this.#container.createIfNotExists({ abortSignal });
    const target = this.#container.getPageBlobClient(name);
    await target.create(blobBytes, { abortSignal });
    return target;
  }

  /**
   * Copies the ranges that hold data through this process: Azurite's own copy would share its pages with the source. Begins anew when
   * an earlier attempt was interrupted.
   * @throws ArmError when the source changes meanwhile
   */
  async copy(source: SourceBlob, name: string, signal: AbortSignal): Promise<void> {
    const target = await this.create(name, source.blobBytes, signal);
    const conditions = { ifMatch: source.etag };
    const reader = this.#service.getContainerClient(source.client.containerName).getPageBlobClient(source.name);
    const ranges: { readonly offset: number; readonly count: number }[] = [];
    // Storage counts the last byte in.
    for await (const { start, end, isClear } of reader.listPageRanges(0, undefined, {
      conditions,
      abortSignal: signal,
    })) {
      if (!isClear) ranges.push({ offset: start, count: end + 1 - start });
    }
    await mapAll(pieces(ranges), PARALLEL, signal, async ({ offset, count }, abortSignal) => {
      const bytes = await reader.downloadToBuffer(offset, count, { conditions, abortSignal });
      await target.uploadPages(bytes, offset, count, { abortSignal });
    });
  }

  /** Gives the bytes another name, so that no URL that was given out before reaches them. */
  async rename(from: string, to: string, abortSignal: AbortSignal): Promise<void> {
    const source = this.#container.getPageBlobClient(from);
    const copying = await this.#container.getPageBlobClient(to).beginCopyFromURL(source.url, { abortSignal });
    await copying.pollUntilDone();
  }

  async remove(name: string, abortSignal: AbortSignal): Promise<void> {
    await this.#container.getPageBlobClient(name).deleteIfExists({ deleteSnapshots: 'include', abortSignal });
  }

  /** A URL with a shared access signature. */
  grant(name: string, level: 'Read' | 'Write', expiresOn: Date): string {
    const client = this.#container.getPageBlobClient(name);
    const { credential } = this.#service;
    if (!(credential instanceof StorageSharedKeyCredential)) throw new Error('the account is opened by its key');
    const permissions = BlobSASPermissions.parse(level === 'Write' ? 'rw' : 'r');
    const sas = generateBlobSASQueryParameters(
      { containerName: CONTAINER, blobName: name, permissions, expiresOn },
      credential,
    );
    return `${client.url}?${sas.toString()}`;
  }
}

/** Neighbours in the list are joined and cut into what one request takes. */
function* pieces(
  ranges: readonly { readonly offset: number; readonly count: number }[],
): Generator<{ readonly offset: number; readonly count: number }> {
  let open: { offset: number; count: number } | undefined;
  for (const { offset, count } of ranges) {
    if (open !== undefined && open.offset + open.count === offset) {
      open.count += count;
    } else {
      if (open !== undefined) yield* cut(open);
      open = { offset, count };
    }
  }
  if (open !== undefined) yield* cut(open);
}

function* cut({ offset, count }: { readonly offset: number; readonly count: number }) {
  for (let done = 0; done < count; done += PIECE_BYTES) {
    yield { offset: offset + done, count: Math.min(PIECE_BYTES, count - done) };
  }
}
