/** Pure. What a segment says about itself; the bytes are in docs/replication-log.md. */
import type { LogStream } from '../model/names.ts';
import type { LogRecord } from './record.ts';

export interface SegmentHeader {
  readonly stream: LogStream;
  readonly diskSizeBytes: number;
  /** 1, 2, 3 … without gaps within a stream. */
  readonly sequence: number;
  /** Source time at which the stream began: the time of its base copy. The same in every segment of a stream. */
  readonly streamStartUs: number;
  /** Records in all earlier segments of the stream; lets a killed source go on exactly where the cache ends. */
  readonly recordsBefore: number;
  /** Where this segment's time begins: the previous segment's `endTimeUs` (for sequence 1, not before `streamStartUs`). */
  readonly firstTimeUs: number;
  /**
   * The watermark, exclusive: every record with a time below it is in this segment or an earlier one, later ones have it or more.
   * This segment's own records have it at most: a segment may close between two records of one time.
   */
  readonly endTimeUs: number;
  /** SHA-256 digest of the previous segment (see docs); 32 zero bytes for sequence 1. */
  readonly previousDigest: Buffer;
}

export interface ChunkInfo {
  /** Bytes on the wire, after compression and sealing. */
  readonly storedBytes: number;
  /** Bytes of payload: the lengths of this chunk's writes, added up. */
  readonly rawBytes: number;
  /** Where the stored bytes begin in the segment. */
  readonly offsetBytes: number;
  /** SHA-256 of the stored bytes. */
  readonly sha256: Buffer;
}

/** A verified header and record table. Payload is decoded chunk by chunk, and only when it is wanted. */
export interface DecodedSegment {
  readonly header: SegmentHeader;
  /** This segment's own digest, that the next segment's `previousDigest` repeats. */
  readonly digest: Buffer;
  readonly records: readonly LogRecord[];
  readonly chunks: readonly ChunkInfo[];
  /** Per record: the chunk that holds its payload and where in it; -1 in `chunkOfRecord` for records without payload. */
  readonly chunkOfRecord: Int32Array;
  readonly offsetInChunk: Int32Array;
  /** Salt of the segment's keys; undefined when the segment is not sealed. */
  readonly salt: Buffer | undefined;
  /** Sum of `rawBytes`. */
  readonly payloadBytes: number;
  readonly totalBytes: number;
}
