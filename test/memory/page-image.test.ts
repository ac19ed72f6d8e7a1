import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PageImage } from '../../src/memory/page-image.ts';
import type { ByteRange } from '../../src/seed/seed-store.ts';
import { expectBytes, pattern } from '../contracts/support.ts';

const SECTORS = 400; // three pages and a bit
const SIZE = SECTORS * 512;

type Step =
  | { readonly kind: 'write'; readonly sector: number; readonly sectors: number; readonly seed: number }
  | { readonly kind: 'clear'; readonly sector: number; readonly sectors: number }
  | { readonly kind: 'snapshot' };

const extent = { sector: fc.nat(SECTORS - 1), sectors: fc.integer({ min: 1, max: 300 }) };
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('write' as const), ...extent, seed: fc.nat(1000) }),
    fc.record({ kind: fc.constant('clear' as const), ...extent }),
    fc.record({ kind: fc.constant('snapshot' as const) }),
  ),
  { maxLength: 12 },
);

/** The same in the plainest way: one buffer, one flag per sector, whole copies. */
class PlainImage {
  readonly bytes: Buffer;
  readonly written: boolean[];

  constructor(from?: PlainImage) {
    this.bytes = from === undefined ? Buffer.alloc(SIZE) : Buffer.from(from.bytes);
    this.written = from === undefined ? Array<boolean>(SECTORS).fill(false) : [...from.written];
  }

  ranges(): ByteRange[] {
    const ranges: { offsetBytes: number; lengthBytes: number }[] = [];
    for (const [sector, written] of this.written.entries()) {
      if (!written) continue;
      if (sector > 0 && this.written[sector - 1] === true) (ranges.at(-1) ?? { lengthBytes: 0 }).lengthBytes += 512;
      else ranges.push({ offsetBytes: sector * 512, lengthBytes: 512 });
    }
    return ranges;
  }
}

describe('page image', () => {
  it('holds what a plain buffer holds, and so do all its snapshots', () => {
    fc.assert(
      fc.property(steps, (steps) => {
        const image = new PageImage();
        const plain = new PlainImage();
        const pairs: [PageImage, PlainImage][] = [[image, plain]];
        for (const step of steps) {
          if (step.kind === 'snapshot') {
            pairs.push([image.snapshot(), new PlainImage(plain)]);
            continue;
          }
          const end = Math.min(SECTORS, step.sector + step.sectors);
          const [offset, length] = [step.sector * 512, (end - step.sector) * 512];
          const data = step.kind === 'write' ? pattern(step.seed, length) : Buffer.alloc(length);
          data.copy(plain.bytes, offset);
          plain.written.fill(step.kind === 'write', step.sector, end);
          if (step.kind === 'write') image.write(offset, data);
          else image.clear(offset, length);
        }
        for (const [actual, expected] of pairs) {
          expectBytes(actual.read(0, SIZE), expected.bytes);
          expect(actual.ranges(SIZE)).toEqual(expected.ranges());
          expectBytes(actual.read(777, 66_000), expected.bytes.subarray(777, 66_777));
        }
      }),
      { numRuns: 150 },
    );
  });

  it('shares what did not change: 30 snapshots of 64 MiB with a sector written between cost 30 pages', () => {
    const image = new PageImage();
    for (let at = 0; at < 64; at++) image.write(at * 1_048_576, Buffer.alloc(1_048_576, at));
    const before = process.memoryUsage().arrayBuffers;
    const snapshots = Array.from({ length: 30 }, (_, n) => {
      const snapshot = image.snapshot();
      image.write(n * 512, pattern(n, 512));
      return snapshot;
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40 * 65_536);
    expectBytes(snapshots[29]?.read(29 * 512, 512), Buffer.alloc(512));
    expectBytes(image.read(29 * 512, 512), pattern(29, 512));
  });
});
