/** Pure. NTFS: boot sector and its backup, records 0, 2 and 3 of the master file table, restart pages of the log. Little-endian. */
import { CLEAN, damaged, judged, type Finding } from './finding.ts';
import { bytesAt, isPowerOfTwo, u64, type Probe, type Region } from './probe.ts';

const OEM = 'NTFS    ';
const SECTOR_BYTES = 512;
const MAX_RECORD_BYTES = 65_536;
const [LOG_RECORD, VOLUME_RECORD] = [2, 3];
const [DATA, VOLUME_INFORMATION, END_OF_ATTRIBUTES] = [0x80, 0x70, 0xffff_ffff];
const RESTART_PAGE_BYTES = 4096;

interface Volume {
  readonly clusterBytes: number;
  readonly recordBytes: number;
  readonly mftBytes: number;
  readonly sizeBytes: number;
}

const isBoot = (sector: Buffer): boolean =>
  sector.toString('latin1', 3, 11) === OEM && sector.readUInt16LE(510) === 0xaa55;

export function* probeNtfs({ head, sizeBytes }: Region): Probe<Finding | undefined> {
  const boot = head.subarray(0, SECTOR_BYTES);
  if (boot.toString('latin1', 3, 11) !== OEM) return undefined;
  const volume = parse(boot);
  if (volume === undefined || !isBoot(boot)) return damaged('ntfs', ['boot sector']);
  if (volume.sizeBytes > sizeBytes) return damaged('ntfs', ['larger than its disk or partition']);
  const reasons: string[] = [];
  const backup = yield* bytesAt(volume.sizeBytes, SECTOR_BYTES);
  if (volume.sizeBytes + SECTOR_BYTES <= sizeBytes && !backup.equals(boot)) reasons.push('backup boot sector');
  const records = yield* bytesAt(volume.mftBytes, volume.recordBytes * (VOLUME_RECORD + 1));
  const [mft, log, info] = [0, LOG_RECORD, VOLUME_RECORD].map((index) =>
    fixedUp(records.subarray(index * volume.recordBytes, (index + 1) * volume.recordBytes), 'FILE'),
  );
  if (mft === undefined || log === undefined || info === undefined) return damaged('ntfs', [...reasons, '$MFT record']);
  const flags = attributeOf(info, VOLUME_INFORMATION);
  const isFlagged = flags === undefined || (residentByte(flags, 10) & 1) !== 0;
  const logState = yield* probeLog(volume, log);
  if (logState === 'damaged') reasons.push('$LogFile');
  if (flags === undefined) reasons.push('$Volume');
  if (logState === 'dirty') return judged('ntfs', reasons, { state: 'replay', text: 'needs journal replay' });
  return judged('ntfs', reasons, isFlagged ? { state: 'check', text: 'needs a check (marked dirty)' } : CLEAN);
}

function parse(boot: Buffer): Volume | undefined {
  const sectorBytes = boot.readUInt16LE(11);
  const perCluster = boot.readUInt8(13);
  // Above 128 the field is a negative power of two.
  const clusterBytes = sectorBytes * (perCluster > 128 ? 2 ** Math.min(256 - perCluster, 31) : perCluster);
  const perRecord = boot.readInt8(64);
  const recordBytes = perRecord < 0 ? 2 ** Math.min(-perRecord, 31) : perRecord * clusterBytes;
  const isSound =
    [512, 1024, 2048, 4096].includes(sectorBytes) &&
    isPowerOfTwo(clusterBytes) &&
    isPowerOfTwo(recordBytes) &&
    recordBytes >= 512 &&
    recordBytes <= MAX_RECORD_BYTES;
  if (!isSound) return undefined;
  return {
    clusterBytes,
    recordBytes,
    mftBytes: u64(boot, 48) * clusterBytes,
    sizeBytes: u64(boot, 40) * sectorBytes,
  };
}

/** A copy with the two bytes at the end of each sector put back, or undefined when they do not carry the record's update number. */
function fixedUp(record: Buffer, magic: string): Buffer | undefined {
  if (record.toString('latin1', 0, 4) !== magic) return undefined;
  const [at, count] = [record.readUInt16LE(4), record.readUInt16LE(6)];
  const isSound = count === record.length / SECTOR_BYTES + 1 && at >= 8 && at + 2 * count <= SECTOR_BYTES - 2;
  if (!isSound) return undefined;
  const fixed = Buffer.from(record);
  for (let sector = 1; sector < count; sector++) {
    const end = sector * SECTOR_BYTES - 2;
    if (record.readUInt16LE(end) !== record.readUInt16LE(at)) return undefined;
    record.copy(fixed, end, at + 2 * sector, at + 2 * sector + 2);
  }
  return fixed;
}

/** Attributes looked at in a record. */
const MAX_ATTRIBUTES = 64;

/** The first unnamed attribute of a type. */
function attributeOf(record: Buffer, type: number): Buffer | undefined {
  let at = record.readUInt16LE(20);
  for (let count = 0; count < MAX_ATTRIBUTES && at + 24 <= record.length; count++) {
    const found = record.readUInt32LE(at);
    const lengthBytes = record.readUInt32LE(at + 4);
    if (found === END_OF_ATTRIBUTES || lengthBytes < 24 || at + lengthBytes > record.length) return undefined;
    if (found === type && record[at + 9] === 0) return record.subarray(at, at + lengthBytes);
    at += lengthBytes;
  }
  return undefined;
}

function residentByte(attribute: Buffer, index: number): number {
  return attribute[attribute.readUInt16LE(20) + index] ?? 0;
}

function* probeLog(volume: Volume, record: Buffer): Probe<'clean' | 'dirty' | 'damaged'> {
  const attribute = attributeOf(record, DATA);
  const cluster = attribute === undefined ? undefined : firstClusterOf(attribute);
  if (cluster === undefined) return 'damaged';
  const bytes = yield* bytesAt(cluster * volume.clusterBytes, 2 * RESTART_PAGE_BYTES);
  if (bytes.every((byte) => byte === 0xff)) return 'clean'; // emptied: what a driver does that replays nothing
  const pages = [0, RESTART_PAGE_BYTES]
    .map((at) => restartOf(bytes.subarray(at, at + RESTART_PAGE_BYTES)))
    .filter((page) => page !== undefined)
    .toSorted((a, b) => (a.lsn < b.lsn ? 1 : -1));
  const [newest] = pages;
  if (newest === undefined) return 'damaged';
  return newest.isClean ? 'clean' : 'dirty';
}

/** Cluster of the attribute's first run. */
function firstClusterOf(attribute: Buffer): number | undefined {
  if (attribute[8] !== 1 || attribute.length < 34) return undefined;
  const at = attribute.readUInt16LE(32);
  const sizes = attribute[at] ?? 0;
  const [lengthBytes, offsetBytes] = [sizes & 0xf, sizes >> 4];
  const start = at + 1 + lengthBytes;
  const isSound = lengthBytes >= 1 && offsetBytes >= 1 && offsetBytes <= 6 && start + offsetBytes <= attribute.length;
  return isSound ? attribute.readUIntLE(start, offsetBytes) : undefined;
}

function restartOf(bytes: Buffer): { readonly lsn: bigint; readonly isClean: boolean } | undefined {
  // A page that chkdsk has emptied has another magic and is read the same way.
  const page = fixedUp(bytes, 'RSTR') ?? fixedUp(bytes, 'CHKD');
  const at = page?.readUInt16LE(24) ?? 0;
  if (page === undefined || at < 30 || at + 16 > SECTOR_BYTES) return undefined;
  const isUsed = page.readUInt16LE(at + 12) !== 0xffff;
  return { lsn: page.readBigUInt64LE(at), isClean: !isUsed || (page.readUInt16LE(at + 14) & 2) !== 0 };
}

/** Where no boot sector is, the backup in the last sector tells that there was one. */
export function* probeLostNtfs({ sizeBytes }: Region): Probe<Finding | undefined> {
  const last = yield* bytesAt(sizeBytes - SECTOR_BYTES, SECTOR_BYTES);
  return isBoot(last) ? damaged('ntfs', ['boot sector missing, backup found']) : undefined;
}
