/** Blocks of a disk that does not change: the latest used ones stay in memory, and one that is on its way is fetched once. */
import PQueue from 'p-queue';

export interface BlockCacheOptions {
  /** Blocks kept at the most, at least one. */
  readonly capacityBlocks: number;
  /** Blocks of one fetch at the most. */
  readonly fetchBlocks: number;
  readonly fetchesAtOnce: number;
  /** The `count` blocks from `first` on, each with memory of its own. */
  readonly fetch: (first: number, count: number) => Promise<readonly Buffer[]>;
}

export interface BlockCache {
  /**
   * The blocks, each as it arrives; neighbours that are missing share a fetch. Numbers ascend. A fetch that was not begun when all its
   * readers' signals have aborted is given up.
   */
  get(blocks: readonly number[], reader: AbortSignal): readonly Promise<Buffer>[];
  /** Fetches what is missing, after everything that somebody waits for. A failure is left to the one who asks for the block. */
  prefetch(blocks: readonly number[]): void;
  /** Blocks in memory at this moment, without those on their way. */
  readonly size: number;
}

/** A fetch under way or waiting. */
interface Run {
  readonly first: number;
  readonly count: number;
  readonly readers: Set<AbortSignal>;
  readonly ahead: boolean;
}

interface Arrival {
  readonly run: Run;
  readonly bytes: Promise<Buffer>;
}

export function createBlockCache(options: BlockCacheOptions): BlockCache {
  /** In the order of their last use: a map keeps the order of insertion. */
  const kept = new Map<number, Buffer>();
  const coming = new Map<number, Arrival>();
  const queue = new PQueue({ concurrency: options.fetchesAtOnce });

  const keep = (block: number, bytes: Buffer): void => {
    kept.delete(block);
    kept.set(block, bytes);
    for (const oldest of kept.keys()) {
      if (kept.size <= options.capacityBlocks) break;
      kept.delete(oldest);
    }
  };
  const forget = ({ first, count }: Run): void => {
    for (let block = first; block < first + count; block++) coming.delete(block);
  };
  const fetchRun = async (run: Run): Promise<readonly Buffer[]> => {
    try {
      if (!run.ahead && [...run.readers].every(({ aborted }) => aborted)) throw new Error('nobody waits any more');
      const buffers = await options.fetch(run.first, run.count);
      for (const [index, bytes] of buffers.entries()) keep(run.first + index, bytes);
      return buffers;
    } finally {
      forget(run);
    }
  };
  const start = (run: Run): void => {
    // What somebody waits for goes before what is read ahead.
    const fetched = queue.add(() => fetchRun(run), { priority: run.ahead ? 0 : 1 });
    for (let index = 0; index < run.count; index++) {
      const bytes = fetched.then((buffers) => buffers[index] ?? Promise.reject(new RangeError('a block is missing')));
      // Whoever waits is told by the same promise.
      bytes.catch(() => undefined);
      coming.set(run.first + index, { run, bytes });
    }
  };
  const request = (blocks: readonly number[], readers: readonly AbortSignal[]): void => {
    const missing = blocks.filter((block) => !kept.has(block) && !coming.has(block));
    for (let at = 0; at < missing.length;) {
      const first = missing[at] ?? 0;
      let count = 1;
      while (count < options.fetchBlocks && missing[at + count] === first + count) count++;
      start({ first, count, readers: new Set(readers), ahead: readers.length === 0 });
      at += count;
    }
  };
  const arrivalOf = (block: number, reader: AbortSignal): Promise<Buffer> => {
    const bytes = kept.get(block);
    if (bytes !== undefined) {
      keep(block, bytes);
      return Promise.resolve(bytes);
    }
    const arrival = coming.get(block);
    if (arrival === undefined) return Promise.reject(new RangeError(`block ${block} was not requested`));
    arrival.run.readers.add(reader);
    return arrival.bytes;
  };
  return {
    get(blocks, reader) {
      request(blocks, [reader]);
      return blocks.map((block) => arrivalOf(block, reader));
    },
    prefetch: (blocks) => request(blocks, []),
    get size() {
      return kept.size;
    },
  };
}
