/** Pure. btrfs (btrfs wiki, "On-disk Format"): the superblock and its mirrors. Little-endian. */
import { crc32c } from './crc32c.ts';
import { CLEAN, damaged, judged, type Finding } from './finding.ts';
import { bytesAt, u64, type Probe, type Region } from './probe.ts';

const SUPERBLOCK_BYTES = 4096;
const PRIMARY_AT = 64 * 1024;
/** The second and the third copy, on disks that reach so far. */
const MIRRORS_AT = [64 * 2 ** 20, 256 * 2 ** 30] as const;
const MAGIC = '_BHRfS_M';
const CRC32C_TYPE = 0;

const hasMagic = (bytes: Buffer): boolean => bytes.toString('latin1', 64, 72) === MAGIC;

export function* probeBtrfs({ head, sizeBytes }: Region): Probe<Finding | undefined> {
  const primary = head.subarray(PRIMARY_AT, PRIMARY_AT + SUPERBLOCK_BYTES);
  if (!hasMagic(primary)) return undefined;
  const reasons = reasonsOf(primary, PRIMARY_AT, sizeBytes);
  if (reasons.length > 0) return damaged('btrfs', reasons);
  const deviceBytes = u64(primary, 209);
  for (const [index, at] of MIRRORS_AT.entries()) {
    if (at + SUPERBLOCK_BYTES > deviceBytes) continue;
    const mirror = yield* bytesAt(at, SUPERBLOCK_BYTES);
    const isSame = hasMagic(mirror) && mirror.subarray(32, 48).equals(primary.subarray(32, 48));
    if (!isSame || reasonsOf(mirror, at, sizeBytes).length > 0) reasons.push(`superblock mirror ${index + 1}`);
  }
  const isReplay = u64(primary, 96) !== 0; // log_root
  const unchecked = primary.readUInt16LE(196) === CRC32C_TYPE ? '' : ' (checksum of a kind that is not looked at)';
  return judged(
    'btrfs',
    reasons,
    isReplay
      ? { state: 'replay', text: `needs log replay${unchecked}` }
      : { state: CLEAN.state, text: `${CLEAN.text}${unchecked}` },
  );
}

function reasonsOf(bytes: Buffer, at: number, sizeBytes: number): string[] {
  const reasons: string[] = [];
  const type = bytes.readUInt16LE(196);
  if (type === CRC32C_TYPE && crc32c(bytes.subarray(32)) !== bytes.readUInt32LE(0)) reasons.push('superblock checksum');
  if (type > 3) reasons.push('checksum type');
  if (u64(bytes, 48) !== at) reasons.push('superblock in the wrong place');
  if (u64(bytes, 209) > sizeBytes) reasons.push('larger than its disk or partition');
  const [sector, node] = [bytes.readUInt32LE(144), bytes.readUInt32LE(148)];
  if (sector < 4096 || sector > 65_536 || node < sector || node > 65_536) reasons.push('sector or node size');
  return reasons;
}

/** Where no superblock is, a sound mirror tells that there was one. */
export function* probeLostBtrfs({ sizeBytes }: Region): Probe<Finding | undefined> {
  const mirror = yield* bytesAt(MIRRORS_AT[0], SUPERBLOCK_BYTES);
  const isLost = hasMagic(mirror) && reasonsOf(mirror, MIRRORS_AT[0], sizeBytes).length === 0;
  return isLost ? damaged('btrfs', ['superblock missing, mirror found']) : undefined;
}
