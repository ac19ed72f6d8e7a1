import type { NbdExtent } from '../nbd/export.ts';

/** A disk that is read in place. All ranges are inside [0, sizeBytes), at any alignment. */
export interface DiskReader {
  readonly sizeBytes: number;
  /** Fills `target` with the bytes from `offsetBytes` on. */
  readInto(target: Buffer, offsetBytes: number, signal: AbortSignal): Promise<void>;
  /** Extents that follow each other without gaps, made one by one, from `offsetBytes` to the range's end. */
  ranges(offsetBytes: number, lengthBytes: number): Iterable<NbdExtent>;
}
