import { randomUUID } from 'node:crypto';
import type { BlockBlobClient, ContainerClient } from '@azure/storage-blob';
import type { LogStore, LogUpload, SegmentRef, StagedSegment } from '../drain/log-store.ts';
import { assert, TidemarkError } from '../errors.ts';
import {
  CONTAINERS,
  MAX_SEQUENCE,
  segmentName,
  sequenceOfSegmentName,
  streamOfPrefix,
  streamPrefix,
} from '../model/names.ts';
import type { LogStream } from '../model/names.ts';
import { MIB } from '../model/sizes.ts';
import { type BlobAccount, inContainer } from './blob-account.ts';
import { codeOf, isConditionRefusal, isMissing, statusOf } from './storage-errors.ts';
import { bodyInto, downloadWhole, inParallel } from './transfer.ts';
import { ownWriteEtag, newWriteMark } from './write-mark.ts';
import { safeError } from './safe-error.ts';

/** Sequences whose names share all but their last three digits; the unit of listing. */
export const LIST_BLOCK = 1000;
/** The largest page that List Blobs gives (Azure, "List Blobs"). */
const PAGE_ENTRIES = 5000;
/** End of a listing that does not end by itself; five million names. */
const MAX_PAGES = 1000;
/** Listings of folders, or deletions, in flight. */
const FOLDERS_PARALLEL = 8;
const DELETE_PARALLEL = 8;
const STAGE_BLOCK_BYTES = 4 * MIB;
const STAGE_PARALLEL = 4;

/**
 * Segments in the cache account, read and written.
 *
 * Listing reads only the block of 1,000 names that holds `fromSequence`, and the next one when this one ended or gave nothing; so a poll
 * costs one or two requests however long the stream is, and a hole of more than 1,000 sequences is not looked across.
 */
export class BlobLogStore implements LogStore, LogUpload {
  readonly #account: BlobAccount;
  readonly #container: ContainerClient;

  constructor(account: BlobAccount) {
    this.#account = account;
    this.#container = account.container(CONTAINERS.logs);
  }

  async list(
    stream: LogStream,
    fromSequence: number,
    limit: number,
    signal: AbortSignal,
  ): Promise<readonly SegmentRef[]> {
    assert(Number.isSafeInteger(fromSequence) && fromSequence >= 1, `${fromSequence} is no sequence`);
    assert(Number.isSafeInteger(limit) && limit >= 1, `${limit} is no limit`);
    const found: SegmentRef[] = [];
    const firstBlock = Math.floor(fromSequence / LIST_BLOCK);
    const lastBlock = Math.floor(MAX_SEQUENCE / LIST_BLOCK);
    for (let block = firstBlock; block <= lastBlock; block++) {
      const refs = await this.#listNames(stream, String(block).padStart(9, '0'), signal);
      const wanted = refs.filter((ref) => ref.sequence >= fromSequence);
      found.push(...wanted);
      const isExhausted = wanted.at(-1)?.sequence === block * LIST_BLOCK + LIST_BLOCK - 1;
      const isFirstAndEmpty = block === firstBlock && wanted.length === 0;
      if (found.length >= limit || !(isExhausted || isFirstAndEmpty)) break;
    }
    return found.slice(0, limit);
  }

  async lastSequence(stream: LogStream, signal: AbortSignal): Promise<number> {
    const refs = await this.#listNames(stream, '', signal);
    return refs.at(-1)?.sequence ?? 0;
  }

  /** Segments of the stream whose sequence, in its 12 digits, starts with `digits`; ascending. */
  async #listNames(stream: LogStream, digits: string, signal: AbortSignal): Promise<SegmentRef[]> {
    const prefix = `${streamPrefix(stream)}${digits}`;
    const refs: SegmentRef[] = [];
    let continuationToken: string | undefined;
    for (let pages = 1; ; pages++) {
      assert(pages <= MAX_PAGES, `the listing of ${prefix} does not end`);
      const page = await this.#listPage(prefix, continuationToken, signal);
      for (const { name, sizeBytes } of page.entries) {
        const sequence = sequenceOfSegmentName(stream, name);
        if (sequence !== undefined) refs.push({ sequence, sizeBytes });
      }
      continuationToken = page.continuationToken;
      if (continuationToken === undefined) return refs.sort((a, b) => a.sequence - b.sequence);
    }
  }

  async #listPage(
    prefix: string,
    continuationToken: string | undefined,
    signal: AbortSignal,
  ): Promise<{
    readonly entries: readonly { readonly name: string; readonly sizeBytes: number }[];
    readonly continuationToken: string | undefined;
  }> {
    return this.#account.call({ action: `List ${prefix}` }, signal, async ({ abortSignal }) => {
      const settings = { maxPageSize: PAGE_ENTRIES, ...(continuationToken === undefined ? {} : { continuationToken }) };
      try {
        for await (const page of this.#container.listBlobsFlat({ prefix, abortSignal }).byPage(settings)) {
          const entries = page.segment.blobItems.map((item) => ({
            name: item.name,
            sizeBytes: item.properties.contentLength ?? 0,
          }));
          return { entries, continuationToken: page.continuationToken === '' ? undefined : page.continuationToken };
        }
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      return { entries: [], continuationToken: undefined };
    });
  }

  async read(stream: LogStream, sequence: number, maxBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
    const name = segmentName(stream, sequence);
    return this.#account.call({ action: `Read ${name}` }, signal, async ({ abortSignal }) => {
      try {
        const blob = await downloadWhole(this.#client(name), maxBytes, abortSignal);
        if (blob.bytes !== undefined) return blob.bytes;
        throw new TidemarkError('LOG_TOO_LARGE', `${name} has ${blob.sizeBytes} bytes, more than ${maxBytes}`, {
          details: { blob: name, sizeBytes: blob.sizeBytes, maxBytes },
        });
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    });
  }

  async readHead(
    stream: LogStream,
    sequence: number,
    lengthBytes: number,
    signal: AbortSignal,
  ): Promise<Buffer | undefined> {
    assert(Number.isSafeInteger(lengthBytes) && lengthBytes > 0, `${lengthBytes} is no length`);
    const name = segmentName(stream, sequence);
    return this.#account.call({ action: `Read the head of ${name}` }, signal, async ({ abortSignal }) => {
      try {
        const response = await this.#client(name).download(0, lengthBytes, { abortSignal });
        const head = Buffer.allocUnsafe(Math.min(lengthBytes, response.contentLength ?? 0));
        await bodyInto(response, head);
        return head;
      } catch (error) {
        if (isMissing(error)) return undefined;
        // No range of an empty blob can be satisfied.
        if (statusOf(error) === 416) return Buffer.alloc(0);
        throw error;
      }
    });
  }

  async delete(stream: LogStream, sequence: number, signal: AbortSignal): Promise<void> {
    await this.#delete(segmentName(stream, sequence), signal);
  }

  async #delete(name: string, signal: AbortSignal): Promise<void> {
    // A delete that got no answer is not repeated: by then another owner may have begun again from an earlier place.
    await this.#account.call({ action: `Delete ${name}`, repeat: 'unprocessed' }, signal, async ({ abortSignal }) => {
      try {
        await this.#client(name).delete({ abortSignal });
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    });
  }

  async listStreams(group: string, signal: AbortSignal): Promise<readonly LogStream[]> {
    let prefixes: readonly string[] = [`${group}/`];
    for (const level of ['machines', 'disks', 'epochs']) {
      const below: (readonly string[])[] = prefixes.map(() => []);
      await inParallel(prefixes.length, FOLDERS_PARALLEL, async (index) => {
        below[index] = await this.#listFolders(prefixes[index] ?? '', level, signal);
      });
      prefixes = below.flat();
    }
    return prefixes
      .toSorted()
      .map(streamOfPrefix)
      .filter((stream) => stream !== undefined);
  }

  /** What stands between `prefix` and the next slash in the names that begin with it; with both. */
  async #listFolders(prefix: string, level: string, signal: AbortSignal): Promise<readonly string[]> {
    return this.#account.call({ action: `List the ${level} below ${prefix}` }, signal, async ({ abortSignal }) => {
      const folders = new Set<string>();
      let pages = 0;
      try {
        const listing = this.#container.listBlobsByHierarchy('/', { prefix, abortSignal });
        for await (const page of listing.byPage({ maxPageSize: PAGE_ENTRIES })) {
          assert(++pages <= MAX_PAGES, `the listing of ${prefix} does not end`);
          for (const { name } of page.segment.blobPrefixes ?? []) folders.add(name);
        }
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      return [...folders];
    });
  }

  async deleteStream(stream: LogStream, limit: number, signal: AbortSignal): Promise<number> {
    assert(Number.isSafeInteger(limit) && limit >= 1, `${limit} is no limit`);
    // Each call begins a listing of its own: what is deleted meanwhile cannot make it pass over anything.
    const prefix = streamPrefix(stream);
    const names: string[] = [];
    let continuationToken: string | undefined;
    for (let pages = 1; names.length < limit; pages++) {
      assert(pages <= MAX_PAGES, `the listing of ${prefix} does not end`);
      const page = await this.#listPage(prefix, continuationToken, signal);
      names.push(...page.entries.slice(0, limit - names.length).map(({ name }) => name));
      continuationToken = page.continuationToken;
      if (continuationToken === undefined) break;
    }
    await inParallel(names.length, DELETE_PARALLEL, (index) => this.#delete(names[index] ?? '', signal));
    return names.length;
  }

  async stage(stream: LogStream, sequence: number, bytes: Buffer, signal: AbortSignal): Promise<StagedSegment> {
    const name = segmentName(stream, sequence);
    const client = this.#client(name);
    // All block ids of a blob have one length; the random part keeps two stagers of one segment apart.
    const stager = randomUUID();
    const blockIds = Array.from({ length: Math.ceil(bytes.length / STAGE_BLOCK_BYTES) }, (_, index) =>
      Buffer.from(`${stager}-${String(index).padStart(5, '0')}`).toString('base64'),
    );
    await inParallel(blockIds.length, STAGE_PARALLEL, async (index) => {
      const block = bytes.subarray(index * STAGE_BLOCK_BYTES, (index + 1) * STAGE_BLOCK_BYTES);
      await this.#account.call({ action: `Stage a block of ${name}` }, signal, ({ abortSignal }) =>
        inContainer(this.#container, abortSignal, () =>
          client.stageBlock(blockIds[index] ?? '', block, block.length, { abortSignal }),
        ),
      );
    });
    return { commit: (signal) => this.#commit(client, blockIds, signal) };
  }

  async #commit(client: BlockBlobClient, blockIds: string[], signal: AbortSignal): Promise<'committed' | 'exists'> {
    const metadata = newWriteMark();
    return this.#account.call({ action: `Commit ${client.name}` }, signal, async ({ abortSignal, ambiguous }) => {
      try {
        await inContainer(this.#container, abortSignal, () =>
          client.commitBlockList(blockIds, { abortSignal, metadata, conditions: { ifNoneMatch: '*' } }),
        );
        return 'committed';
      } catch (error) {
        // A commit throws away the blocks that it does not name, those of another stager too.
        const areBlocksGone = codeOf(error) === 'InvalidBlockList';
        if (areBlocksGone && !(await client.exists({ abortSignal }))) {
          throw new TidemarkError('CONFLICT', `the staged blocks of ${client.name} are gone; stage it again`, {
            cause: safeError(error),
          });
        }
        if (!areBlocksGone && !isConditionRefusal(error)) throw error;
        return ambiguous && (await ownWriteEtag(client, metadata, abortSignal)) !== undefined ? 'committed' : 'exists';
      }
    });
  }

  #client(name: string): BlockBlobClient {
    return this.#container.getBlockBlobClient(name);
  }
}
