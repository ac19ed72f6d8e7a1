/** A disk of a recovery point, read from its snapshot as it is asked for. */
import { KIB, MIB } from '../model/sizes.ts';
import type { SeedReader } from '../seed/seed-store.ts';
import { createBlockCache } from './block-cache.ts';
import { indexRanges } from './data-ranges.ts';
import type { DiskReader } from './disk-reader.ts';
import { createReadAhead } from './sequential.ts';

/** Unit of the cache. Our choice: small enough for random reads, large enough that a request's own time is not all of it. */
export const BLOCK_BYTES = 256 * KIB;
/** Missing neighbours are one request up to that size. */
const FETCH_BLOCKS = 16;
/** 32 MiB on their way at the most. */
const FETCHES_AT_ONCE = 8;
export const DEFAULT_CACHE_BYTES = 64 * MIB;
/** Two requests of the largest size, one of which is awaited while the other is used up. */
const READ_AHEAD_BYTES = 2 * FETCH_BLOCKS * BLOCK_BYTES;

export interface SnapshotDiskOptions {
  readonly seed: SeedReader;
  readonly snapshot: string;
  readonly sizeBytes: number;
  /** Memory for blocks that were read; one block at the least. */
  readonly cacheBytes: number;
  /** False: only what is asked for is read. */
  readonly readAhead: boolean;
  /** Ends all requests: they are shared by readers, so that no reader's own signal can end them. */
  readonly signal: AbortSignal;
}

/**
 * Asks storage once for the ranges that hold data; what lies between them is never requested. Reads are whole blocks, so neighbours
 * of what was asked for are there for the next reader.
 * @throws TidemarkError SNAPSHOT_MISSING here, and from every read once the snapshot is gone
 */
export async function openSnapshotDisk(options: SnapshotDiskOptions): Promise<DiskReader> {
  const { seed, snapshot, sizeBytes, signal } = options;
  const data = indexRanges(await seed.ranges(snapshot, sizeBytes, signal));
  const capacityBlocks = Math.max(1, Math.floor(options.cacheBytes / BLOCK_BYTES));
  const cache = createBlockCache({
    capacityBlocks,
    fetchBlocks: FETCH_BLOCKS,
    fetchesAtOnce: FETCHES_AT_ONCE,
    fetch: async (first, count) => {
      const from = first * BLOCK_BYTES;
      const to = Math.min((first + count) * BLOCK_BYTES, sizeBytes);
      const span = dataSpan(data.extents(from, to - from));
      const bytes = await seed.read(snapshot, span.from, span.to - span.from, signal);
      return Array.from({ length: count }, (_, index) => {
        const start = from + index * BLOCK_BYTES;
        const block = Buffer.alloc(Math.min(BLOCK_BYTES, sizeBytes - start));
        const copyFrom = Math.max(start, span.from);
        if (copyFrom < start + block.length) bytes.copy(block, copyFrom - start, copyFrom - span.from);
        return block;
      });
    },
  });
  // A part of the cache only, so that readers ahead do not push out what others use.
  const windowBytes = Math.min(READ_AHEAD_BYTES, Math.floor(capacityBlocks / 4) * BLOCK_BYTES);
  const readAhead = options.readAhead && windowBytes > 0 ? createReadAhead(windowBytes, sizeBytes) : undefined;
  const dataBlocks = (from: number, to: number): number[] => {
    const blocks: number[] = [];
    for (const { offsetBytes, lengthBytes, kind } of data.extents(from, to - from)) {
      if (kind === 'hole') continue;
      const last = Math.floor((offsetBytes + lengthBytes - 1) / BLOCK_BYTES);
      for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block <= last; block++) {
        if (block !== blocks.at(-1)) blocks.push(block);
      }
    }
    return blocks;
  };

  return {
    sizeBytes,
    ranges: (offsetBytes, lengthBytes) => data.extents(offsetBytes, lengthBytes),
    async readInto(target, offsetBytes, reader) {
      reader.throwIfAborted();
      target.fill(0);
      const blocks = dataBlocks(offsetBytes, offsetBytes + target.length);
      const arrivals = cache.get(blocks, reader);
      const ahead = readAhead?.note(offsetBytes, target.length);
      if (ahead !== undefined) cache.prefetch(dataBlocks(ahead.from, ahead.to));
      // Fetches may outlive their reader; its memory must not.
      let into: Buffer | undefined = target;
      const copied = arrivals.map(async (arrival, index) => {
        const at = (blocks[index] ?? 0) * BLOCK_BYTES - offsetBytes;
        const bytes = await arrival;
        if (into !== undefined) bytes.copy(into, Math.max(0, at), Math.max(0, -at));
      });
      await endedBy(reader, Promise.all(copied)).finally(() => (into = undefined));
    },
  };
}

/** From the first to the last byte of data. */
function dataSpan(extents: Iterable<{ offsetBytes: number; lengthBytes: number; kind: string }>): {
  readonly from: number;
  readonly to: number;
} {
  let from = Infinity;
  let to = 0;
  for (const { offsetBytes, lengthBytes, kind } of extents) {
    if (kind === 'hole') continue;
    from = Math.min(from, offsetBytes);
    to = offsetBytes + lengthBytes;
  }
  return { from: Math.min(from, to), to };
}

/** Waits for the work, unless `signal`, which has not aborted yet, aborts first; the work itself goes on then. */
async function endedBy(signal: AbortSignal, work: Promise<unknown>): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
