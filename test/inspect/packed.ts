/** Disks of test/fixtures/disks: zstd over blocks that are not zero, each with its number before it; the size of the disk first. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

const BLOCK_BYTES = 4096;

const FOLDER = fileURLToPath(new URL('../fixtures/disks/', import.meta.url));

/** @param keeps whether the block at an offset belongs to the fixture; one that does not is zero in it */
export function pack(image: Buffer, keeps: (offsetBytes: number) => boolean): Buffer {
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(image.length));
  const parts: Uint8Array[] = [size];
  for (let at = 0; at < image.length; at += BLOCK_BYTES) {
    const block = image.subarray(at, at + BLOCK_BYTES);
    if (!keeps(at) || block.every((byte) => byte === 0)) continue;
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(BigInt(at / BLOCK_BYTES));
    parts.push(number, block);
  }
  return zstdCompressSync(Buffer.concat(parts), { params: { [constants.ZSTD_c_compressionLevel]: 19 } });
}

export function unpack(name: string): Buffer {
  const packed = load(name);
  return unpackInto(Buffer.alloc(sizeOf(packed)), name);
}

const sizeOf = (packed: Buffer): number => Number(packed.readBigUInt64LE(0));

const load = (name: string): Buffer => zstdDecompressSync(readFileSync(`${FOLDER}${name}.zst`));

/** Puts a disk into a larger one, and touches no more of it than it must. */
export function unpackInto(image: Buffer, name: string, startBytes = 0): Buffer {
  const packed = load(name);
  for (let at = 8; at < packed.length; at += 8 + BLOCK_BYTES) {
    const offsetBytes = startBytes + Number(packed.readBigUInt64LE(at)) * BLOCK_BYTES;
    packed.copy(image, offsetBytes, at + 8, at + 8 + BLOCK_BYTES);
  }
  return image;
}
