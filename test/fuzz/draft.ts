/** A segment taken apart, and how a hostile writer of a given skill puts it together again. */
import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { CHUNK, CHUNK_BYTES, HEADER, RECORD_BYTES, TAG_BYTES, writeU64 } from '../../src/log/layout.ts';
import { chunkKeyOf, sealChunk } from '../../src/log/seal.ts';
import { takeApart, type SegmentParts } from '../log/forge.ts';
import type { Random } from './random.ts';
import { KEY, type SoundLog } from './sound-logs.ts';

/**
 * - `nothing`: only the changed bytes; - `crc`: the header's checksum as well; - `digest`: CRC and digest of the head;
 * - `chunks`: those, and lengths and SHA-256 of the chunks; - `key`: all of it, tag and seals included, as a holder of the key.
 */
export const SKILLS = ['nothing', 'crc', 'digest', 'chunks', 'key'] as const;
export type Skill = (typeof SKILLS)[number];

export interface Draft extends SegmentParts {
  /** As it is before any change. */
  readonly original: Buffer;
  readonly log: SoundLog;
  readonly sequence: number;
  /** What the table really holds, whatever the header says. */
  recordCount: number;
  chunkCount: number;
  /** Whether `chunks` are bodies that the finish has to seal, when it can. */
  areBodies: boolean;
  /** What follows the last chunk. */
  rest: Buffer;
}

/** `seals`: a holder of the key seals changed bodies anew; otherwise it only makes tag and checksums fit around the old seals. */
export function draftOf(log: SoundLog, sequence: number, seals: boolean): Draft {
  const original = log.segments[sequence - 1]?.bytes ?? Buffer.alloc(0);
  const parts = takeApart(original);
  const draft: Draft = {
    ...parts,
    original,
    log,
    sequence,
    recordCount: original.readUInt32LE(HEADER.recordCount),
    chunkCount: original.readUInt32LE(HEADER.chunkCount),
    areBodies: log.isSealed && seals,
    rest: Buffer.alloc(0),
  };
  if (draft.areBodies) draft.chunks = draft.chunks.map((chunk, index) => openBody(draft, chunk, index));
  return draft;
}

const place = ({ log, sequence, chunkCount }: Draft, chunkIndex: number) => ({
  header: { stream: log.stream, sequence } as Parameters<typeof sealChunk>[1]['header'],
  chunkIndex,
  chunkCount,
});

const saltOf = (draft: Draft): Buffer => draft.original.subarray(HEADER.salt, HEADER.tableTag);

/** Decrypts without asking whether the tag fits: the bytes are our own. */
function openBody(draft: Draft, stored: Buffer, index: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(index);
  const decipher = createDecipheriv('aes-256-gcm', chunkKeyOf(KEY, saltOf(draft)), nonce, { authTagLength: TAG_BYTES });
  return decipher.update(stored.subarray(0, -TAG_BYTES));
}

export const chunkEntryAt = ({ recordCount }: Draft, index: number): number =>
  recordCount * RECORD_BYTES + index * CHUNK_BYTES;

/** Writes when it is inside: a mutation may have made the table shorter than what it holds. */
function writeInside(target: Buffer, at: number, bytes: Buffer): void {
  if (at + bytes.length <= target.length) bytes.copy(target, at);
}

function fitChunks(draft: Draft): void {
  for (const [index, chunk] of draft.chunks.entries()) {
    const at = chunkEntryAt(draft, index);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(chunk.length);
    writeInside(draft.table, at + CHUNK.storedBytes, length);
    writeInside(draft.table, at + CHUNK.sha256, createHash('sha256').update(chunk).digest());
  }
  writeU64(
    draft.head,
    draft.chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    HEADER.storedBytes,
  );
}

function fitTag(draft: Draft): void {
  if ((draft.head.readUInt16LE(HEADER.flags) & 1) === 0) return;
  const key = Buffer.from(
    hkdfSync('sha256', KEY.secret, draft.head.subarray(HEADER.salt, HEADER.tableTag), 'tidemark table v1', 32),
  );
  draft.head.fill(0, HEADER.tableTag, HEADER.names);
  createHmac('sha256', key)
    .update(draft.head)
    .update(draft.table)
    .digest()
    .copy(draft.head, HEADER.tableTag, 0, TAG_BYTES);
}

/** `fitsLengths`: whether lengths and sums of the chunks are made to fit too; a mutation of those very fields does not want it. */
export function finish(draft: Draft, skill: Skill, fitsLengths: boolean): Buffer {
  if (draft.areBodies) {
    const key = chunkKeyOf(KEY, draft.head.subarray(HEADER.salt, HEADER.tableTag));
    draft.chunks = draft.chunks.map((body, index) => sealChunk(key, place(draft, index), body));
  }
  if (fitsLengths && (skill === 'chunks' || skill === 'key')) fitChunks(draft);
  if (skill === 'key') fitTag(draft);
  const crc = Buffer.alloc(4);
  const headerBytes = draft.original.readUInt32LE(HEADER.headerBytes);
  if (skill === 'nothing') draft.original.copy(crc, 0, headerBytes - 4, headerBytes);
  else crc.writeUInt32LE(crc32(draft.head));
  const covered = Buffer.concat([draft.head, crc, draft.table]);
  const oldDigestAt = headerBytes + draft.original.readUInt32LE(HEADER.tableBytes);
  const isStale = skill === 'nothing' || skill === 'crc';
  const digest = isStale
    ? draft.original.subarray(oldDigestAt, oldDigestAt + 32)
    : createHash('sha256').update(covered).digest();
  return Buffer.concat([covered, digest, ...draft.chunks, draft.rest]);
}

/** Most mutants come from a writer who makes everything fit: they get past the outer checks. */
export const anySkill = (random: Random, log: SoundLog): Skill =>
  random.chance(0.25) ? random.pick(SKILLS) : log.isSealed ? random.pick(['chunks', 'key', 'key']) : 'chunks';
