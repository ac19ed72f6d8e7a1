/** An export reads ranges that lie close together at once, and still writes no byte of what lies between them. */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { KIB, MIB } from '../../src/model/sizes.ts';
import { planReads } from '../../src/points/export.ts';

const READ_BYTES = 16 * MIB;
const MAX_GAP_BYTES = 64 * KIB;
const SECTOR_BYTES = 512;
const sectors = (max: number) => fc.integer({ min: 1, max }).map((count) => count * SECTOR_BYTES);
const steps = fc.array(
  fc.record({
    gapBytes: fc.oneof(sectors(256), fc.constantFrom(MAX_GAP_BYTES, MAX_GAP_BYTES + SECTOR_BYTES, 40 * MIB)),
    lengthBytes: fc.oneof(sectors(64), fc.constantFrom(READ_BYTES, READ_BYTES + SECTOR_BYTES, 40 * MIB)),
  }),
  { maxLength: 40 },
);

it('covers exactly the ranges, with few reads of bounded size', () => {
  fc.assert(
    fc.property(steps, (made) => {
      let endBytes = 0;
      const ranges = made.map(({ gapBytes, lengthBytes }) => {
        const offsetBytes = endBytes + gapBytes;
        endBytes = offsetBytes + lengthBytes;
        return { offsetBytes, lengthBytes };
      });
      const reads = [...planReads(ranges)];
      for (const [index, read] of reads.entries()) {
        expect(read.lengthBytes).toBeLessThanOrEqual(READ_BYTES);
        expect(read.parts[0]?.offsetBytes).toBe(read.offsetBytes);
        let at = read.offsetBytes;
        for (const part of read.parts) {
          expect(part.lengthBytes).toBeGreaterThan(0);
          expect(part.offsetBytes - at).toBeLessThanOrEqual(MAX_GAP_BYTES);
          at = part.offsetBytes + part.lengthBytes;
        }
        expect(at).toBe(read.offsetBytes + read.lengthBytes);
        const next = reads[index + 1];
        const isFar = next === undefined || next.offsetBytes - at > MAX_GAP_BYTES;
        if (!isFar) expect(next.offsetBytes - read.offsetBytes).toBeGreaterThanOrEqual(READ_BYTES);
      }
      const parts = reads.flatMap((read) => read.parts);
      const joined: { offsetBytes: number; lengthBytes: number }[] = [];
      for (const part of parts) {
        const last = joined.at(-1);
        if (last?.offsetBytes !== undefined && last.offsetBytes + last.lengthBytes === part.offsetBytes) {
          last.lengthBytes += part.lengthBytes;
        } else joined.push({ ...part });
      }
      expect(joined).toEqual(ranges);
    }),
    { numRuns: 300 },
  );
});
