/** Pure. Bytes of the transmission phase: requests, simple replies, and the chunks of structured replies. */
import {
  ALLOCATION_CONTEXT_ID,
  CHUNK,
  CHUNK_DONE,
  CHUNK_MAGIC,
  COMMAND,
  COMMAND_FLAG,
  MAX_PAYLOAD_BYTES,
  NBD_ERROR,
  type NbdErrorName,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STATE_HOLE,
  STATE_ZERO,
} from './protocol.ts';
import type { NbdExtent } from './export.ts';

export const REQUEST_BYTES = 28;
const CHUNK_HEADER_BYTES = 20;
const UINT32_MAX = 2 ** 32 - 1;

export interface NbdRequest {
  readonly command: number;
  readonly flags: number;
  /** Chosen by the client; the reply carries it back. */
  readonly cookie: bigint;
  /** As the client says: any 64-bit number. */
  readonly offset: bigint;
  /** As the client says, up to 4 GiB. */
  readonly lengthBytes: number;
}

/** @returns undefined when the bytes are no request */
export function decodeRequest(bytes: Buffer): NbdRequest | undefined {
  if (bytes.readUInt32BE(0) !== REQUEST_MAGIC) return undefined;
  return {
    flags: bytes.readUInt16BE(4),
    command: bytes.readUInt16BE(6),
    cookie: bytes.readBigUInt64BE(8),
    offset: bytes.readBigUInt64BE(16),
    lengthBytes: bytes.readUInt32BE(24),
  };
}

/** What a connection has agreed on, and what its export is. */
export interface RequestRules {
  readonly sizeBytes: number;
  readonly writable: boolean;
  readonly structured: boolean;
  /** Whether the client selected `base:allocation`. */
  readonly allocation: boolean;
}

const ALLOWED_FLAGS: ReadonlyMap<number, number> = new Map([
  [COMMAND.read, COMMAND_FLAG.df],
  [COMMAND.write, COMMAND_FLAG.fua],
  [COMMAND.flush, 0],
  [COMMAND.trim, COMMAND_FLAG.fua],
  [COMMAND.cache, 0],
  [COMMAND.writeZeroes, COMMAND_FLAG.fua | COMMAND_FLAG.noHole],
  [COMMAND.blockStatus, COMMAND_FLAG.reqOne],
]);
const CHANGES: ReadonlySet<number> = new Set([COMMAND.write, COMMAND.trim, COMMAND.writeZeroes]);

/** @returns the error that answers a request which must not be carried out; undefined when it may */
export function refusal(request: NbdRequest, rules: RequestRules): NbdErrorName | undefined {
  const { command, flags, offset, lengthBytes } = request;
  const allowed = ALLOWED_FLAGS.get(command);
  if (allowed === undefined) return 'EINVAL';
  // FUA is allowed on everything once it is offered, and means nothing on what changes nothing.
  if ((flags & ~(allowed | (rules.writable ? COMMAND_FLAG.fua : 0))) !== 0) return 'EINVAL';
  if ((flags & COMMAND_FLAG.df) !== 0 && !rules.structured) return 'EINVAL';
  const changes = CHANGES.has(command);
  if (changes && !rules.writable) return 'EPERM';
  if (command === COMMAND.flush) {
    if (!rules.writable) return 'EINVAL';
    return offset === 0n && lengthBytes === 0 ? undefined : 'EINVAL';
  }
  if (command === COMMAND.blockStatus && !rules.allocation) return 'EINVAL';
  if (lengthBytes === 0) return 'EINVAL';
  if ((command === COMMAND.read || command === COMMAND.write) && lengthBytes > MAX_PAYLOAD_BYTES) return 'EINVAL';
  if (offset + BigInt(lengthBytes) > BigInt(rules.sizeBytes)) return changes ? 'ENOSPC' : 'EINVAL';
  return undefined;
}

/** Header of a reply without structure; the data of a read follows it. */
export function encodeSimpleReply(cookie: bigint, error: NbdErrorName | undefined): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
  bytes.writeUInt32BE(error === undefined ? 0 : NBD_ERROR[error], 4);
  bytes.writeBigUInt64BE(cookie, 8);
  return bytes;
}

interface ChunkFields {
  readonly cookie: bigint;
  readonly type: number;
  readonly done: boolean;
  /** Bytes of the payload's own fields. */
  readonly fieldBytes: number;
  /** Bytes that follow those, not part of the buffer. */
  readonly dataBytes?: number;
}

function chunk({ cookie, type, done, fieldBytes, dataBytes = 0 }: ChunkFields): Buffer {
  const bytes = Buffer.alloc(CHUNK_HEADER_BYTES + fieldBytes);
  bytes.writeUInt32BE(CHUNK_MAGIC, 0);
  bytes.writeUInt16BE(done ? CHUNK_DONE : 0, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeUInt32BE(fieldBytes + dataBytes, 16);
  return bytes;
}

/** `dataBytes` of data follow the returned header. */
export function encodeDataChunk(cookie: bigint, offsetBytes: number, dataBytes: number, done: boolean): Buffer {
  const bytes = chunk({ cookie, type: CHUNK.offsetData, done, fieldBytes: 8, dataBytes });
  bytes.writeBigUInt64BE(BigInt(offsetBytes), CHUNK_HEADER_BYTES);
  return bytes;
}

export function encodeHoleChunk(cookie: bigint, offsetBytes: number, holeBytes: number, done: boolean): Buffer {
  const bytes = chunk({ cookie, type: CHUNK.offsetHole, done, fieldBytes: 12 });
  bytes.writeBigUInt64BE(BigInt(offsetBytes), CHUNK_HEADER_BYTES);
  bytes.writeUInt32BE(holeBytes, CHUNK_HEADER_BYTES + 8);
  return bytes;
}

/** `extents` follow each other; a length beyond 32 bits cannot be, since no request has one. */
export function encodeStatusChunk(cookie: bigint, extents: readonly NbdExtent[]): Buffer {
  const bytes = chunk({ cookie, type: CHUNK.blockStatus, done: true, fieldBytes: 4 + 8 * extents.length });
  bytes.writeUInt32BE(ALLOCATION_CONTEXT_ID, CHUNK_HEADER_BYTES);
  for (const [index, { lengthBytes, kind }] of extents.entries()) {
    const at = CHUNK_HEADER_BYTES + 4 + 8 * index;
    bytes.writeUInt32BE(Math.min(lengthBytes, UINT32_MAX), at);
    bytes.writeUInt32BE(kind === 'hole' ? STATE_HOLE | STATE_ZERO : 0, at + 4);
  }
  return bytes;
}

export function encodeErrorChunk(cookie: bigint, error: NbdErrorName): Buffer {
  const bytes = chunk({ cookie, type: CHUNK.error, done: true, fieldBytes: 6 });
  bytes.writeUInt32BE(NBD_ERROR[error], CHUNK_HEADER_BYTES);
  return bytes; // no message: its length is 0
}

/** Neighbours of one kind as one, holes below `minHoleBytes` as data, at most `limit` extents. */
export function mergeExtents(extents: Iterable<NbdExtent>, minHoleBytes: number, limit: number): NbdExtent[] {
  const merged: { offsetBytes: number; lengthBytes: number; kind: NbdExtent['kind'] }[] = [];
  for (const { offsetBytes, lengthBytes, kind } of extents) {
    const as = kind === 'hole' && lengthBytes < minHoleBytes ? 'data' : kind;
    const last = merged.at(-1);
    if (last !== undefined && last.kind === as) last.lengthBytes += lengthBytes;
    else if (merged.length === limit) break;
    else merged.push({ offsetBytes, lengthBytes, kind: as });
  }
  return merged;
}
