/**
 * Pure. Numbers of the NBD protocol, and the limits of this server. Source of the numbers: "The NBD protocol" (doc/proto.md of the
 * NetworkBlockDevice project), sections "Handshake phase", "Transmission phase" and "Values". All integers are big-endian.
 */
import { KIB, MIB } from '../model/sizes.ts';

/** `NBDMAGIC` and `IHAVEOPT`: what the server says first. */
export const INIT_MAGIC = 0x4e42444d41474943n;
export const OPTION_MAGIC = 0x49484156454f5054n;
export const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const CHUNK_MAGIC = 0x668e33ef;

/** Handshake flags; the client's have the same values. */
export const FIXED_NEWSTYLE = 1;
export const NO_ZEROES = 2;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

const OPTION_ERROR = 2 ** 31;
export const OPTION_REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  unsupported: OPTION_ERROR + 1,
  policy: OPTION_ERROR + 2,
  invalid: OPTION_ERROR + 3,
  unknown: OPTION_ERROR + 6,
  tooBig: OPTION_ERROR + 9,
} as const;
export type OptionReplyType = (typeof OPTION_REPLY)[keyof typeof OPTION_REPLY];

export const INFO = { export: 0, blockSize: 3 } as const;

/** Transmission flags: what an export can do. */
export const EXPORT_FLAG = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendFua: 8,
  sendTrim: 32,
  sendWriteZeroes: 64,
  sendDf: 128,
  canMultiConn: 256,
  sendCache: 1024,
} as const;

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const COMMAND_FLAG = { fua: 1, noHole: 2, df: 4, reqOne: 8 } as const;

export const CHUNK_DONE = 1;
export const CHUNK = { offsetData: 1, offsetHole: 2, blockStatus: 5, error: 2 ** 15 + 1 } as const;

/** States of `base:allocation`. */
export const STATE_HOLE = 1;
export const STATE_ZERO = 2;

export const NBD_ERROR = { EPERM: 1, EIO: 5, EINVAL: 22, ENOSPC: 28, ESHUTDOWN: 108 } as const;
export type NbdErrorName = keyof typeof NBD_ERROR;

/** The one metadata context, and the number that stands for it. */
export const ALLOCATION_CONTEXT = 'base:allocation';
export const ALLOCATION_CONTEXT_ID = 1;

/** Longest string of the protocol. */
export const MAX_STRING_BYTES = 4096;
/** Our choice: a name and a handful of queries. */
export const MAX_OPTION_BYTES = 32 * KIB;
/** Our choice: clients send about five. */
export const MAX_OPTIONS = 64;
/** Any offset and length is allowed: a write of a part of a cluster is completed by the overlay. */
export const MIN_BLOCK_BYTES = 1;
/** What file systems read and write at least, and the cluster of the overlay. */
export const PREFERRED_BLOCK_BYTES = 4 * KIB;
/** What clients assume when a server says nothing (doc/proto.md, "Block size constraints"). */
export const MAX_PAYLOAD_BYTES = 32 * MIB;
/** Our choice: extents in one answer to a question for block status; the client asks again from where they end. */
export const MAX_STATUS_EXTENTS = 4096;
/** Holes smaller than that are sent as zeroes: the header of a chunk and its handling cost more. */
export const MIN_HOLE_CHUNK_BYTES = 4 * KIB;
