/** Pure. XFS (kernel.org, "XFS Algorithms & Data Structures"): superblocks, headers of the first allocation group, log. Big-endian, but checksums. */
import { crc32c } from './crc32c.ts';
import { damaged, judged, type Finding } from './finding.ts';
import { blanked, bytesAt, isPowerOfTwo, type Probe, type Region } from './probe.ts';
import { probeXfsLog } from './xfs-log.ts';

const MAGIC = 'XFSB';
const MAX_SECTOR_BYTES = 32_768;

interface Superblock {
  readonly bytes: Buffer;
  readonly blockBytes: number;
  readonly blocks: number;
  readonly groupBlocks: number;
  readonly groups: number;
  readonly sectorBytes: number;
  readonly logStart: number;
  readonly logBlocks: number;
  readonly isV5: boolean;
}

export function* probeXfs({ head, sizeBytes }: Region): Probe<Finding | undefined> {
  if (head.toString('latin1', 0, 4) !== MAGIC) return undefined;
  const primary = parse(head.subarray(0, MAX_SECTOR_BYTES));
  const reasons = superblockReasons(primary, sizeBytes);
  if (reasons.length > 0) return damaged('xfs', reasons);
  reasons.push(...headerReasons(primary, head));
  if (primary.groups > 1) {
    const at = primary.groupBlocks * primary.blockBytes;
    const secondary = parse(yield* bytesAt(at, MAX_SECTOR_BYTES));
    if (!isCopy(primary, secondary)) reasons.push('secondary superblock');
  }
  if (primary.bytes[126] !== 0) reasons.push('made only in part');
  if (primary.logStart === 0) {
    return judged('xfs', reasons, { state: 'unknown', text: 'with an external log, which is not looked at' });
  }
  const log = yield* probeXfsLog({
    startBytes: logStartBytes(primary),
    blocks: (primary.logBlocks * primary.blockBytes) / 512,
    hasChecksums: primary.isV5,
  });
  if (log.state === 'damaged') reasons.push(log.text);
  return judged('xfs', reasons, log);
}

function parse(bytes: Buffer): Superblock {
  return {
    bytes,
    blockBytes: bytes.readUInt32BE(4),
    blocks: Number(bytes.readBigUInt64BE(8)),
    groupBlocks: bytes.readUInt32BE(84),
    groups: bytes.readUInt32BE(88),
    sectorBytes: bytes.readUInt16BE(102),
    logStart: Number(bytes.readBigUInt64BE(48)),
    logBlocks: bytes.readUInt32BE(96),
    isV5: (bytes.readUInt16BE(100) & 0xf) === 5,
  };
}

/** A checksum (little-endian at `at`) over one sector. */
const checksumFits = (sector: Buffer, at: number): boolean =>
  crc32c(blanked(sector, at, 4)) === sector.readUInt32LE(at);

function superblockReasons(superblock: Superblock, sizeBytes: number): string[] {
  const { bytes, blockBytes, blocks, groupBlocks, groups, sectorBytes } = superblock;
  const version = bytes.readUInt16BE(100) & 0xf;
  if (!isPowerOfTwo(sectorBytes) || sectorBytes < 512 || sectorBytes > MAX_SECTOR_BYTES) return ['sector size'];
  const reasons: string[] = [];
  if (version !== 4 && version !== 5) reasons.push('version');
  if (superblock.isV5 && !checksumFits(bytes.subarray(0, sectorBytes), 224)) reasons.push('superblock checksum');
  if (!isPowerOfTwo(blockBytes) || blockBytes < 512 || blockBytes > 65_536) reasons.push('block size');
  else if (blocks * blockBytes > sizeBytes) reasons.push('larger than its disk or partition');
  const last = blocks - (groups - 1) * groupBlocks;
  if (groups === 0 || groupBlocks < 64 || last <= 0 || last > groupBlocks) reasons.push('allocation groups');
  const groupBits = bytes[124] ?? 0;
  if (groupBits > 31 || 2 ** groupBits < groupBlocks) reasons.push('allocation groups');
  return reasons;
}

/** Headers of free space and of inodes of the first allocation group, in its second and third sector. */
function headerReasons({ isV5, sectorBytes }: Superblock, head: Buffer): string[] {
  const reasons: string[] = [];
  for (const [index, magic, checksumAt] of [
    [1, 'XAGF', 216],
    [2, 'XAGI', 312],
  ] as const) {
    if ((index + 1) * sectorBytes > head.length) continue;
    const sector = head.subarray(index * sectorBytes, (index + 1) * sectorBytes);
    if (sector.toString('latin1', 0, 4) !== magic) reasons.push(`${magic} header`);
    else if (isV5 && !checksumFits(sector, checksumAt)) reasons.push(`${magic} header checksum`);
  }
  return reasons;
}

/** Only what never changes is compared: counters of secondary superblocks are old by design. */
function isCopy(primary: Superblock, secondary: Superblock): boolean {
  const { bytes, sectorBytes } = secondary;
  return (
    bytes.toString('latin1', 0, 4) === MAGIC &&
    sectorBytes === primary.sectorBytes &&
    (!secondary.isV5 || checksumFits(bytes.subarray(0, sectorBytes), 224)) &&
    secondary.isV5 === primary.isV5 &&
    secondary.blockBytes === primary.blockBytes &&
    secondary.groupBlocks === primary.groupBlocks &&
    bytes.subarray(32, 48).equals(primary.bytes.subarray(32, 48))
  );
}

/** Block numbers hold the allocation group in their upper bits. */
function logStartBytes({ bytes, logStart, groupBlocks, blockBytes }: Superblock): number {
  const groupSize = 2 ** (bytes[124] ?? 0);
  const group = Math.floor(logStart / groupSize);
  return (group * groupBlocks + (logStart % groupSize)) * blockBytes;
}
