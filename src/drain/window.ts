/** From a run of records to the requests that put them on the seed: decode what is still alive, verify all of it first. */
import { coalesce, type Span } from '../coalesce/coalesce.ts';
import { planRequests, type Piece, type SeedRequest } from '../coalesce/requests.ts';
import { assert } from '../errors.ts';
import { decodeChunkAsync, verifyChunk } from '../log/decode.ts';
import type { LogKey } from '../log/seal.ts';
import { atBlob, type LoadedSegment } from './log-reader.ts';

/** Records `from` to `to` (exclusive) of one segment. */
export interface WindowPart {
  readonly loaded: LoadedSegment;
  readonly from: number;
  readonly to: number;
}

export interface PreparedWindow {
  readonly requests: readonly SeedRequest[];
  /** Segments, whole or in part. */
  readonly parts: number;
  /** Payload of the window's writes. */
  readonly payloadBytes: number;
  /** Bytes that the requests put or clear. */
  readonly liveBytes: number;
  /** Writes and discards: what a drain without coalescing would send one request each for. */
  readonly changes: number;
}

/** A defect in the payload of `part`; the parts before it are sound. */
export interface WindowDefect {
  readonly part: number;
  readonly error: unknown;
}

interface Owner {
  readonly part: number;
  readonly record: number;
}

/**
 * Decodes and coalesces a window. A segment whose records are not all in the window is decoded as a whole, so that no byte of a
 * segment is applied before all of it is known to be sound; of whole ones, chunks that later writes bury are verified but not decoded.
 */
export async function prepareWindow(
  parts: readonly WindowPart[],
  key: LogKey | undefined,
): Promise<PreparedWindow | WindowDefect> {
  const spans: Span[] = [];
  const owners: Owner[] = [];
  for (const [part, { loaded, from, to }] of parts.entries()) {
    for (let record = from; record < to; record++) {
      const entry = loaded.segment.records[record];
      if (entry?.kind !== 'write' && entry?.kind !== 'discard') continue;
      spans.push(entry);
      owners.push({ part, record });
    }
  }
  const extents = coalesce(spans);
  const alive = parts.map(() => new Set<number>());
  for (const { writer } of extents) {
    const owner = owners[writer];
    const chunk = owner === undefined ? -1 : chunkOf(parts, owner);
    if (owner !== undefined && chunk >= 0) alive[owner.part]?.add(chunk);
  }
  const decoded = await decodeAlive(parts, alive, key);
  if ('error' in decoded) return decoded;
  const pieces = extents.map(({ offsetBytes, lengthBytes, writer }): Piece => {
    const owner = owners[writer];
    const span = spans[writer];
    assert(owner !== undefined && span !== undefined, 'an extent has a writer');
    const chunk = chunkOf(parts, owner);
    if (chunk < 0) return { offsetBytes, lengthBytes };
    const payload = decoded.chunks[owner.part]?.get(chunk);
    const inChunk = parts[owner.part]?.loaded.segment.offsetInChunk[owner.record];
    assert(payload !== undefined && inChunk !== undefined, 'a live chunk was decoded');
    const start = inChunk + offsetBytes - span.offsetBytes;
    return { offsetBytes, lengthBytes, data: payload.subarray(start, start + lengthBytes) };
  });
  return {
    requests: planRequests(pieces),
    parts: parts.length,
    payloadBytes: owners.reduce(
      (sum, owner, i) => sum + (chunkOf(parts, owner) < 0 ? 0 : (spans[i]?.lengthBytes ?? 0)),
      0,
    ),
    liveBytes: extents.reduce((sum, extent) => sum + extent.lengthBytes, 0),
    changes: spans.length,
  };
}

/** Chunk of the owner's payload, -1 for a discard. */
const chunkOf = (parts: readonly WindowPart[], owner: Owner): number =>
  parts[owner.part]?.loaded.segment.chunkOfRecord[owner.record] ?? -1;

async function decodeAlive(
  parts: readonly WindowPart[],
  alive: readonly Set<number>[],
  key: LogKey | undefined,
): Promise<{ readonly chunks: readonly Map<number, Buffer>[] } | WindowDefect> {
  const chunks = parts.map(() => new Map<number, Buffer>());
  for (const [index, { loaded, from, to }] of parts.entries()) {
    const { bytes, segment } = loaded;
    const whole = from === 0 && to === segment.records.length;
    try {
      // All chunks of a segment at once: at most a segment's payload, and the thread pool has work for every core.
      await Promise.all(
        segment.chunks.map(async (_, chunk) => {
          if (alive[index]?.has(chunk)) chunks[index]?.set(chunk, await decodeChunkAsync(bytes, segment, chunk, key));
          else if (whole) verifyChunk(bytes, segment, chunk);
          else await decodeChunkAsync(bytes, segment, chunk, key);
        }),
      );
    } catch (error) {
      return { part: index, error: atBlob(error, segment.header.stream, segment.header.sequence) };
    }
  }
  return { chunks };
}
