import type { LogStream } from '../model/names.ts';

export interface SegmentRef {
  readonly sequence: number;
  readonly sizeBytes: number;
}

/**
 * The reader's side of the cache account. A segment is immutable once it is visible, and the writer makes segments visible in
 * sequence order; listing may lag behind.
 */
export interface LogStore {
  /** Segments with `sequence >= fromSequence`, ascending, at most `limit`. Blobs with foreign names are left out. */
  list(stream: LogStream, fromSequence: number, limit: number, signal: AbortSignal): Promise<readonly SegmentRef[]>;
  /**
   * The whole segment, or undefined when there is none.
   * @throws TidemarkError LOG_TOO_LARGE before a byte is read when the blob is larger than `maxBytes`.
   */
  read(stream: LogStream, sequence: number, maxBytes: number, signal: AbortSignal): Promise<Buffer | undefined>;
  /** The first `lengthBytes` of the segment (fewer when it is shorter), or undefined when there is none. */
  readHead(stream: LogStream, sequence: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer | undefined>;
  /** Removes a segment; done already counts as done. */
  delete(stream: LogStream, sequence: number, signal: AbortSignal): Promise<void>;
  /** The streams of a group that anything is left of, in the order of their names, complete. Foreign names are left out. */
  listStreams(group: string, signal: AbortSignal): Promise<readonly LogStream[]>;
  /**
   * Removes at most `limit` blobs of a stream, those with foreign names too; done already counts as done.
   * @returns how many were found; fewer than `limit` when nothing is left
   */
  deleteStream(stream: LogStream, limit: number, signal: AbortSignal): Promise<number>;
}

/** The process server's side of the cache account. */
export interface LogUpload {
  /** The highest visible sequence of the stream, 0 when there is none. */
  lastSequence(stream: LogStream, signal: AbortSignal): Promise<number>;
  /** Sends a segment's bytes without making it visible. Any number may be staged at once. */
  stage(stream: LogStream, sequence: number, bytes: Buffer, signal: AbortSignal): Promise<StagedSegment>;
}

export interface StagedSegment {
  /**
   * Makes the segment visible, at once and whole, unless one of that name is visible already.
   * The caller commits in sequence order, one at a time.
   */
  commit(signal: AbortSignal): Promise<'committed' | 'exists'>;
}
