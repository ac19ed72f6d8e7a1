import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coalesce } from '../../src/coalesce/coalesce.ts';
import {
  MAX_CLEAR_BYTES,
  MAX_PUT_BYTES,
  MIN_CLEAR_BYTES,
  planRequests,
  putData,
  type Piece,
  type SeedRequest,
} from '../../src/coalesce/requests.ts';

const DISK_BYTES = 1024 * 1024;

interface Change {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly fill: number;
}

const changeArb = fc
  .record({
    sector: fc.nat(DISK_BYTES / 512 - 1),
    sectors: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 100, max: 400 })),
    fill: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 255 })),
  })
  .map(({ sector, sectors, fill }): Change => ({
    offsetBytes: sector * 512,
    lengthBytes: Math.min(sectors * 512, DISK_BYTES - sector * 512),
    fill,
  }));

/** A change of zeroes is a discard half of the time (even offsets) and payload of zeroes otherwise. */
const isDiscard = (change: Change): boolean => change.fill === 0 && change.offsetBytes % 1024 === 0;

function piecesOf(changes: readonly Change[]): Piece[] {
  return coalesce(changes).map(({ offsetBytes, lengthBytes, writer }) => {
    const change = changes[writer];
    if (change === undefined || isDiscard(change)) return { offsetBytes, lengthBytes };
    return { offsetBytes, lengthBytes, data: Buffer.alloc(lengthBytes, change.fill) };
  });
}

function applyRequests(disk: Buffer, requests: readonly SeedRequest[]): void {
  for (const request of requests) {
    if (request.kind === 'put') putData(request).copy(disk, request.offsetBytes);
    else disk.fill(0, request.offsetBytes, request.offsetBytes + request.lengthBytes);
  }
}

describe('planRequests', () => {
  it('makes the same disk as applying the changes in order, in any order of the requests', () => {
    fc.assert(
      fc.property(fc.array(changeArb, { maxLength: 40 }), fc.boolean(), (changes, reversed) => {
        const expected = Buffer.alloc(DISK_BYTES, 0xee);
        for (const { offsetBytes, lengthBytes, fill } of changes)
          expected.fill(fill, offsetBytes, offsetBytes + lengthBytes);
        const requests = planRequests(piecesOf(changes));
        const disk = Buffer.alloc(DISK_BYTES, 0xee);
        applyRequests(disk, reversed ? requests.toReversed() : requests);
        expect(disk.equals(expected)).toBe(true);
        for (const request of requests) {
          expect(request.offsetBytes % 512).toBe(0);
          expect(request.lengthBytes % 512).toBe(0);
          if (request.kind === 'put') expect(request.lengthBytes).toBeLessThanOrEqual(MAX_PUT_BYTES);
        }
      }),
    );
  });

  it('merges neighbours into one request, up to 4 MiB', () => {
    const pieces = Array.from({ length: 3 * 1024 }, (_, i) => ({
      offsetBytes: i * 4096,
      lengthBytes: 4096,
      data: Buffer.alloc(4096, 1 + (i % 200)),
    }));
    const requests = planRequests(pieces);
    expect(requests.map(({ kind, lengthBytes }) => [kind, lengthBytes])).toEqual([
      ['put', MAX_PUT_BYTES],
      ['put', MAX_PUT_BYTES],
      ['put', MAX_PUT_BYTES],
    ]);
  });

  it('clears long zero runs, and carries short ones along when data touches them', () => {
    const data = (length: number): Buffer => Buffer.alloc(length, 7);
    const withRun = (zeroBytes: number): Piece[] => [
      {
        offsetBytes: 0,
        lengthBytes: 8192 + zeroBytes,
        data: Buffer.concat([data(4096), Buffer.alloc(zeroBytes), data(4096)]),
      },
    ];
    expect(planRequests(withRun(MIN_CLEAR_BYTES - 4096)).map(({ kind }) => kind)).toEqual(['put']);
    expect(planRequests(withRun(MIN_CLEAR_BYTES)).map(({ kind }) => kind)).toEqual(['put', 'clear', 'put']);
    expect(planRequests([{ offsetBytes: 512, lengthBytes: 512 }])).toEqual([
      { kind: 'clear', offsetBytes: 512, lengthBytes: 512 },
    ]);
  });

  it('bounds the length of a clear', () => {
    const requests = planRequests([{ offsetBytes: 0, lengthBytes: 2 * MAX_CLEAR_BYTES + 512 }]);
    expect(requests.map(({ lengthBytes }) => lengthBytes)).toEqual([MAX_CLEAR_BYTES, MAX_CLEAR_BYTES, 512]);
  });
});
