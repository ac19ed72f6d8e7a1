/** Pure. Upper limits of a segment. Every reader checks them before it allocates, and the writer asserts them. */
import { HOUR_US } from '../model/time.ts';
import { KIB, MIB } from '../model/sizes.ts';

/** A whole segment. Two read ahead per disk on 16 machines of four disks are 2 GiB at worst; the usual segment is below 8 MiB. */
export const MAX_SEGMENT_BYTES = 16 * MIB;
/** Payload of one segment before compression: with the largest table and header it still fits {@link MAX_SEGMENT_BYTES}. */
export const MAX_SEGMENT_PAYLOAD_BYTES = 12 * MIB;
/** Largest header of any version; enough for a version 1 header twelve times over. */
export const MAX_HEADER_BYTES = 4 * KIB;
/** 65,536 records of 32 bytes (2 MiB), 512 chunks of 40 bytes, and close to 1 MiB of mark ids. */
export const MAX_TABLE_BYTES = 3 * MIB;
/** 2 MiB of table. The default 8 MiB of payload are at most 16,384 writes, so only discards and marks come near it. */
export const MAX_SEGMENT_RECORDS = 65_536;
/** 12 MiB in chunks of 64 KiB make at most 385; the default of 512 KiB makes at most 49. */
export const MAX_CHUNKS = 512;
/** What one chunk costs in memory once it is decoded. Also the longest write; the writer splits longer ones. */
export const MAX_CHUNK_BYTES = MIB;
/** Large enough for zstd to find what repeats, small enough to skip what later writes bury. */
export const DEFAULT_CHUNK_BYTES = 512 * KIB;
/** Node's zstd at this level keeps up with the fastest source that the service supports (50 MB/s per disk). */
export const DEFAULT_ZSTD_LEVEL = 1;
/** Window of a chunk's zstd frame, as a power of two: {@link MAX_CHUNK_BYTES}, so that a frame cannot ask for more memory. */
export const MAX_WINDOW_LOG = 20;
/** UTF-8 bytes of a mark's id. */
export const MAX_MARK_ID_BYTES = 512;
/** Microseconds since 1970 stay safe integers until June 2255. */
export const MAX_TIME_US = Number.MAX_SAFE_INTEGER;
/** A segment covers at most 35 days of source time: more than any retention, so more is a source clock that leapt. */
export const MAX_SEGMENT_TIME_US = 35 * 24 * HOUR_US;
