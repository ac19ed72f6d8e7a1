/** Pure. One chunk of payload: checked, unsealed and decompressed, never beyond the size that the table names. */
import { hash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import type { ZstdOptions } from 'node:zlib';
import { assert, TidemarkError } from '../errors.ts';
import { defect, HEADER, TAG_BYTES } from './layout.ts';
import { MAX_WINDOW_LOG } from './limits.ts';
import { chunkKeyOf, openChunk, openingKey } from './seal.ts';
import type { LogKey } from './seal.ts';
import type { ChunkInfo, DecodedSegment } from './segment.ts';

/** What stands for the payload in the segment, before sealing: a zstd frame, or the payload itself when that is no longer. */
export function compressChunk(raw: Buffer, level: number): Buffer {
  const params = {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_windowLog]: MAX_WINDOW_LOG,
    [constants.ZSTD_c_checksumFlag]: 0, // SHA-256 covers the stored bytes
  };
  const frame = zstdCompressSync(raw, { params, pledgedSrcSize: raw.length });
  return frame.length < raw.length ? frame : raw;
}

function chunkInfo(segment: DecodedSegment, chunkIndex: number): ChunkInfo {
  const info = segment.chunks[chunkIndex];
  assert(info !== undefined, `segment has no chunk ${chunkIndex}`);
  return info;
}

const at = (info: ChunkInfo, chunkIndex: number, cause?: unknown) => ({
  offset: info.offsetBytes,
  field: `chunk ${chunkIndex}`,
  ...(cause === undefined ? {} : { cause }),
});

/**
 * Checks a chunk's stored bytes and decodes nothing. `bytes` is the whole segment. Returns the stored bytes.
 * @throws TidemarkError LOG_TRUNCATED, LOG_CHUNK_CHECKSUM
 */
export function verifyChunk(bytes: Buffer, segment: DecodedSegment, chunkIndex: number): Buffer {
  const info = chunkInfo(segment, chunkIndex);
  const stored = bytes.subarray(info.offsetBytes, info.offsetBytes + info.storedBytes);
  if (stored.length !== info.storedBytes) {
    throw defect('LOG_TRUNCATED', `the segment ends after ${bytes.length} bytes`, at(info, chunkIndex));
  }
  if (!hash('sha256', stored, 'buffer').equals(info.sha256)) {
    throw defect('LOG_CHUNK_CHECKSUM', 'the checksum of a chunk is wrong', at(info, chunkIndex));
  }
  return stored;
}

/** The verified and unsealed body: a zstd frame when it is shorter than the payload, else the payload. */
function readBody(bytes: Buffer, segment: DecodedSegment, chunkIndex: number, key: LogKey | undefined): Buffer {
  const stored = verifyChunk(bytes, segment, chunkIndex);
  if (segment.salt === undefined) return stored;
  if (key === undefined) throw new TidemarkError('LOG_KEY_MISSING', 'the segment is sealed and there is no key');
  const opening = openingKey(key, bytes.subarray(HEADER.keyCheck, HEADER.salt)) ?? key; // a wrong one does not open the seal
  const place = { header: segment.header, chunkIndex, chunkCount: segment.chunks.length };
  assert(stored.length > TAG_BYTES, 'the table was checked');
  return openChunk(chunkKeyOf(opening, segment.salt), place, stored, chunkInfo(segment, chunkIndex));
}

/** One byte more than the payload, so that zstd sees the end of the frame without asking for a second buffer. */
const options = (info: ChunkInfo): ZstdOptions => ({
  chunkSize: info.rawBytes + 1,
  maxOutputLength: info.rawBytes,
  params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
  info: true,
});

/** What Node's zlib returns with `info: true`; the type definitions leave it out. */
interface Inflated {
  readonly buffer: Buffer;
  /** `bytesWritten`: bytes of input that were used. */
  readonly engine: { readonly bytesWritten: number };
}

function checkInflated(inflated: Inflated, bodyBytes: number, info: ChunkInfo, chunkIndex: number): Buffer {
  const { buffer, engine } = inflated;
  if (buffer.length !== info.rawBytes) {
    const message = `a chunk has ${buffer.length} bytes where the table names ${info.rawBytes}`;
    throw defect('LOG_CHUNK_SIZE', message, at(info, chunkIndex));
  }
  if (engine.bytesWritten !== bodyBytes) {
    throw defect('LOG_CHUNK_CODEC', 'bytes follow the zstd frame of a chunk', at(info, chunkIndex));
  }
  return buffer;
}

function inflateError(cause: unknown, info: ChunkInfo, chunkIndex: number): TidemarkError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  return code === 'ERR_BUFFER_TOO_LARGE' || code === 'ZSTD_error_frameParameter_windowTooLarge'
    ? defect('LOG_CHUNK_SIZE', `a chunk asks for more than its ${info.rawBytes} bytes`, at(info, chunkIndex, cause))
    : defect('LOG_CHUNK_CODEC', 'a chunk is no zstd frame', at(info, chunkIndex, cause));
}

/**
 * The payload of one chunk, exactly `rawBytes` long. `bytes` is the whole segment that `segment` was decoded from; the result may
 * share memory with it, so both are read only.
 * @throws TidemarkError LOG_CHUNK_CHECKSUM, LOG_CHUNK_SEAL, LOG_CHUNK_CODEC, LOG_CHUNK_SIZE, LOG_KEY_MISSING, LOG_TRUNCATED
 */
export function decodeChunk(bytes: Buffer, segment: DecodedSegment, chunkIndex: number, key?: LogKey): Buffer {
  const info = chunkInfo(segment, chunkIndex);
  const body = readBody(bytes, segment, chunkIndex, key);
  if (body.length === info.rawBytes) return body;
  let inflated: Inflated;
  try {
    inflated = zstdDecompressSync(body, options(info)) as unknown as Inflated;
  } catch (error) {
    throw inflateError(error, info, chunkIndex);
  }
  return checkInflated(inflated, body.length, info, chunkIndex);
}

const inflate = promisify(zstdDecompress) as unknown as (body: Buffer, options: ZstdOptions) => Promise<Inflated>;

/** {@link decodeChunk} with the decompression in the thread pool; `bytes` must not change until it is done. */
export async function decodeChunkAsync(
  bytes: Buffer,
  segment: DecodedSegment,
  chunkIndex: number,
  key?: LogKey,
): Promise<Buffer> {
  const info = chunkInfo(segment, chunkIndex);
  const body = readBody(bytes, segment, chunkIndex, key);
  if (body.length === info.rawBytes) return body;
  let inflated: Inflated;
  try {
    inflated = await inflate(body, options(info));
  } catch (error) {
    throw inflateError(error, info, chunkIndex);
  }
  return checkInflated(inflated, body.length, info, chunkIndex);
}
