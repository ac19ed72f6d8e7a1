/** Reads the files of a trace folder, plain or zstd-compressed, as a stream of bytes in bounded memory. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream';
import { constants, createZstdDecompress } from 'node:zlib';
import { TidemarkError } from '../errors.ts';

/** zstd's own limit for decoders that were not told otherwise (`zstd --long=27`): a window of 128 MiB. */
const WINDOW_LOG_MAX = 27;
/** Bytes that a plain file or the compressed side is read in. */
const READ_BYTES = 256 * 1024;
/** Bytes that the decompressor hands over at a time. */
const OUTPUT_BYTES = 256 * 1024;

/** RFC 8878, 3.1.1: a frame; 3.1.2: a skippable frame, whose low four bits are free. */
const ZSTD_MAGIC = 0xfd2fb528;
const ZSTD_SKIPPABLE_MAGIC = 0x184d2a50;

const isCompressed = (magic: number): boolean =>
  magic === ZSTD_MAGIC || (magic & 0xfffffff0) >>> 0 === ZSTD_SKIPPABLE_MAGIC;

async function inspect(file: string): Promise<{ readonly sizeBytes: number; readonly compressed: boolean }> {
  const handle = await open(file, 'r');
  try {
    const head = Buffer.alloc(4);
    const { bytesRead } = await handle.read(head, 0, 4, 0);
    const { size } = await handle.stat();
    return { sizeBytes: size, compressed: bytesRead === 4 && isCompressed(head.readUInt32LE(0)) };
  } finally {
    await handle.close();
  }
}

function translate(file: string, error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error) || error instanceof TidemarkError) return error;
  const code = String(error.code);
  if (code === 'ENOENT' || code === 'EACCES' || code === 'EISDIR') {
    return new TidemarkError('TRACE_NOT_FOUND', `cannot read ${file}: ${code}`, { cause: error });
  }
  if (code === 'Z_BUF_ERROR') {
    return new TidemarkError('TRACE_TRUNCATED', `${file} ends inside a zstd frame`, { cause: error });
  }
  if (code.startsWith('ZSTD_error')) {
    return new TidemarkError('TRACE_INVALID', `${file} cannot be decompressed: ${error.message}`, { cause: error });
  }
  return error;
}

/**
 * The file's bytes in order, decompressed when it is zstd (any number of frames; Node's stream stops after the first one, so
 * each frame gets its own). A caller that stops early frees the file. Holds one zstd window and two buffers.
 * @throws TidemarkError TRACE_NOT_FOUND, TRACE_TRUNCATED or TRACE_INVALID
 */
export async function* readBytes(file: string, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
  try {
    const { sizeBytes, compressed } = await inspect(file);
    if (!compressed) {
      for await (const chunk of createReadStream(file, { highWaterMark: READ_BYTES, signal })) yield chunk as Buffer;
      return;
    }
    for (let startBytes = 0; startBytes < sizeBytes;) {
      const frame = createZstdDecompress({
        chunkSize: OUTPUT_BYTES,
        params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
      });
      const input = createReadStream(file, { start: startBytes, highWaterMark: READ_BYTES, signal });
      // Errors of either stream surface in the loop below; the callback only keeps them from being thrown twice.
      pipeline(input, frame, () => undefined);
      for await (const chunk of frame) yield chunk as Buffer;
      if (frame.bytesWritten === 0) break;
      startBytes += frame.bytesWritten;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw translate(file, error);
  }
}

/** Takes exact numbers of bytes from a stream of chunks. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Buffer, void, undefined>;
  readonly #file: string;
  #current: Buffer = Buffer.alloc(0);
  #offsetBytes = 0;

  constructor(file: string, chunks: AsyncGenerator<Buffer, void, undefined>) {
    this.#file = file;
    this.#chunks = chunks;
  }

  async #refill(): Promise<boolean> {
    while (this.#current.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return false;
      this.#current = next.value;
    }
    return true;
  }

  /** Fills `target` from the file; returns how many bytes it got, fewer than asked for only at the end of the file. */
  async readInto(target: Buffer): Promise<number> {
    let filled = 0;
    while (filled < target.length && (await this.#refill())) {
      const taken = Math.min(target.length - filled, this.#current.length);
      this.#current.copy(target, filled, 0, taken);
      this.#current = this.#current.subarray(taken);
      filled += taken;
    }
    this.#offsetBytes += filled;
    return filled;
  }

  /** The caller's own copy of the next bytes. @throws TidemarkError TRACE_TRUNCATED when the file has less. */
  async read(lengthBytes: number, what: string): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(lengthBytes);
    if ((await this.readInto(bytes)) < lengthBytes) {
      throw new TidemarkError('TRACE_TRUNCATED', `${this.#file} ends at byte ${this.#offsetBytes}, inside ${what}`, {
        details: { file: this.#file, offsetBytes: this.#offsetBytes },
      });
    }
    return bytes;
  }

  /** Reads to the end, so that a compressed file's checksum is verified. */
  async drain(): Promise<void> {
    this.#current = Buffer.alloc(0);
    while (await this.#refill()) this.#current = Buffer.alloc(0);
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
