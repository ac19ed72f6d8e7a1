/** How much of a log waits in the cache, and through which time it is there: from listings and one header, without payload. */
import { TidemarkError } from '../errors.ts';
import { peekHeader } from '../log/decode.ts';
import { segmentName, type LogStream } from '../model/names.ts';
import type { LogStore } from './log-store.ts';

export interface Backlog {
  readonly segments: number;
  readonly bytes: number;
  /** End time of the newest segment in the cache; null when nothing waits, or when that segment's header cannot be believed. */
  readonly watermarkUs: number | null;
}

/** Segments counted at the most; beyond, the figures are lower bounds. */
const MAX_COUNTED = 20_000;
const PAGE = 1000;
/** Holds the header of any segment: the fixed part and three names. */
const HEADER_BYTES = 1024;

/** @param fromSequence the first segment that is not applied */
export async function measureBacklog(
  store: LogStore,
  stream: LogStream,
  fromSequence: number,
  signal: AbortSignal,
): Promise<Backlog> {
  let segments = 0;
  let bytes = 0;
  let next = fromSequence;
  while (segments < MAX_COUNTED) {
    const refs = await store.list(stream, next, PAGE, signal);
    const newest = refs.at(-1);
    if (newest === undefined) break;
    segments += refs.length;
    bytes += refs.reduce((sum, ref) => sum + ref.sizeBytes, 0);
    next = newest.sequence + 1;
  }
  if (segments === 0) return { segments, bytes, watermarkUs: null };
  const head = await store.readHead(stream, next - 1, HEADER_BYTES, signal);
  return { segments, bytes, watermarkUs: head === undefined ? null : watermarkOf(head, segmentName(stream, next - 1)) };
}

/** A bad segment is the drain's to report, once it gets there; until then the group goes on, and its figures with it. */
function watermarkOf(head: Buffer, name: string): number | null {
  try {
    const { stream, sequence, endTimeUs } = peekHeader(head);
    return segmentName(stream, sequence) === name ? endTimeUs : null;
  } catch (error) {
    if (error instanceof TidemarkError && error.class === 'resync') return null;
    throw error;
  }
}
