import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coalesce, type Span } from '../../src/coalesce/coalesce.ts';

const SECTORS = 64;
const spanArb = fc
  .record({ start: fc.nat(SECTORS - 1), length: fc.integer({ min: 1, max: 16 }) })
  .map(({ start, length }): Span => ({
    offsetBytes: start * 512,
    lengthBytes: Math.min(length, SECTORS - start) * 512,
  }));

/** Who wrote each sector last, by plain replay; -1 where nobody did. */
function lastWriters(spans: readonly Span[]): number[] {
  const writers = Array.from({ length: SECTORS }, () => -1);
  for (const [writer, span] of spans.entries()) {
    writers.fill(writer, span.offsetBytes / 512, (span.offsetBytes + span.lengthBytes) / 512);
  }
  return writers;
}

describe('coalesce', () => {
  it('gives every sector to its last writer, like a plain replay', () => {
    fc.assert(
      fc.property(fc.array(spanArb, { maxLength: 60 }), (spans) => {
        const writers = Array.from({ length: SECTORS }, () => -1);
        for (const extent of coalesce(spans)) {
          writers.fill(extent.writer, extent.offsetBytes / 512, (extent.offsetBytes + extent.lengthBytes) / 512);
        }
        expect(writers).toEqual(lastWriters(spans));
      }),
    );
  });

  it('gives ascending extents that do not overlap, with neighbours of one writer merged', () => {
    fc.assert(
      fc.property(fc.array(spanArb, { maxLength: 60 }), (spans) => {
        const extents = coalesce(spans);
        for (const [index, extent] of extents.entries()) {
          const next = extents[index + 1];
          if (next === undefined) continue;
          const end = extent.offsetBytes + extent.lengthBytes;
          expect(end).toBeLessThanOrEqual(next.offsetBytes);
          if (end === next.offsetBytes) expect(extent.writer).not.toBe(next.writer);
        }
      }),
    );
  });

  it('orders a large window without quadratic work', () => {
    const spans = Array.from({ length: 50_000 }, (_, i) => ({
      offsetBytes: ((i * 7919) % 100_003) * 4096,
      lengthBytes: 8192,
    }));
    const extents = coalesce(spans);
    expect(extents.length).toBeGreaterThan(25_000);
    expect(coalesce([])).toEqual([]);
  });
});
