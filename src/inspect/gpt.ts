/** Pure. GPT (UEFI specification, chapter 5): both headers, both arrays of entries. Little-endian. */
import { crc32 } from 'node:zlib';
import { judged, OK, type Finding } from './finding.ts';
import { overlapOf, type Partition } from './mbr.ts';
import { blanked, bytesAt, isPowerOfTwo, isZero, u64, type Probe } from './probe.ts';
import { MIB } from '../model/sizes.ts';

export const LOGICAL_SECTORS = [512, 4096] as const;
const SIGNATURE = 'EFI PART';
const MIN_HEADER_BYTES = 92;
/** Sixty-four times the usual array. */
const MAX_ARRAY_BYTES = MIB;

interface Header {
  readonly alternate: number;
  readonly reasons: readonly string[];
  readonly partitions: readonly Partition[];
  readonly identity: Buffer;
}

export interface Gpt {
  readonly finding: Finding;
  readonly partitions: readonly Partition[];
}

export const hasGptSignature = (sector: Buffer): boolean => sector.toString('latin1', 0, 8) === SIGNATURE;

/**
 * @param isProtected whether the MBR announces a GPT; without it a GPT does not count, and most systems do not see it
 * @returns undefined when there is no trace of a GPT
 */
export function* probeGpt(sizeBytes: number, isProtected: boolean): Probe<Gpt | undefined> {
  for (const sectorBytes of LOGICAL_SECTORS) {
    const lastSector = Math.floor(sizeBytes / sectorBytes) - 1;
    const primary = yield* readHeader(1, sectorBytes, lastSector);
    const isSound = primary !== undefined && primary.reasons.length === 0;
    const backup = yield* readHeader(isSound ? primary.alternate : lastSector, sectorBytes, lastSector);
    if (isSound) return judgeWithPrimary({ primary, backup, lastSector, isProtected });
    if (backup?.reasons.length === 0 && (isProtected || primary !== undefined)) {
      const reasons = [primary?.reasons[0] ?? 'primary header missing', 'backup good'];
      return { finding: judged('gpt', reasons, OK), partitions: backup.partitions };
    }
    if (primary !== undefined && isProtected) {
      return { finding: judged('gpt', [...primary.reasons, 'backup damaged too'], OK), partitions: [] };
    }
  }
  if (!isProtected) return undefined;
  return { finding: judged('gpt', ['announced by the MBR and not there'], OK), partitions: [] };
}

interface Copies {
  readonly primary: Header;
  readonly backup: Header | undefined;
  readonly lastSector: number;
  readonly isProtected: boolean;
}

function judgeWithPrimary({ primary, backup, lastSector, isProtected }: Copies): Gpt {
  const reasons: string[] = [];
  if (!isProtected) reasons.push('protective MBR missing');
  if (backup === undefined) reasons.push('backup header missing');
  else if (backup.reasons.length > 0) reasons.push(`backup: ${backup.reasons[0]}`);
  else if (!backup.identity.equals(primary.identity)) reasons.push('backup differs');
  const isAtEnd = primary.alternate === lastSector;
  const otherwise = isAtEnd ? OK : ({ state: 'check', text: 'ok, backup not at the end of the disk' } as const);
  return { finding: judged('gpt', reasons, otherwise), partitions: primary.partitions };
}

/** Undefined when there is no signature. */
function* readHeader(sector: number, sectorBytes: number, lastSector: number): Probe<Header | undefined> {
  const bytes = yield* bytesAt(sector * sectorBytes, sectorBytes);
  if (!hasGptSignature(bytes)) return undefined;
  const [alternate, identity] = [u64(bytes, 32), bytes.subarray(56, 72)];
  const none = (reason: string): Header => ({ alternate, identity, partitions: [], reasons: [reason] });
  const headerBytes = bytes.readUInt32LE(12);
  if (headerBytes < MIN_HEADER_BYTES || headerBytes > sectorBytes) return none('header size');
  const checksum = crc32(blanked(bytes.subarray(0, headerBytes), 16, 4));
  if (checksum !== bytes.readUInt32LE(16)) return none('header checksum');
  if (u64(bytes, 24) !== sector) return none('header in the wrong place');
  const [count, entryBytes] = [bytes.readUInt32LE(80), bytes.readUInt32LE(84)];
  if (entryBytes < 128 || !isPowerOfTwo(entryBytes) || count * entryBytes > MAX_ARRAY_BYTES) return none('entry size');
  const array = yield* bytesAt(u64(bytes, 72) * sectorBytes, count * entryBytes);
  if (crc32(array) !== bytes.readUInt32LE(88)) return none('checksum of the entries');
  const usable = { first: u64(bytes, 40), last: u64(bytes, 48), end: lastSector };
  const { partitions, reasons } = parseEntries(array, entryBytes, sectorBytes, usable);
  return { alternate, identity, partitions, reasons };
}

interface Usable {
  readonly first: number;
  readonly last: number;
  /** The disk's last sector. */
  readonly end: number;
}

function parseEntries(
  array: Buffer,
  entryBytes: number,
  sectorBytes: number,
  usable: Usable,
): Pick<Header, 'partitions' | 'reasons'> {
  const partitions: Partition[] = [];
  const reasons: string[] = [];
  if (usable.first > usable.last || usable.last > usable.end) reasons.push('usable range behind the disk');
  for (let at = 0; at < array.length; at += entryBytes) {
    if (isZero(array.subarray(at, at + 16))) continue;
    const number = at / entryBytes + 1;
    const [first, last] = [u64(array, at + 32), u64(array, at + 40)];
    if (first < usable.first || last > usable.last || first > last) reasons.push(`p${number} outside the usable range`);
    else partitions.push({ number, startBytes: first * sectorBytes, sizeBytes: (last - first + 1) * sectorBytes });
  }
  const overlap = overlapOf(partitions);
  if (overlap !== undefined) reasons.push(overlap);
  return { partitions, reasons };
}
