/** Pure. Where the fields of a version 1 segment are; docs/replication-log.md is the specification. Little-endian throughout. */
import { TidemarkError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';

export const MAGIC = Buffer.from('TIDEMARK', 'latin1');
export const VERSION = 1;
export const FLAG_SEALED = 1;

/** Offsets in the header. `magic`, `version`, `flags` and `headerBytes` are at these places in every version. */
export const HEADER = {
  magic: 0,
  version: 8,
  flags: 10,
  headerBytes: 12,
  epoch: 16,
  recordCount: 20,
  sequence: 24,
  streamStartUs: 32,
  recordsBefore: 40,
  firstTimeUs: 48,
  endTimeUs: 56,
  diskSizeBytes: 64,
  chunkCount: 72,
  tableBytes: 76,
  storedBytes: 80,
  previousDigest: 88,
  keyCheck: 120,
  salt: 128,
  tableTag: 144,
  names: 160,
} as const;
/** Bytes before the names' lengths and texts, which the CRC-32 follows. */
export const CRC_BYTES = 4;
/** Header of any version up to and with `headerBytes`. */
export const FRAME_BYTES = 16;
export const DIGEST_BYTES = 32;
export const KEY_CHECK_BYTES = 8;
export const SALT_BYTES = 16;
export const TAG_BYTES = 16;

/** Offsets in a record of the table. */
export const RECORD = {
  kind: 0,
  markKind: 1,
  textBytes: 2,
  reserved: 4,
  timeUs: 8,
  offsetBytes: 16,
  lengthBytes: 24,
} as const;
export const RECORD_BYTES = 32;
export const KIND = { write: 1, discard: 2, mark: 3, 'base-complete': 4 } as const;
export const MARK_KIND = { crash: 1, app: 2 } as const;

/** Offsets in a chunk's entry of the table. */
export const CHUNK = { storedBytes: 0, rawBytes: 4, sha256: 8 } as const;
export const CHUNK_BYTES = 40;

const TWO_32 = 0x1_0000_0000;
const MAX_SAFE_HIGH = 0x1f_ffff;

/** A u64 as a number, or -1 when it is beyond the safe integers. */
export function readU64(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32LE(at + 4);
  return high > MAX_SAFE_HIGH ? -1 : high * TWO_32 + bytes.readUInt32LE(at);
}

export function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % TWO_32, at);
  bytes.writeUInt32LE(Math.floor(value / TWO_32), at + 4);
}

/** An error that says where in the blob the defect is. */
export function defect(
  code: ErrorCode & `LOG_${string}`,
  message: string,
  where: { readonly offset: number; readonly field: string; readonly cause?: unknown },
): TidemarkError {
  const { cause, ...details } = where;
  return new TidemarkError(code, `${message} (${where.field} at byte ${where.offset})`, {
    ...(cause === undefined ? {} : { cause }),
    details,
  });
}
