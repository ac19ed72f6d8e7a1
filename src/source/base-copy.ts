/** Reads the image of a disk before the first log entry, and leaves out what is zero. */
import { TidemarkError } from '../errors.ts';
import { KIB, MIB, SECTOR_BYTES } from '../model/sizes.ts';
import { ByteReader, readBytes } from './byte-source.ts';

/** Zeroes are looked for in blocks of the smallest common file-system block. */
const BLOCK_BYTES = 4 * KIB;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);
/** The image is read in windows of this size; no part crosses one. */
const WINDOW_BYTES = MIB;

/** A range of the disk that is not all zero: 512 bytes to 1 MiB, 512-aligned, with its data. */
export interface BasePart {
  readonly offsetBytes: number;
  readonly data: Buffer;
}

export interface ReadBaseCopyOptions {
  /** Without an image the disk is all zero. */
  readonly imageFile: string | undefined;
  readonly diskSizeBytes: number;
  readonly signal: AbortSignal;
}

const isZero = (block: Buffer): boolean => block.compare(ZERO_BLOCK, 0, block.length) === 0;

/** The runs of blocks in `window` that are not zero, as offsets within it. */
function* nonZeroRuns(window: Buffer): Generator<{ readonly start: number; readonly end: number }> {
  let runStart = -1;
  for (let start = 0; start < window.length; start += BLOCK_BYTES) {
    const end = Math.min(start + BLOCK_BYTES, window.length);
    if (!isZero(window.subarray(start, end))) {
      if (runStart < 0) runStart = start;
    } else if (runStart >= 0) {
      yield { start: runStart, end: start };
      runStart = -1;
    }
  }
  if (runStart >= 0) yield { start: runStart, end: window.length };
}

/** Reads the next window. An image may end inside a sector; the rest of that sector is zero. */
async function readWindow(bytes: ByteReader, window: Buffer): Promise<Buffer> {
  const filled = await bytes.readInto(window);
  const endBytes = Math.ceil(filled / SECTOR_BYTES) * SECTOR_BYTES;
  window.fill(0, filled, endBytes);
  return window.subarray(0, endBytes);
}

/**
 * The parts of the image that are not zero, by ascending offset. An image shorter than the disk stands for zeroes after its end.
 * Memory: a window and a part of 1 MiB, and one zstd window (at most 128 MiB) when it is compressed.
 * @throws TidemarkError TRACE_OUTSIDE_DISK when the image is larger than the disk; TRACE_NOT_FOUND, TRACE_TRUNCATED, TRACE_INVALID
 */
export async function* readBaseCopy(options: ReadBaseCopyOptions): AsyncGenerator<BasePart, void, undefined> {
  const { imageFile, diskSizeBytes, signal } = options;
  if (imageFile === undefined) return;
  const bytes = new ByteReader(imageFile, readBytes(imageFile, signal));
  const space = Buffer.alloc(WINDOW_BYTES);
  try {
    for (let offsetBytes = 0; ; offsetBytes += WINDOW_BYTES) {
      signal.throwIfAborted();
      const window = await readWindow(bytes, space);
      if (window.length === 0) return;
      if (offsetBytes + window.length > diskSizeBytes) {
        throw new TidemarkError(
          'TRACE_OUTSIDE_DISK',
          `the image ${imageFile} is larger than its disk of ${diskSizeBytes} bytes`,
          { details: { file: imageFile, diskSizeBytes } },
        );
      }
      for (const { start, end } of nonZeroRuns(window)) {
        yield { offsetBytes: offsetBytes + start, data: Buffer.from(window.subarray(start, end)) };
      }
    }
  } finally {
    await bytes.close();
  }
}
