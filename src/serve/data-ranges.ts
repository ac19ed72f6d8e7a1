/** Pure. Where a snapshot holds data, compactly: 16 bytes per range. */
import { SECTOR_BYTES } from '../model/sizes.ts';
import type { NbdExtent } from '../nbd/export.ts';
import type { ByteRange } from '../seed/seed-store.ts';

/** Our choice: 16 MiB of memory. A disk in more pieces than that is remembered with its smallest gaps as data. */
export const MAX_INDEXED_RANGES = 1024 * 1024;

export interface DataRanges {
  /** How many ranges are remembered. */
  readonly count: number;
  /** Data and holes by turns, without gaps, from `offsetBytes` to the end of the range. */
  extents(offsetBytes: number, lengthBytes: number): Generator<NbdExtent>;
}

/** `ranges` are ascending and free of overlaps. What is remembered as a hole is one; a small hole may be remembered as data. */
export function indexRanges(ranges: readonly ByteRange[], maxRanges: number = MAX_INDEXED_RANGES): DataRanges {
  const gapBytes = smallestGap(ranges, maxRanges);
  const count = countRanges(ranges, gapBytes);
  const starts = new Float64Array(count);
  const ends = new Float64Array(count);
  let last = -1;
  for (const { offsetBytes, lengthBytes } of ranges) {
    if (last < 0 || offsetBytes - (ends[last] ?? 0) >= gapBytes) starts[++last] = offsetBytes;
    ends[last] = offsetBytes + lengthBytes;
  }
  return {
    count,
    *extents(offsetBytes, lengthBytes) {
      const endBytes = offsetBytes + lengthBytes;
      let at = offsetBytes;
      for (let index = firstEndingAfter(ends, offsetBytes); at < endBytes; index++) {
        const start = Math.min(starts[index] ?? endBytes, endBytes);
        if (start > at) yield { offsetBytes: at, lengthBytes: start - at, kind: 'hole' };
        at = Math.max(at, start);
        const end = Math.min(ends[index] ?? endBytes, endBytes);
        if (end > at && start < endBytes) yield { offsetBytes: at, lengthBytes: end - at, kind: 'data' };
        at = Math.max(at, end);
      }
    },
  };
}

/** The smallest power of two of bytes such that no more than `maxRanges` ranges remain when narrower gaps are closed. */
function smallestGap(ranges: readonly ByteRange[], maxRanges: number): number {
  let gapBytes = SECTOR_BYTES;
  while (countRanges(ranges, gapBytes) > Math.max(1, maxRanges)) gapBytes *= 2;
  return gapBytes;
}

function countRanges(ranges: readonly ByteRange[], gapBytes: number): number {
  let count = 0;
  let end = -Infinity;
  for (const { offsetBytes, lengthBytes } of ranges) {
    if (offsetBytes - end >= gapBytes) count++;
    end = offsetBytes + lengthBytes;
  }
  return count;
}

/** Index of the first range that ends after `offsetBytes`; the number of ranges when none does. */
function firstEndingAfter(ends: Float64Array, offsetBytes: number): number {
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ends[middle] ?? 0) > offsetBytes) high = middle;
    else low = middle + 1;
  }
  return low;
}
