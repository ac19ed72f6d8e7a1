/**
 * Pure. What changed on a disk since a point, with the checksum of what the log says is there.
 *
 * Checksums come from the bytes that were sent, not from the bytes that storage gives back, so that a later verification compares the
 * two. An extent that a later window overwrote in part has lost its checksum ('unknown') and is read back when the point is made.
 */
import { crc32 } from 'node:zlib';
import { KIB } from '../model/sizes.ts';
import type { Span } from './coalesce.ts';
import type { SeedRequest } from './requests.ts';

/** CRC-32 of the extent's bytes; 'zero' when all are zero; 'unknown' when it has to be read back. */
export type Checksum = number | 'zero' | 'unknown';

export interface ChangedExtent extends Span {
  readonly checksum: Checksum;
}

/** Extents are cut at this grid, so that a partial overwrite loses the checksum of a small neighbourhood only. */
export const EXTENT_GRID_BYTES = 64 * KIB;
/** Extents kept per disk and point; beyond it neighbours are joined, holes included, and their checksums become unknown. */
export const MAX_EXTENTS = 262_144;

/** The changed extents that one request makes; `data` is what a put sends. */
export function extentsOfRequest(request: SeedRequest, data: Buffer | undefined): ChangedExtent[] {
  if (request.kind === 'clear' || data === undefined) {
    return [{ offsetBytes: request.offsetBytes, lengthBytes: request.lengthBytes, checksum: 'zero' }];
  }
  const extents: ChangedExtent[] = [];
  let at = 0;
  while (at < data.length) {
    const offsetBytes = request.offsetBytes + at;
    const lengthBytes = Math.min(EXTENT_GRID_BYTES - (offsetBytes % EXTENT_GRID_BYTES), data.length - at);
    extents.push({ offsetBytes, lengthBytes, checksum: crc32(data.subarray(at, at + lengthBytes)) });
    at += lengthBytes;
  }
  return extents;
}

/**
 * `newer` on top of `older`; both ascending and free of overlaps, and so is the result. Parts of older extents that stay keep their
 * checksum only when they stay whole.
 */
export function overlay(
  older: readonly ChangedExtent[],
  newer: readonly ChangedExtent[],
  maxExtents: number = MAX_EXTENTS,
): ChangedExtent[] {
  const result: ChangedExtent[] = [];
  let next = 0;
  for (const extent of older) {
    let start = extent.offsetBytes;
    const stop = end(extent);
    while (next < newer.length) {
      const over = newer[next];
      if (over === undefined || over.offsetBytes >= stop) break;
      if (over.offsetBytes > start) result.push(remainder(extent, start, over.offsetBytes));
      if (end(over) > start) start = end(over);
      if (end(over) >= stop) break;
      result.push(over);
      next++;
    }
    if (start < stop) result.push(remainder(extent, start, stop));
  }
  while (next < newer.length) {
    const over = newer[next++];
    if (over !== undefined) result.push(over);
  }
  return bound(
    result.sort((a, b) => a.offsetBytes - b.offsetBytes),
    maxExtents,
  );
}

export const totalBytes = (spans: readonly Span[]): number => spans.reduce((sum, span) => sum + span.lengthBytes, 0);

function remainder(extent: ChangedExtent, start: number, stop: number): ChangedExtent {
  if (start === extent.offsetBytes && stop === end(extent)) return extent;
  return {
    offsetBytes: start,
    lengthBytes: stop - start,
    checksum: extent.checksum === 'zero' ? 'zero' : 'unknown',
  };
}

function bound(extents: ChangedExtent[], maxExtents: number): ChangedExtent[] {
  let result = extents;
  while (result.length > maxExtents) {
    const joined: ChangedExtent[] = [];
    for (let i = 0; i < result.length; i += 2) {
      const first = result[i];
      const second = result[i + 1];
      if (first === undefined) break;
      const stop = second === undefined ? end(first) : end(second);
      joined.push(
        second === undefined
          ? first
          : { offsetBytes: first.offsetBytes, lengthBytes: stop - first.offsetBytes, checksum: 'unknown' },
      );
    }
    result = joined;
  }
  return result;
}

const end = (span: Span): number => span.offsetBytes + span.lengthBytes;
