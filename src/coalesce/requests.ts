/** Pure. From the bytes of a window to the fewest page-blob requests that put them on the seed disk. */
import { assert } from '../errors.ts';
import { KIB, MIB, SECTOR_BYTES } from '../model/sizes.ts';
import type { Span } from './coalesce.ts';

/** Largest Put Page (Azure: 4 MiB). */
export const MAX_PUT_BYTES = 4 * MIB;
/** Largest Clear Pages that we send. Azure names no limit; a bounded one keeps each call short. */
export const MAX_CLEAR_BYTES = 1024 * MIB;
/**
 * Zero runs shorter than this travel as zeroes inside a Put Page when data touches them: a Clear Pages would split one request into
 * three, and on standard page blobs requests (500/s), not bytes, are what is scarce.
 */
export const MIN_CLEAR_BYTES = 64 * KIB;
/** Granularity at which payload is looked at for zeroes: the page of the file systems and databases that write it. */
const ZERO_BLOCK_BYTES = 4 * KIB;

/** Bytes for a range of the disk; without `data` they are zeroes. */
export interface Piece extends Span {
  readonly data?: Buffer;
}

export interface PutRequest extends Span {
  readonly kind: 'put';
  readonly pieces: readonly Piece[];
}

export interface ClearRequest extends Span {
  readonly kind: 'clear';
}

/** Requests of one plan do not overlap, so they may run in any order and at the same time. */
export type SeedRequest = PutRequest | ClearRequest;

/**
 * `pieces` are ascending, do not overlap, and are 512-aligned. The requests cover exactly the pieces, ascending; each is 512-aligned,
 * puts are at most {@link MAX_PUT_BYTES}.
 */
export function planRequests(pieces: readonly Piece[]): SeedRequest[] {
  const requests: SeedRequest[] = [];
  let region: Piece[] = [];
  for (const piece of splitZeroes(pieces)) {
    const last = region.at(-1);
    if (last !== undefined && end(last) !== piece.offsetBytes) {
      planRegion(region, requests);
      region = [];
    }
    region.push(piece);
  }
  planRegion(region, requests);
  return requests;
}

/** The bytes of a put, in one buffer; without a copy when it is one piece of data. */
export function putData(request: PutRequest): Buffer {
  const [first] = request.pieces;
  if (request.pieces.length === 1 && first?.data !== undefined) return first.data;
  const data = Buffer.allocUnsafe(request.lengthBytes);
  for (const piece of request.pieces) {
    const at = piece.offsetBytes - request.offsetBytes;
    if (piece.data === undefined) data.fill(0, at, at + piece.lengthBytes);
    else piece.data.copy(data, at);
  }
  return data;
}

/** Cuts each piece of data at the borders of its zero runs, and joins neighbouring zeroes. */
function* splitZeroes(pieces: readonly Piece[]): Generator<Piece> {
  let zeroes: Piece | undefined;
  for (const piece of pieces) {
    assert(piece.offsetBytes % SECTOR_BYTES === 0 && piece.lengthBytes % SECTOR_BYTES === 0, 'piece is not aligned');
    for (const part of piece.data === undefined ? [piece] : zeroRuns(piece, piece.data)) {
      if (part.data === undefined) {
        if (zeroes !== undefined && end(zeroes) === part.offsetBytes) {
          zeroes = { offsetBytes: zeroes.offsetBytes, lengthBytes: zeroes.lengthBytes + part.lengthBytes };
          continue;
        }
        if (zeroes !== undefined) yield zeroes;
        zeroes = part;
      } else {
        if (zeroes !== undefined) yield zeroes;
        zeroes = undefined;
        yield part;
      }
    }
  }
  if (zeroes !== undefined) yield zeroes;
}

function zeroRuns(piece: Piece, data: Buffer): Piece[] {
  const parts: Piece[] = [];
  let runStart = 0;
  let runIsZero = false;
  for (let start = 0; start < data.length; start += ZERO_BLOCK_BYTES) {
    const zero = isZero(data, start, Math.min(start + ZERO_BLOCK_BYTES, data.length));
    if (zero === runIsZero) continue;
    if (start > runStart) parts.push(part(piece, data, runStart, start, runIsZero));
    runStart = start;
    runIsZero = zero;
  }
  parts.push(part(piece, data, runStart, data.length, runIsZero));
  return parts;
}

function part(piece: Piece, data: Buffer, start: number, stop: number, zero: boolean): Piece {
  const span = { offsetBytes: piece.offsetBytes + start, lengthBytes: stop - start };
  return zero ? span : { ...span, data: data.subarray(start, stop) };
}

const ZEROES = Buffer.alloc(ZERO_BLOCK_BYTES);

function isZero(data: Buffer, start: number, stop: number): boolean {
  return data[start] === 0 && data.compare(ZEROES, 0, stop - start, start, stop) === 0;
}

/** A region is a run of pieces without holes. */
function planRegion(region: readonly Piece[], requests: SeedRequest[]): void {
  let put: Piece[] = [];
  const flush = (): void => {
    for (const pieces of packPuts(put)) requests.push(pieces);
    put = [];
  };
  const allZero = region.every((piece) => piece.data === undefined);
  for (const piece of region) {
    if (piece.data === undefined && (allZero || piece.lengthBytes >= MIN_CLEAR_BYTES)) {
      flush();
      for (const span of slices(piece, MAX_CLEAR_BYTES)) requests.push({ kind: 'clear', ...span });
    } else {
      put.push(piece);
    }
  }
  flush();
}

function* packPuts(pieces: readonly Piece[]): Generator<PutRequest> {
  let taken: Piece[] = [];
  let length = 0;
  for (const piece of pieces) {
    let rest = piece;
    while (rest.lengthBytes > 0) {
      const head = Math.min(rest.lengthBytes, MAX_PUT_BYTES - length);
      taken.push(slice(rest, 0, head));
      length += head;
      rest = slice(rest, head, rest.lengthBytes);
      if (length === MAX_PUT_BYTES) {
        yield putOf(taken, length);
        taken = [];
        length = 0;
      }
    }
  }
  if (length > 0) yield putOf(taken, length);
}

function putOf(pieces: readonly Piece[], lengthBytes: number): PutRequest {
  return { kind: 'put', offsetBytes: pieces[0]?.offsetBytes ?? 0, lengthBytes, pieces };
}

function slice(piece: Piece, start: number, stop: number): Piece {
  if (start === 0 && stop === piece.lengthBytes) return piece;
  const span = { offsetBytes: piece.offsetBytes + start, lengthBytes: stop - start };
  return piece.data === undefined ? span : { ...span, data: piece.data.subarray(start, stop) };
}

function* slices(span: Span, maxBytes: number): Generator<Span> {
  for (let at = 0; at < span.lengthBytes; at += maxBytes) {
    yield { offsetBytes: span.offsetBytes + at, lengthBytes: Math.min(maxBytes, span.lengthBytes - at) };
  }
}

const end = (span: Span): number => span.offsetBytes + span.lengthBytes;
