import { beforeAll, describe, expect, it } from 'vitest';
import { ERROR_CATALOGUE, TidemarkError } from '../../src/errors.ts';
import { decodeChunk, decodeSegment } from '../../src/log/decode.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import { HEADER, RECORD_BYTES, CHUNK } from '../../src/log/layout.ts';
import { MIB } from '../../src/model/sizes.ts';
import { fitChunks, forge } from '../log/forge.ts';
import { firstExpectation, firstHeader, noise, write } from '../log/standard.ts';
import { judgeCodec } from './judge-codec.ts';
import { codecMutant, MUTATION_NAMES } from './mutant.ts';
import { bombOf } from './payload-mutations.ts';

/** Seeds 1 to this; `npm run fuzz` goes on from there. */
const MUTANTS = 5000;
/** What a process may need more, at its peak, while it refuses one bomb after another. */
const MOST_MORE_BYTES = 64 * MIB;

const peakBytes = (): number => process.resourceUsage().maxRSS * 1024;

describe('bombs', () => {
  it.each([17, 20, 27])('of 512 MiB with a window of 2^%i bytes are refused without being unpacked', (windowLog) => {
    const sound = encodeSegment(firstHeader, [write(firstHeader.firstTimeUs, 0, noise('x', MIB))]).bytes;
    const bytes = forge(sound, (parts) => {
      parts.chunks[0] = bombOf(4096 * 4 + 6, windowLog);
      fitChunks(parts);
    });
    const segment = decodeSegment(bytes, firstExpectation);
    expect(segment.chunks).toMatchObject([{ rawBytes: MIB }]);
    const before = peakBytes();
    for (let i = 0; i < 20; i++) {
      expect(() => decodeChunk(bytes, segment, 0)).toThrow(
        expect.objectContaining({ code: 'LOG_CHUNK_SIZE' }) as TidemarkError,
      );
    }
    expect(peakBytes() - before).toBeLessThan(MOST_MORE_BYTES);
  });

  it('of counts are refused before anything of that size is allocated', () => {
    const sound = encodeSegment(firstHeader, []).bytes;
    const before = peakBytes();
    for (const field of ['recordCount', 'chunkCount', 'tableBytes'] as const) {
      const bytes = forge(sound, ({ head }) => void head.writeUInt32LE(2 ** 32 - 1, HEADER[field]));
      expect(() => decodeSegment(bytes, firstExpectation)).toThrow(
        expect.objectContaining({ code: 'LOG_TOO_LARGE' }) as TidemarkError,
      );
    }
    expect(peakBytes() - before).toBeLessThan(MOST_MORE_BYTES);
  });

  it('are what they say', () => {
    // The first chunk's entry lies behind one record; so the bomb above is one that its table does not show.
    expect(RECORD_BYTES + CHUNK.rawBytes).toBe(36);
    expect(bombOf(4096 * 4 + 6, 20)).toHaveLength(4096 * 4 + 6);
  });
});

describe(`${MUTANTS} mutants of segments`, () => {
  const codes = new Map<string, number>();
  const used = new Set<string>();
  const findings: unknown[] = [];

  beforeAll(async () => {
    for (let seed = 1; seed <= MUTANTS; seed++) {
      const mutant = codecMutant(seed);
      for (const name of mutant.mutations) used.add(name);
      try {
        const code = (await judgeCodec(mutant)) ?? 'sound';
        codes.set(code, (codes.get(code) ?? 0) + 1);
      } catch (error) {
        findings.push(error);
      }
    }
  });

  it('are refused with a code that the format page gives, or are sound segments within the limits', () => {
    expect(findings.map(String)).toEqual([]);
  });

  it('come from every mutation', () => {
    expect(MUTATION_NAMES.filter((name) => !used.has(name))).toEqual([]);
  });

  it('reach every check that one segment can fail, and are often sound', () => {
    // The reader of a stream gives two of the other codes, and the third is about the key itself.
    const elsewhere = ['LOG_SEQUENCE_GAP', 'LOG_SEGMENT_MISSING', 'LOG_KEY_INVALID'];
    const all = Object.keys(ERROR_CATALOGUE).filter((code) => code.startsWith('LOG_') && !elsewhere.includes(code));
    expect(all.filter((code) => (codes.get(code) ?? 0) < 3)).toEqual([]);
    expect(codes.get('sound')).toBeGreaterThan(MUTANTS / 50);
  });
});
