/** What the NBD server serves: a disk by bytes. Owned by the server; each kind of disk brings its own. */

/** Content of a range, as far as the export knows it without reading. */
export interface NbdExtent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** `hole` reads as zeroes; `data` may read as anything. */
  readonly kind: 'data' | 'hole';
}

/**
 * A disk of fixed size. All ranges are inside [0, sizeBytes), at any alignment, never empty. Calls may overlap in time; of calls that
 * overlap in time and place, each byte is that of one of them. All calls end soon after `signal` aborts.
 *
 * Without `write` the disk is read-only. What a call has changed is seen by every call that begins after it, on every connection.
 */
export interface NbdExport {
  readonly sizeBytes: number;
  /** Exactly `lengthBytes` bytes, which belong to the caller. */
  read(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer>;
  /**
   * The content of a range: extents that follow each other without gaps, from `offsetBytes` on, to the range's end. Made one by one, so
   * that the caller stops where its own limit is.
   */
  ranges(offsetBytes: number, lengthBytes: number): Iterable<NbdExtent>;
  readonly write?: NbdWrites;
}

export interface NbdWrites {
  /** `data` does not change until the call ends. */
  write(offsetBytes: number, data: Buffer, signal: AbortSignal): Promise<void>;
  /** The range reads as zeroes afterwards; with `allocate`, later writes to it need no more space. */
  zero(offsetBytes: number, lengthBytes: number, allocate: boolean, signal: AbortSignal): Promise<void>;
  /** The content of the range is no longer needed. It may stay as it is, in whole or in part, or read as zeroes. */
  trim(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<void>;
  /** What calls have changed that ended before this one began is as durable afterwards as the export makes it. */
  flush(signal: AbortSignal): Promise<void>;
}
