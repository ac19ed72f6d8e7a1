/**
 * Pure. ext2, ext3, ext4 (Linux, "ext4 Data Structures and Algorithms"): superblock, first block of group descriptors, root and journal
 * inodes, journal superblock. All little-endian, but the journal, which is big-endian.
 */
import { crc32cRegister, CRC32C_SEED } from './crc32c.ts';
import { CLEAN, damaged, judged, type Finding } from './finding.ts';
import { blanked, bytesAt, type Probe, type Region } from './probe.ts';
import { crc16 } from './crc16.ts';

const SUPERBLOCK_AT = 1024;
const SUPERBLOCK_BYTES = 1024;
const MAGIC = 0xef53;
const JOURNAL_MAGIC = 0xc03b3998;
const HAS_JOURNAL = 0x4;
const INCOMPAT = { recover: 0x4, journalDevice: 0x8, extents: 0x40, is64bit: 0x80, checksumSeed: 0x2000, metaBg: 0x10 };
const RO_COMPAT = { groupChecksums: 0x10, metadataChecksums: 0x400 };
/** `incompat` features that only ext4 has: extents, 64bit, mmp, flex_bg, and all later ones. */
const EXT4_INCOMPAT = 0xffff_ffc0;
const ERRORS = 0x2;
const VALID = 0x1;
const ROOT_INODE = 2;
/** Largest block of the format. */
const MAX_BLOCK_BYTES = 65_536;

interface Ext {
  readonly bytes: Buffer;
  readonly name: string;
  readonly blockBytes: number;
  readonly blocks: number;
  readonly firstBlock: number;
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
  readonly descriptorBytes: number;
  readonly inodeBytes: number;
  readonly groups: number;
  /** Where checksums of metadata begin. */
  readonly seed: number;
}

const has = (set: number, flag: number): boolean => (set & flag) !== 0;

export function* probeExt({ head, sizeBytes }: Region): Probe<Finding | undefined> {
  const bytes = head.subarray(SUPERBLOCK_AT, SUPERBLOCK_AT + SUPERBLOCK_BYTES);
  if (bytes.readUInt16LE(56) !== MAGIC) return undefined;
  const ext = parse(bytes);
  const wrong = superblockReasons(ext, sizeBytes);
  if (wrong.length > 0) return damaged(ext.name, wrong);
  const table = yield* bytesAt((ext.firstBlock + 1) * ext.blockBytes, ext.blockBytes);
  // With meta_bg the first descriptors may lie elsewhere (s_first_meta_bg 0); nothing more can be followed then.
  if (has(ext.incompat, INCOMPAT.metaBg) && bytes.readUInt32LE(260) === 0) return judged(ext.name, [], stateOf(ext));
  const reasons = descriptorReasons(ext, table);
  if (reasons.length > 0) return damaged(ext.name, reasons);
  const root = yield* readInode(ext, table, ROOT_INODE);
  if (root === undefined || (root.readUInt16LE(0) & 0xf000) !== 0x4000) reasons.push('root inode');
  else if (!inodeChecksumFits(ext, ROOT_INODE, root)) reasons.push('root inode checksum');
  if (!has(ext.compat, HAS_JOURNAL)) return judged(ext.name, reasons, stateOf(ext));
  return yield* probeJournal(ext, table, reasons);
}

function parse(bytes: Buffer): Ext {
  const compat = bytes.readUInt32LE(92);
  const incompat = bytes.readUInt32LE(96);
  const roCompat = bytes.readUInt32LE(100);
  const is64bit = has(incompat, INCOMPAT.is64bit);
  const blocks = bytes.readUInt32LE(4) + (is64bit ? bytes.readUInt32LE(336) * 2 ** 32 : 0);
  const firstBlock = bytes.readUInt32LE(20);
  const perGroup = bytes.readUInt32LE(32);
  const isExt4 = has(incompat, EXT4_INCOMPAT) || has(roCompat, 0xffff_fff8);
  return {
    bytes,
    name: isExt4 ? 'ext4' : has(compat, HAS_JOURNAL) ? 'ext3' : 'ext2',
    blockBytes: 1024 * 2 ** Math.min(bytes.readUInt32LE(24), 32),
    blocks,
    firstBlock,
    compat,
    incompat,
    roCompat,
    descriptorBytes: is64bit ? bytes.readUInt16LE(254) : 32,
    inodeBytes: bytes.readUInt32LE(76) === 0 ? 128 : bytes.readUInt16LE(88),
    groups: perGroup === 0 ? 0 : Math.ceil((blocks - firstBlock) / perGroup),
    seed: has(incompat, INCOMPAT.checksumSeed)
      ? bytes.readUInt32LE(624)
      : crc32cRegister(bytes.subarray(104, 120), CRC32C_SEED),
  };
}

function superblockReasons(ext: Ext, sizeBytes: number): string[] {
  const { bytes, blockBytes, blocks, descriptorBytes, inodeBytes } = ext;
  const reasons: string[] = [];
  if (has(ext.roCompat, RO_COMPAT.metadataChecksums)) {
    const checksum = crc32cRegister(bytes.subarray(0, 1020), CRC32C_SEED);
    if (bytes[373] !== 1 || checksum !== bytes.readUInt32LE(1020)) reasons.push('superblock checksum');
  }
  if (blockBytes > MAX_BLOCK_BYTES || ext.firstBlock !== (blockBytes === 1024 ? 1 : 0)) reasons.push('block size');
  else if (blocks * blockBytes > sizeBytes) reasons.push('larger than its disk or partition');
  if (blocks === 0 || ext.groups === 0 || bytes.readUInt32LE(40) === 0) reasons.push('group size');
  if (inodeBytes < 128 || inodeBytes > blockBytes) reasons.push('inode size');
  if (descriptorBytes < 32 || descriptorBytes > 1024) reasons.push('group descriptor size');
  return reasons;
}

/** All descriptors of the first block: their checksums, and whether the tables that they name lie on the disk. */
function descriptorReasons(ext: Ext, table: Buffer): string[] {
  const { descriptorBytes, groups, blocks, blockBytes } = ext;
  const count = Math.min(groups, Math.floor(blockBytes / descriptorBytes));
  for (let group = 0; group < count; group++) {
    const bytes = table.subarray(group * descriptorBytes, (group + 1) * descriptorBytes);
    if (!descriptorChecksumFits(ext, group, bytes)) return [`checksum of group descriptor ${group}`];
    const inodeTable = inodeTableOf(ext, bytes);
    if (inodeTable <= ext.firstBlock || inodeTable >= blocks) return [`inode table of group ${group}`];
  }
  return [];
}

const inodeTableOf = (ext: Ext, descriptor: Buffer): number =>
  descriptor.readUInt32LE(8) + (ext.descriptorBytes >= 64 ? descriptor.readUInt32LE(40) * 2 ** 32 : 0);

function descriptorChecksumFits(ext: Ext, group: number, descriptor: Buffer): boolean {
  const number = Buffer.alloc(4);
  number.writeUInt32LE(group);
  const stored = descriptor.readUInt16LE(30);
  if (has(ext.roCompat, RO_COMPAT.metadataChecksums)) {
    const register = crc32cRegister(blanked(descriptor, 30, 2), crc32cRegister(number, ext.seed));
    return (register & 0xffff) === stored;
  }
  if (!has(ext.roCompat, RO_COMPAT.groupChecksums)) return true;
  const uuid = ext.bytes.subarray(104, 120);
  const rest = ext.descriptorBytes > 32 ? descriptor.subarray(32) : Buffer.alloc(0);
  return crc16(Buffer.concat([uuid, number, descriptor.subarray(0, 30), rest])) === stored;
}

/** Undefined when the number lies outside the first group, where reserved inodes are. */
function* readInode(ext: Ext, table: Buffer, number: number): Probe<Buffer | undefined> {
  const perGroup = ext.bytes.readUInt32LE(40);
  if (number < 1 || number > perGroup) return undefined;
  const at = inodeTableOf(ext, table) * ext.blockBytes + (number - 1) * ext.inodeBytes;
  return yield* bytesAt(at, ext.inodeBytes);
}

function inodeChecksumFits(ext: Ext, number: number, inode: Buffer): boolean {
  if (!has(ext.roCompat, RO_COMPAT.metadataChecksums)) return true;
  const key = Buffer.alloc(8);
  key.writeUInt32LE(number);
  inode.copy(key, 4, 100, 104); // generation
  const isWide = inode.length > 128 && inode.readUInt16LE(128) >= 4;
  const bytes = blanked(inode, 124, 2);
  if (isWide) bytes.fill(0, 130, 132);
  const register = crc32cRegister(bytes, crc32cRegister(key, ext.seed));
  const low = inode.readUInt16LE(124);
  return isWide ? register === inode.readUInt16LE(130) * 65_536 + low : (register & 0xffff) === low;
}

function* probeJournal(ext: Ext, table: Buffer, reasons: string[]): Probe<Finding> {
  const number = ext.bytes.readUInt32LE(224);
  if (number === 0) {
    const text = has(ext.incompat, INCOMPAT.recover) ? 'needs journal replay (external journal)' : CLEAN.text;
    return judged(ext.name, reasons, { state: has(ext.incompat, INCOMPAT.recover) ? 'replay' : 'clean', text });
  }
  const inode = yield* readInode(ext, table, number);
  if (inode === undefined || !inodeChecksumFits(ext, number, inode)) {
    return damaged(ext.name, [...reasons, 'journal inode checksum']);
  }
  const block = yield* firstBlockOf(ext, inode);
  if (block === undefined) return damaged(ext.name, [...reasons, 'journal inode']);
  const journal = yield* bytesAt(block * ext.blockBytes, 1024);
  const wrong = journalReason(ext, journal);
  if (wrong !== undefined) return damaged(ext.name, [...reasons, wrong]);
  return judged(ext.name, reasons, stateOf(ext, journal.readUInt32BE(28)));
}

/** Steps down an extent tree, whose format allows five levels. */
const MAX_EXTENT_DEPTH = 5;

/** Block of the file's first byte: by extents, or the first of the direct blocks. */
function* firstBlockOf(ext: Ext, inode: Buffer): Probe<number | undefined> {
  const isInside = (block: number): boolean => block > ext.firstBlock && block < ext.blocks;
  let node = inode.subarray(40, 100);
  if (!has(inode.readUInt32LE(32), 0x80000)) {
    const block = node.readUInt32LE(0);
    return isInside(block) ? block : undefined;
  }
  for (let level = 0; level <= MAX_EXTENT_DEPTH; level++) {
    if (node.readUInt16LE(0) !== 0xf30a || node.readUInt16LE(2) === 0 || node.readUInt32LE(12) !== 0) return undefined;
    const isLeaf = node.readUInt16LE(6) === 0;
    const block = isLeaf
      ? node.readUInt16LE(18) * 2 ** 32 + node.readUInt32LE(20)
      : node.readUInt16LE(20) * 2 ** 32 + node.readUInt32LE(16);
    if (!isInside(block)) return undefined;
    if (isLeaf) return block;
    node = yield* bytesAt(block * ext.blockBytes, ext.blockBytes);
  }
  return undefined;
}

function journalReason(ext: Ext, journal: Buffer): string | undefined {
  const type = journal.readUInt32BE(4);
  if (journal.readUInt32BE(0) !== JOURNAL_MAGIC || (type !== 3 && type !== 4)) return 'journal superblock';
  // Checksums of version 2 and 3 cover the superblock too.
  if (type === 4 && has(journal.readUInt32BE(40), 0x18)) {
    const register = crc32cRegister(blanked(journal, 252, 4), CRC32C_SEED);
    if (register !== journal.readUInt32BE(252)) return 'journal superblock checksum';
  }
  const maxLength = journal.readUInt32BE(16);
  const isSound = journal.readUInt32BE(12) === ext.blockBytes && journal.readUInt32BE(28) < maxLength;
  return isSound ? undefined : 'journal superblock';
}

/** @param journalStart block in which the journal's oldest transaction begins; 0 when it is empty, undefined without a journal */
function stateOf(ext: Ext, journalStart?: number): Omit<Finding, 'what'> {
  const state = ext.bytes.readUInt16LE(58);
  if (has(state, ERRORS)) return { state: 'check', text: 'needs a check (the source noted errors)' };
  if (has(ext.incompat, INCOMPAT.recover)) {
    const isEmpty = journalStart === 0;
    return { state: 'replay', text: isEmpty ? 'mounted, journal empty' : 'needs journal replay' };
  }
  if (journalStart !== undefined && journalStart !== 0) {
    return { state: 'check', text: 'needs a check (journal not empty, yet not marked for replay)' };
  }
  return has(state, VALID) ? CLEAN : { state: 'check', text: 'needs a check (not unmounted cleanly)' };
}

/** First backup superblock for blocks of 1, 2 and 4 KiB at their usual group sizes. */
const BACKUPS = [8193 * 1024, 16_384 * 2048, 32_768 * 4096] as const;

/** Where no superblock is, a backup with a right checksum tells that there was one. */
export function* probeLostExt({ sizeBytes }: Region): Probe<Finding | undefined> {
  for (const at of BACKUPS) {
    if (at + SUPERBLOCK_BYTES > sizeBytes) continue;
    const bytes = yield* bytesAt(at, SUPERBLOCK_BYTES);
    if (bytes.readUInt16LE(56) !== MAGIC || bytes.readUInt16LE(90) !== 1) continue;
    const ext = parse(bytes);
    const isChecked = has(ext.roCompat, RO_COMPAT.metadataChecksums);
    if (isChecked && superblockReasons(ext, sizeBytes).length === 0) {
      return damaged(ext.name, ['superblock missing, backup found']);
    }
  }
  return undefined;
}
