/** Pure. MBR: the four entries, and the chain of logical partitions in an extended one. */
import { bytesAt, type Probe } from './probe.ts';

const SIGNATURE_AT = 510;
const ENTRIES_AT = 446;
const ENTRY_BYTES = 16;
const EXTENDED: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85]);
export const PROTECTIVE = 0xee;
/** Logical partitions followed: Linux itself stops at about as many. */
const MAX_LOGICAL = 60;

export interface Partition {
  /** As operating systems count: from 1, logical partitions from 5. */
  readonly number: number;
  readonly startBytes: number;
  readonly sizeBytes: number;
}

export interface MbrEntry {
  readonly number: number;
  readonly type: number;
  /** In logical sectors. */
  readonly start: number;
  readonly sectors: number;
}

export const hasSignature = (sector: Buffer): boolean => sector.readUInt16LE(SIGNATURE_AT) === 0xaa55;

/** The entries in use, or undefined when the sector is no partition table. */
export function parseMbr(sector: Buffer): readonly MbrEntry[] | undefined {
  if (!hasSignature(sector)) return undefined;
  const entries = Array.from({ length: 4 }, (_, index) => {
    const at = ENTRIES_AT + index * ENTRY_BYTES;
    return {
      isPlausible: ((sector[at] ?? 0) & 0x7f) === 0,
      number: index + 1,
      type: sector[at + 4] ?? 0,
      start: sector.readUInt32LE(at + 8),
      sectors: sector.readUInt32LE(at + 12),
    };
  });
  if (entries.some(({ isPlausible }) => !isPlausible)) return undefined;
  return entries.filter(({ type, sectors }) => type !== 0 && sectors !== 0);
}

export interface PartitionTable {
  readonly partitions: readonly Partition[];
  readonly reasons: readonly string[];
}

export function* probeMbr(entries: readonly MbrEntry[], sectorBytes: number, sizeBytes: number): Probe<PartitionTable> {
  const toBytes = ({ number, start, sectors }: MbrEntry): Partition => ({
    number,
    startBytes: start * sectorBytes,
    sizeBytes: sectors * sectorBytes,
  });
  const primary = entries.filter(({ type }) => !EXTENDED.has(type)).map(toBytes);
  const extended = entries.filter(({ type }) => EXTENDED.has(type));
  const reasons = [...placementReasons([...primary, ...extended.map(toBytes)], sectorBytes, sizeBytes)];
  const logical: Partition[] = [];
  for (const entry of extended) {
    const chain = yield* probeChain(entry, sectorBytes, logical.length);
    logical.push(...chain.partitions);
    reasons.push(...chain.reasons);
  }
  reasons.push(...placementReasons(logical, sectorBytes, sizeBytes));
  return { partitions: [...primary, ...logical], reasons };
}

function* probeChain(extended: MbrEntry, sectorBytes: number, before: number): Probe<PartitionTable> {
  const partitions: Partition[] = [];
  const seen = new Set<number>();
  let at = extended.start;
  while (!seen.has(at)) {
    seen.add(at);
    if (seen.size > MAX_LOGICAL) return { partitions, reasons: ['too many logical partitions'] };
    const entries = parseMbr(yield* bytesAt(at * sectorBytes, 512));
    if (entries === undefined) return { partitions, reasons: ['chain of logical partitions is broken'] };
    const own = entries.find(({ type }) => !EXTENDED.has(type));
    if (own !== undefined) {
      const [startBytes, sizeBytes] = [(at + own.start) * sectorBytes, own.sectors * sectorBytes];
      partitions.push({ number: 5 + before + partitions.length, startBytes, sizeBytes });
    }
    const next = entries.find(({ type }) => EXTENDED.has(type));
    if (next === undefined) return { partitions, reasons: [] };
    at = extended.start + next.start;
    if (next.start + next.sectors > extended.sectors) {
      return { partitions, reasons: ['a logical partition lies outside the extended one'] };
    }
  }
  return { partitions, reasons: ['chain of logical partitions runs in a circle'] };
}

/** Partitions that begin in the table itself, end behind the disk or overlap. */
function* placementReasons(
  partitions: readonly Partition[],
  sectorBytes: number,
  sizeBytes: number,
): Generator<string, void> {
  for (const { number, startBytes, sizeBytes: length } of partitions) {
    if (startBytes < sectorBytes) yield `p${number} begins in the partition table`;
    if (startBytes + length > sizeBytes) yield `p${number} ends behind the disk`;
  }
  const overlap = overlapOf(partitions);
  if (overlap !== undefined) yield overlap;
}

export function overlapOf(partitions: readonly Partition[]): string | undefined {
  const sorted = partitions.toSorted((a, b) => a.startBytes - b.startBytes);
  for (const [index, partition] of sorted.entries()) {
    const next = sorted[index + 1];
    if (next !== undefined && partition.startBytes + partition.sizeBytes > next.startBytes) {
      return `p${partition.number} and p${next.number} overlap`;
    }
  }
  return undefined;
}
