/**
 * Looks at a disk as an operating system would: partition table, then what is on each partition. Reads through a small port, a few
 * hundred small pieces at the most, whatever the disk's size. Damaged structures are findings; only the port throws.
 */
import { assert } from '../errors.ts';
import { MIB } from '../model/sizes.ts';
import { probeBtrfs, probeLostBtrfs } from './btrfs.ts';
import { probeExt, probeLostExt } from './ext.ts';
import { probeExfat, probeFat } from './fat.ts';
import {
  damaged,
  judged,
  OK,
  summarizeFindings,
  type DiskFinding,
  type Finding,
  type LocatedFinding,
} from './finding.ts';
import { hasGptSignature, LOGICAL_SECTORS, probeGpt } from './gpt.ts';
import { parseMbr, PROTECTIVE, probeMbr, type MbrEntry, type Partition } from './mbr.ts';
import { probeLostNtfs, probeNtfs } from './ntfs.ts';
import { bytesAt, HEAD_BYTES, within, type Probe, type Region } from './probe.ts';
import { probeLuks, probeLvm, probeSwap } from './volumes.ts';
import { probeXfs } from './xfs.ts';

/** Partitions that are looked into; of the others only the entry is. */
const MAX_PARTITIONS = 32;
/** What the parsers' own limits keep to on any disk. */
export const MAX_READS = 2048;
export const MAX_READ_TOTAL_BYTES = 512 * MIB;

/** Bytes of the disk; `[offsetBytes, offsetBytes + lengthBytes)` always lies on it. What it throws passes through. */
export type DiskRead = (offsetBytes: number, lengthBytes: number, signal: AbortSignal) => Promise<Buffer>;

export interface DiskToInspect {
  readonly sizeBytes: number;
  readonly read: DiskRead;
}

export async function inspectDisk({ sizeBytes, read }: DiskToInspect, signal: AbortSignal): Promise<DiskFinding> {
  const probe = probeDisk(sizeBytes);
  let step = probe.next();
  let reads = 0;
  let bytes = 0;
  while (step.done !== true) {
    const { offsetBytes, lengthBytes } = step.value;
    bytes += lengthBytes;
    assert(++reads <= MAX_READS && bytes <= MAX_READ_TOTAL_BYTES, 'an inspection keeps to its limits');
    step = probe.next(await read(offsetBytes, lengthBytes, signal));
  }
  return step.value;
}

/** The same as a generator, for bytes that are at hand. */
export const probeDisk = (sizeBytes: number): Probe<DiskFinding> => within(0, sizeBytes, inspectAll(sizeBytes));

function* inspectAll(sizeBytes: number): Probe<DiskFinding> {
  const head = yield* bytesAt(0, HEAD_BYTES);
  const entries = parseMbr(head) ?? [];
  const isProtected = entries.some(({ type }) => type === PROTECTIVE);
  const hasOtherTable = entries.length > 0 && !isProtected;
  const hasGpt = isProtected || LOGICAL_SECTORS.some((bytes) => hasGptSignature(head.subarray(bytes)));
  const gpt = hasGpt && !hasOtherTable ? yield* probeGpt(sizeBytes, isProtected) : undefined;
  if (gpt !== undefined) return yield* inspectPartitions(gpt.finding, gpt.partitions, sizeBytes);
  if (entries.length > 0 && !isBootSector(head)) return yield* inspectMbr(entries, sizeBytes);
  const whole = (yield* inspectRegion({ head, sizeBytes })) ?? (yield* probeGptBackup(sizeBytes));
  return summarizeFindings([{ where: '', ...(whole ?? NOTHING_KNOWN) }]);
}

const NOTHING_KNOWN: Finding = { what: '', state: 'unknown', text: 'no file system known' };

/** A GPT of which only the backup is left, MBR and all. */
function* probeGptBackup(sizeBytes: number): Probe<Finding | undefined> {
  for (const sectorBytes of LOGICAL_SECTORS) {
    const last = yield* bytesAt(sizeBytes - sectorBytes, sectorBytes);
    if (hasGptSignature(last)) return damaged('gpt', ['protective MBR and primary header missing', 'backup found']);
  }
  return undefined;
}

/** Boot sectors of FAT, exFAT and NTFS end like an MBR; their names tell them apart. */
const isBootSector = (head: Buffer): boolean =>
  ['NTFS    ', 'EXFAT   '].includes(head.toString('latin1', 3, 11)) ||
  head.toString('latin1', 54, 57) === 'FAT' ||
  head.toString('latin1', 82, 87) === 'FAT32';

function* inspectMbr(entries: readonly MbrEntry[], sizeBytes: number): Probe<DiskFinding> {
  const sectorBytes = yield* guessSectorBytes(entries);
  const { partitions, reasons } = yield* probeMbr(entries, sectorBytes, sizeBytes);
  return yield* inspectPartitions(judged('mbr', reasons, OK), partitions, sizeBytes);
}

/** An MBR does not say what it counts in: 4096, when that is where something is. */
function* guessSectorBytes(entries: readonly MbrEntry[]): Probe<number> {
  const [first] = entries;
  if (first === undefined) return LOGICAL_SECTORS[0];
  for (const sectorBytes of LOGICAL_SECTORS) {
    const region = within(
      first.start * sectorBytes,
      first.sectors * sectorBytes,
      readRegion(first.sectors * sectorBytes),
    );
    if ((yield* region) !== undefined) return sectorBytes;
  }
  return LOGICAL_SECTORS[0];
}

function* inspectPartitions(table: Finding, partitions: readonly Partition[], diskBytes: number): Probe<DiskFinding> {
  const findings: LocatedFinding[] = [{ where: '', ...table }];
  for (const { number, startBytes, sizeBytes } of partitions.slice(0, MAX_PARTITIONS)) {
    const insideBytes = Math.max(0, Math.min(sizeBytes, diskBytes - startBytes));
    const finding = yield* within(startBytes, insideBytes, readRegion(insideBytes));
    findings.push({ where: `p${number}`, ...(finding ?? NOTHING_KNOWN) });
  }
  const rest = partitions.length - MAX_PARTITIONS;
  if (rest > 0) findings.push({ where: '', what: '', state: 'unknown', text: `${rest} more partitions not looked at` });
  return summarizeFindings(findings);
}

function* readRegion(sizeBytes: number): Probe<Finding | undefined> {
  const head = yield* bytesAt(0, HEAD_BYTES);
  return yield* inspectRegion({ head, sizeBytes });
}

/** What has its superblock first; only then the traces of what had one, which may be older than what is there now. */
function* inspectRegion(region: Region): Probe<Finding | undefined> {
  return (
    (yield* probeLuks(region)) ??
    (yield* probeLvm(region)) ??
    (yield* probeXfs(region)) ??
    (yield* probeNtfs(region)) ??
    (yield* probeExfat(region)) ??
    (yield* probeFat(region)) ??
    (yield* probeExt(region)) ??
    (yield* probeBtrfs(region)) ??
    probeSwap(region) ??
    (yield* probeLostExt(region)) ??
    (yield* probeLostBtrfs(region)) ??
    (yield* probeLostNtfs(region))
  );
}
