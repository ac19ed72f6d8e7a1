import * as fc from 'fast-check';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { extentsOfRequest, overlay, totalBytes, type ChangedExtent } from '../../src/coalesce/change-list.ts';

const SECTORS = 256;

const putArb = fc
  .record({ sector: fc.nat(SECTORS - 1), sectors: fc.integer({ min: 1, max: 40 }), fill: fc.nat(255) })
  .map(({ sector, sectors, fill }) => ({
    offsetBytes: sector * 512,
    lengthBytes: Math.min(sectors, SECTORS - sector) * 512,
    fill,
  }));

/** Windows of puts that do not overlap within a window. */
const windowsArb = fc.array(
  fc.array(putArb, { maxLength: 6 }).map((puts) => {
    const taken: typeof puts = [];
    for (const put of puts.toSorted((a, b) => a.offsetBytes - b.offsetBytes)) {
      const last = taken.at(-1);
      if (last === undefined || last.offsetBytes + last.lengthBytes <= put.offsetBytes) taken.push(put);
    }
    return taken;
  }),
  { maxLength: 8 },
);

describe('the change list', () => {
  it('covers exactly what windows wrote, and each known checksum is that of the disk', () => {
    fc.assert(
      fc.property(windowsArb, (windows) => {
        const disk = Buffer.alloc(SECTORS * 512);
        const touched = new Set<number>();
        let changes: ChangedExtent[] = [];
        for (const window of windows) {
          const extents: ChangedExtent[] = [];
          for (const { offsetBytes, lengthBytes, fill } of window) {
            const data = Buffer.alloc(lengthBytes, fill);
            data.copy(disk, offsetBytes);
            for (let s = offsetBytes / 512; s < (offsetBytes + lengthBytes) / 512; s++) touched.add(s);
            extents.push(...extentsOfRequest({ kind: 'put', offsetBytes, lengthBytes, pieces: [] }, data));
          }
          changes = overlay(changes, extents);
        }
        expect(totalBytes(changes)).toBe(touched.size * 512);
        for (const [index, { offsetBytes, lengthBytes, checksum }] of changes.entries()) {
          const next = changes[index + 1];
          if (next !== undefined) expect(offsetBytes + lengthBytes).toBeLessThanOrEqual(next.offsetBytes);
          if (typeof checksum === 'number') {
            expect(checksum).toBe(crc32(disk.subarray(offsetBytes, offsetBytes + lengthBytes)));
          }
        }
      }),
    );
  });

  it('keeps a checksum only while its extent stays whole', () => {
    const older = extentsOfRequest(
      { kind: 'put', offsetBytes: 0, lengthBytes: 8192, pieces: [] },
      Buffer.alloc(8192, 1),
    );
    const newer = extentsOfRequest({ kind: 'clear', offsetBytes: 512, lengthBytes: 512 }, undefined);
    expect(overlay(older, newer).map(({ checksum }) => checksum)).toEqual(['unknown', 'zero', 'unknown']);
  });

  it('is bounded: beyond the limit neighbours are joined and nothing changed is lost', () => {
    const scattered = Array.from({ length: 1000 }, (_, i): ChangedExtent => ({
      offsetBytes: i * 8192,
      lengthBytes: 512,
      checksum: i,
    }));
    const bounded = overlay([], scattered, 100);
    expect(bounded.length).toBeLessThanOrEqual(100);
    for (const { offsetBytes } of scattered) {
      expect(
        bounded.some((e) => e.offsetBytes <= offsetBytes && offsetBytes + 512 <= e.offsetBytes + e.lengthBytes),
      ).toBe(true);
    }
    expect(bounded.every(({ checksum }) => checksum === 'unknown')).toBe(true);
  });
});
