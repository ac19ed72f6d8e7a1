/**
 * Pure. The 512-byte footer of a fixed VHD (Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0): what follows the
 * data of a disk, so that a seed disk or a copy of it can be imported as a managed disk. All numbers big-endian.
 */
import { createHash } from 'node:crypto';
import { assert } from '../errors.ts';
import type { DiskKey } from '../model/names.ts';
import { MIB, SECTOR_BYTES } from '../model/sizes.ts';

export const FOOTER_BYTES = 512;

/** The same disk and size always give the same footer: the unique id is a hash of the disk's name, the time stamp is zero. */
export function vhdFooter(key: DiskKey, sizeBytes: number): Buffer {
  assert(Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes % MIB === 0, 'a VHD is a multiple of 1 MiB');
  const footer = Buffer.alloc(FOOTER_BYTES);
  footer.write('conectix', 0, 'latin1');
  footer.writeUInt32BE(2, 8); // features: the reserved bit is always set
  footer.writeUInt32BE(0x0001_0000, 12); // file format version 1.0
  footer.fill(0xff, 16, 24); // data offset: none, the disk is fixed
  footer.write('win ', 28, 'latin1'); // creator application Hyper-V: readers trust the size below, not the geometry
  footer.writeUInt32BE(0x0001_0000, 32);
  footer.write('Wi2k', 36, 'latin1');
  footer.writeBigUInt64BE(BigInt(sizeBytes), 40); // original size
  footer.writeBigUInt64BE(BigInt(sizeBytes), 48); // current size
  const { cylinders, heads, sectorsPerTrack } = geometry(sizeBytes / SECTOR_BYTES);
  footer.writeUInt16BE(cylinders, 56);
  footer.writeUInt8(heads, 58);
  footer.writeUInt8(sectorsPerTrack, 59);
  footer.writeUInt32BE(2, 60); // fixed
  createHash('sha256').update(`${key.group}/${key.machine}/${key.disk}`).digest().copy(footer, 68, 0, 16);
  footer.writeUInt32BE(checksum(footer), 64);
  return footer;
}

/** One's complement of the sum of all bytes, the checksum's own four taken as zero. */
function checksum(footer: Buffer): number {
  let sum = 0;
  for (const [index, byte] of footer.entries()) if (index < 64 || index > 67) sum += byte;
  return ~sum >>> 0;
}

/** Cylinders, heads and sectors as the specification's appendix computes them. */
function geometry(diskSectors: number): { cylinders: number; heads: number; sectorsPerTrack: number } {
  const sectors = Math.min(diskSectors, 65_535 * 16 * 255);
  if (sectors >= 65_535 * 16 * 63) {
    return { cylinders: Math.floor(sectors / 255 / 16), heads: 16, sectorsPerTrack: 255 };
  }
  let sectorsPerTrack = 17;
  let cylinderHeads = Math.floor(sectors / sectorsPerTrack);
  let heads = Math.max(4, Math.floor((cylinderHeads + 1023) / 1024));
  if (cylinderHeads >= heads * 1024 || heads > 16) {
    sectorsPerTrack = 31;
    heads = 16;
    cylinderHeads = Math.floor(sectors / sectorsPerTrack);
  }
  if (cylinderHeads >= heads * 1024) {
    sectorsPerTrack = 63;
    heads = 16;
    cylinderHeads = Math.floor(sectors / sectorsPerTrack);
  }
  return { cylinders: Math.floor(cylinderHeads / heads), heads, sectorsPerTrack };
}
