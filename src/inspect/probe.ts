/**
 * Pure. How the parsers of this folder read: each is a generator that asks for bytes and is given them. So none of them does I/O, one
 * driver bounds them all, and tests run them over a buffer.
 */
import { assert } from '../errors.ts';
import { MIB } from '../model/sizes.ts';

/** The largest single read: what storage streams in one request. */
export const MAX_READ_BYTES = 4 * MIB;

export interface ReadRequest {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Is given exactly as many bytes as it asked for. */
export type Probe<T> = Generator<ReadRequest, T, Buffer>;

/** Part of a disk: a partition, or the whole of it. Offsets inside a region count from its beginning. */
export interface Region {
  readonly sizeBytes: number;
  /** The first {@link HEAD_BYTES}, where nearly every format has its superblock. */
  readonly head: Buffer;
}

/** Through the superblock of btrfs, the farthest one: 4 KiB at 64 KiB. */
export const HEAD_BYTES = 68 * 1024;

/** Offsets come from the disk, so they may be anything: bytes outside the region, or at no safe integer, read as zeroes. */
export function* bytesAt(offsetBytes: number, lengthBytes: number): Probe<Buffer> {
  assert(lengthBytes >= 0 && lengthBytes <= MAX_READ_BYTES, `a probe reads at most ${MAX_READ_BYTES} bytes at once`);
  return yield { offsetBytes, lengthBytes };
}

/** Runs a probe inside `[startBytes, startBytes + sizeBytes)` of what the caller reads from. */
export function* within<T>(startBytes: number, sizeBytes: number, probe: Probe<T>): Probe<T> {
  let step = probe.next();
  while (step.done !== true) {
    const { offsetBytes, lengthBytes } = step.value;
    const bytes = Buffer.alloc(lengthBytes);
    const isInside = Number.isSafeInteger(offsetBytes) && offsetBytes >= 0 && offsetBytes < sizeBytes;
    const insideBytes = isInside ? Math.min(lengthBytes, sizeBytes - offsetBytes) : 0;
    if (insideBytes > 0) {
      const read = yield { offsetBytes: startBytes + offsetBytes, lengthBytes: insideBytes };
      read.copy(bytes);
    }
    step = probe.next(bytes);
  }
  return step.value;
}

/** A 64-bit field as a number; beyond the safe integers it is as wrong as can be, and stays so. */
export const u64 = (bytes: Buffer, at: number): number => Number(bytes.readBigUInt64LE(at));

/** `bytes` with zeroes at `[at, at + length)`: most checksums leave their own field out like this. */
export function blanked(bytes: Buffer, at: number, length: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.fill(0, at, at + length);
  return copy;
}

export const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

export const isPowerOfTwo = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value));
