/** Pure. FAT12, FAT16, FAT32 (Microsoft, "FAT32 File System Specification") and exFAT: boot sectors and dirty bits. Little-endian. */
import { CLEAN, damaged, judged, type Finding } from './finding.ts';
import { bytesAt, isPowerOfTwo, isZero, u64, type Probe, type Region } from './probe.ts';

const DIRTY = { state: 'check', text: 'needs a check (marked dirty)' } as const;

interface Fat {
  readonly sectorBytes: number;
  readonly reserved: number;
  readonly sectors: number;
  readonly bits: 12 | 16 | 32;
}

export function* probeFat({ head, sizeBytes }: Region): Probe<Finding | undefined> {
  const fat = parseFat(head);
  if (fat === undefined) return undefined;
  const { sectorBytes, reserved, sectors, bits } = fat;
  if (sectors * sectorBytes > sizeBytes) return damaged('vfat', ['larger than its disk or partition']);
  const table = yield* bytesAt(reserved * sectorBytes, 8);
  const reasons = table[0] === head[21] ? [] : ['file allocation table'];
  if (bits === 32) {
    const backup = head.readUInt16LE(50);
    const copy = yield* bytesAt(backup * sectorBytes, 512);
    // The mark of a mounted volume is in the first copy alone.
    const isSame =
      copy.subarray(0, 65).equals(head.subarray(0, 65)) && copy.subarray(66).equals(head.subarray(66, 512));
    if (backup !== 0 && backup !== 0xffff && backup < reserved && !isSame) reasons.push('backup boot sector');
  }
  const isMounted = ((head[bits === 32 ? 65 : 37] ?? 0) & 1) !== 0;
  const isMarked =
    (bits === 32 && (table.readUInt32LE(4) & 0x0800_0000) === 0) ||
    (bits === 16 && (table.readUInt16LE(2) & 0x8000) === 0);
  return judged('vfat', reasons, isMounted || isMarked ? DIRTY : CLEAN);
}

/** There is no magic, so every field has to be plausible. */
function parseFat(boot: Buffer): Fat | undefined {
  const sectorBytes = boot.readUInt16LE(11);
  const perCluster = boot.readUInt8(13);
  const reserved = boot.readUInt16LE(14);
  const copies = boot.readUInt8(16);
  const media = boot.readUInt8(21);
  const isJump = (boot[0] === 0xeb && boot[2] === 0x90) || boot[0] === 0xe9;
  const isPlausible =
    isJump &&
    boot.readUInt16LE(510) === 0xaa55 &&
    [512, 1024, 2048, 4096].includes(sectorBytes) &&
    isPowerOfTwo(perCluster) &&
    reserved > 0 &&
    (copies === 1 || copies === 2) &&
    (media === 0xf0 || media >= 0xf8);
  if (!isPlausible) return undefined;
  const sectors = boot.readUInt16LE(19) === 0 ? boot.readUInt32LE(32) : boot.readUInt16LE(19);
  const is32 = boot.readUInt16LE(22) === 0;
  const tableSectors = is32 ? boot.readUInt32LE(36) : boot.readUInt16LE(22);
  const rootSectors = Math.ceil((boot.readUInt16LE(17) * 32) / sectorBytes);
  const clusters = Math.floor((sectors - reserved - copies * tableSectors - rootSectors) / perCluster);
  if (tableSectors === 0 || clusters <= 0) return undefined;
  return { sectorBytes, reserved, sectors, bits: is32 ? 32 : clusters < 4085 ? 12 : 16 };
}

const EXFAT = 'EXFAT   ';

export function* probeExfat({ head, sizeBytes }: Region): Probe<Finding | undefined> {
  if (head.toString('latin1', 3, 11) !== EXFAT) return undefined;
  const shift = head.readUInt8(108);
  if (shift < 9 || shift > 12 || !isZero(head.subarray(11, 64))) return damaged('exfat', ['boot sector']);
  const sectorBytes = 2 ** shift;
  const reasons: string[] = [];
  for (const [name, at] of [
    ['boot sector checksum', 0],
    ['backup boot sector checksum', 12],
  ] as const) {
    if (!exfatChecksumFits(yield* bytesAt(at * sectorBytes, 12 * sectorBytes), sectorBytes)) reasons.push(name);
  }
  if (u64(head, 72) * sectorBytes > sizeBytes) reasons.push('larger than its disk or partition');
  const flags = head.readUInt16LE(106);
  return judged('exfat', reasons, (flags & 6) === 0 ? CLEAN : DIRTY);
}

/** Sum over eleven sectors without the two fields that change while mounted; the twelfth repeats it. */
function exfatChecksumFits(region: Buffer, sectorBytes: number): boolean {
  let sum = 0;
  for (const [index, byte] of region.subarray(0, 11 * sectorBytes).entries()) {
    if (index === 106 || index === 107 || index === 112) continue;
    sum = (((sum & 1) << 31) | (sum >>> 1)) + byte;
    sum >>>= 0;
  }
  for (let at = 11 * sectorBytes; at < 12 * sectorBytes; at += 4) if (region.readUInt32LE(at) !== sum) return false;
  return true;
}
