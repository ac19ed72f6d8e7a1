/**
 * Pure. Whether an XFS log is clean: the record before its head is an unmount record. Found as the kernel finds it: the first word of
 * each 512-byte block is the number of the log's round ("cycle") in which it was written, so the head, where the newest round ends, is found
 * by halving; the record before it is found by its magic.
 */
import { crc32c } from './crc32c.ts';
import type { Finding } from './finding.ts';
import { blanked, bytesAt, type Probe } from './probe.ts';

const BLOCK_BYTES = 512;
const RECORD_MAGIC = 0xfeedbabe;
/** A record has at most 256 KiB and a header block per 32 KiB. */
const MAX_RECORD_BLOCKS = 512 + 8;
/** The format's largest log, 2 GiB. */
const MAX_LOG_BLOCKS = 2 ** 22;
const HEADER_BYTES = 328;
const EXTENDED_HEADER_BYTES = 260;
const HEADER_BLOCK_BYTES = 32_768;
const UNMOUNT_FLAG = 0x20;

export interface XfsLog {
  readonly startBytes: number;
  /** Blocks of 512 bytes. */
  readonly blocks: number;
  /** Version 5 file systems have a checksum in each record. */
  readonly hasChecksums: boolean;
}

const CLEAN_LOG = { state: 'clean', text: 'clean' } as const;
const DIRTY_LOG = { state: 'replay', text: 'needs log replay' } as const;
const BAD_LOG = { state: 'damaged', text: 'log' } as const;

/** The text of a damaged one is its reason. */
export function* probeXfsLog(log: XfsLog): Probe<Omit<Finding, 'what'>> {
  if (!Number.isSafeInteger(log.startBytes) || log.blocks < MAX_RECORD_BLOCKS || log.blocks > MAX_LOG_BLOCKS) {
    return BAD_LOG;
  }
  const first = yield* cycleOf(log, 0);
  const last = yield* cycleOf(log, log.blocks - 1);
  if (first === 0 && last === 0) return CLEAN_LOG; // never written
  const head = yield* findHead(log, first, last);
  const window = yield* readBefore(log, head);
  return judgeWindow(log, trimmed(window, first === last ? first - 1 : last));
}

const cycleIn = (block: Buffer): number =>
  block.readUInt32BE(0) === RECORD_MAGIC ? block.readUInt32BE(4) : block.readUInt32BE(0);

function* cycleOf(log: XfsLog, block: number): Probe<number> {
  return cycleIn(yield* bytesAt(log.startBytes + block * BLOCK_BYTES, BLOCK_BYTES));
}

/** The first block that is not of the first block's round: where the next record goes. The log's end when there is none. */
function* findHead(log: XfsLog, first: number, last: number): Probe<number> {
  if (first === last) return log.blocks;
  let [low, high] = [0, log.blocks - 1];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if ((yield* cycleOf(log, middle)) === first) low = middle;
    else high = middle;
  }
  return high;
}

/** The blocks before the head, oldest first, over the log's beginning when they reach so far. */
function* readBefore(log: XfsLog, head: number): Probe<Buffer> {
  const before = Math.min(head, MAX_RECORD_BLOCKS);
  const near = yield* bytesAt(log.startBytes + (head - before) * BLOCK_BYTES, before * BLOCK_BYTES);
  const wrapped = MAX_RECORD_BLOCKS - before;
  if (wrapped === 0) return near;
  const far = yield* bytesAt(log.startBytes + (log.blocks - wrapped) * BLOCK_BYTES, wrapped * BLOCK_BYTES);
  return Buffer.concat([far, near]);
}

/** Writes may have reached the disk out of order: what follows a block of the round before, inside the newest one, does not count. */
function trimmed(window: Buffer, staleCycle: number): Buffer {
  const newest = cycleIn(window.subarray(-BLOCK_BYTES));
  for (let at = window.length - BLOCK_BYTES; at >= 0; at -= BLOCK_BYTES) {
    const cycle = cycleIn(window.subarray(at, at + BLOCK_BYTES));
    if (cycle === newest || cycle !== staleCycle) continue;
    const isBetween = at > 0 && cycleIn(window.subarray(at - BLOCK_BYTES, at)) === newest;
    if (isBetween) return window.subarray(0, at);
  }
  return window;
}

function judgeWindow(log: XfsLog, window: Buffer): Omit<Finding, 'what'> {
  for (let at = window.length - BLOCK_BYTES; at >= 0; at -= BLOCK_BYTES) {
    if (window.readUInt32BE(at) !== RECORD_MAGIC) continue;
    const record = window.subarray(at);
    return isUnmount(record) && (!log.hasChecksums || recordChecksumFits(record)) ? CLEAN_LOG : DIRTY_LOG;
  }
  return BAD_LOG;
}

function headerBlocksOf(record: Buffer): number {
  const isVersion2 = (record.readUInt32BE(8) & 2) !== 0;
  const sizeBytes = record.readUInt32BE(320);
  return isVersion2 && sizeBytes > HEADER_BLOCK_BYTES ? Math.ceil(sizeBytes / HEADER_BLOCK_BYTES) : 1;
}

/** A record that ends exactly at the head and has one operation, the unmount. */
function isUnmount(record: Buffer): boolean {
  const headers = headerBlocksOf(record);
  const dataBlocks = Math.ceil(record.readUInt32BE(12) / BLOCK_BYTES);
  if ((headers + dataBlocks) * BLOCK_BYTES !== record.length || dataBlocks === 0) return false;
  const flags = record[headers * BLOCK_BYTES + 9] ?? 0;
  return record.readUInt32BE(40) === 1 && (flags & UNMOUNT_FLAG) !== 0;
}

/** Over the header without the checksum, the extended headers and the data as it lies on the disk; zero: none was written. */
function recordChecksumFits(record: Buffer): boolean {
  const headers = headerBlocksOf(record);
  const extended = Array.from({ length: headers - 1 }, (_, index) =>
    record.subarray((index + 1) * BLOCK_BYTES, (index + 1) * BLOCK_BYTES + EXTENDED_HEADER_BYTES),
  );
  const data = record.subarray(headers * BLOCK_BYTES, headers * BLOCK_BYTES + record.readUInt32BE(12));
  const stored = record.readUInt32LE(32);
  return stored === 0 || crc32c(blanked(record.subarray(0, HEADER_BYTES), 32, 4), ...extended, data) === stored;
}
