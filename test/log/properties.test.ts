import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import { decodeChunk, decodeChunkAsync, decodeSegment, verifyChunk } from '../../src/log/decode.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import type { SegmentEntry } from '../../src/log/encode.ts';
import { HEADER } from '../../src/log/layout.ts';
import type { LogKey } from '../../src/log/seal.ts';
import type { SegmentHeader } from '../../src/log/segment.ts';
import { KIB } from '../../src/model/sizes.ts';
import { fitChunks, forge } from './forge.ts';
import {
  decodeAll,
  diskSizeBytes,
  mixedEntries,
  noise,
  secondExpectation,
  secondHeader,
  SECOND_US,
  testKey,
  text,
} from './standard.ts';

const SECTORS = diskSizeBytes / 512;
const timeUs = fc.integer({ min: 0, max: 10 * SECOND_US }).map((after) => secondHeader.firstTimeUs + after);
const range = (maxSectors: number) =>
  fc
    .tuple(fc.integer({ min: 0, max: SECTORS - 1 }), fc.integer({ min: 1, max: maxSectors }))
    .map(([first, count]) => ({ offsetBytes: first * 512, lengthBytes: Math.min(count, SECTORS - first) * 512 }));
const markId = fc
  .oneof(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }),
    fc.constant('\uFEFF'),
    fc.constant('m'.repeat(512)),
  )
  .filter((id) => Buffer.byteLength(id) <= 512 && id.isWellFormed());

const entry: fc.Arbitrary<SegmentEntry> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(timeUs, range(40), fc.nat(), fc.boolean()).map(([timeUs, where, seed, dense]) => ({
      record: { kind: 'write' as const, timeUs, ...where },
      data: (dense ? noise : text)(String(seed), where.lengthBytes),
    })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(timeUs, range(SECTORS))
      .map(([timeUs, where]) => ({ record: { kind: 'discard' as const, timeUs, ...where } })),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({
        kind: fc.constant('mark' as const),
        timeUs,
        markKind: fc.constantFrom('crash' as const, 'app' as const),
        id: markId,
      })
      .map((record) => ({ record })),
  },
  { weight: 1, arbitrary: timeUs.map((timeUs) => ({ record: { kind: 'base-complete' as const, timeUs } })) },
);
const entries = fc.array(entry, { maxLength: 40 }).map((all) => all.sort((a, b) => a.record.timeUs - b.record.timeUs));
const options = fc.record({
  chunkBytes: fc.constantFrom(4 * KIB, 20 * KIB, 512 * KIB),
  level: fc.constantFrom(1, 3),
  key: fc.constantFrom<LogKey | undefined>(undefined, testKey),
});
const encodeWith = (
  entries: readonly SegmentEntry[],
  { key, ...rest }: { key: LogKey | undefined; chunkBytes: number; level: number },
) => encodeSegment(secondHeader, entries, key === undefined ? rest : { ...rest, key });

/** The code of the log that decoding everything gives, 'sound', or whatever else was thrown. */
function outcome(bytes: Buffer, key?: LogKey): string {
  try {
    decodeAll(bytes, secondExpectation, key);
    return 'sound';
  } catch (error) {
    if (error instanceof TidemarkError) return error.code;
    throw error;
  }
}

const withFlip = (bytes: Buffer, bit: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
  return copy;
};

describe('encode and decode', () => {
  it('give back header, records and payload', async () => {
    await fc.assert(
      fc.asyncProperty(entries, options, async (entries, options) => {
        const { bytes, digest } = encodeWith(entries, options);
        const segment = decodeSegment(bytes, secondExpectation, options.key);
        expect(segment.header).toEqual(secondHeader);
        expect(segment.digest).toEqual(digest);
        expect(segment.records).toEqual(entries.map(({ record }) => record));
        const chunks = await Promise.all(
          segment.chunks.map((_, i) => decodeChunkAsync(bytes, segment, i, options.key)),
        );
        for (const [i, chunk] of chunks.entries()) {
          expect(decodeChunk(bytes, segment, i, options.key).equals(chunk)).toBe(true);
          expect(verifyChunk(bytes, segment, i)).toHaveLength(segment.chunks[i]?.storedBytes ?? -1);
        }
        let payloadBytes = 0;
        for (const [i, { data }] of entries.entries()) {
          const chunk = segment.chunkOfRecord[i] ?? -1;
          const at = segment.offsetInChunk[i] ?? -1;
          expect(chunk >= 0).toBe(data !== undefined);
          if (data === undefined) continue;
          payloadBytes += data.length;
          expect(chunks[chunk]?.subarray(at, at + data.length).equals(data)).toBe(true);
        }
        expect(segment.payloadBytes).toBe(payloadBytes);
        expect(segment.totalBytes).toBe(bytes.length);
      }),
      { numRuns: 150 },
    );
  });

  it('are deterministic, and sealed payload never meets the same key with other content', () => {
    fc.assert(
      fc.property(entries, options, (entries, options) => {
        expect(encodeWith(entries, options).bytes.equals(encodeWith(entries, options).bytes)).toBe(true);
      }),
      { numRuns: 30 },
    );
    const variants = [1, 3, 19].flatMap((level) =>
      [4 * KIB, 512 * KIB].map((chunkBytes) => encodeWith(mixedEntries(), { level, chunkBytes, key: testKey }).bytes),
    );
    const bySalt = new Map(variants.map((bytes) => [bytes.toString('hex', HEADER.salt, HEADER.tableTag), bytes]));
    // One salt stands for one content.
    for (const bytes of variants) {
      expect(bySalt.get(bytes.toString('hex', HEADER.salt, HEADER.tableTag))?.equals(bytes)).toBe(true);
    }
    expect(bySalt.size).toBeGreaterThan(1);
  });

  it('chain', () => {
    const first = encodeSegment(
      {
        ...secondHeader,
        sequence: 1,
        recordsBefore: 0,
        firstTimeUs: secondHeader.streamStartUs,
        endTimeUs: secondHeader.firstTimeUs,
        previousDigest: Buffer.alloc(32),
      },
      [],
      {},
    );
    const one = decodeSegment(first.bytes, { ...withoutPrevious(), sequence: 1 });
    const header: SegmentHeader = { ...secondHeader, recordsBefore: one.records.length, previousDigest: first.digest };
    const previous = {
      digest: one.digest,
      endTimeUs: one.header.endTimeUs,
      recordsThrough: 0,
      streamStartUs: one.header.streamStartUs,
    };
    const second = encodeSegment(header, mixedEntries(), {});
    expect(decodeSegment(second.bytes, { ...withoutPrevious(), sequence: 2, previous }).records).toHaveLength(7);
  });
});

const withoutPrevious = () => ({ stream: secondHeader.stream, diskSizeBytes, sequence: 0 });

describe('damage', () => {
  const small = { ...secondHeader, stream: { ...secondHeader.stream } };
  const cases: [string, Buffer, LogKey | undefined][] = [
    ['a segment', encodeSegment(small, mixedEntries(), { chunkBytes: 4096 }).bytes, undefined],
    ['a sealed segment', encodeSegment(small, mixedEntries(), { chunkBytes: 4096, key: testKey }).bytes, testKey],
    ['a heartbeat', encodeSegment(small, [], {}).bytes, undefined],
  ];

  it.each(cases)('of any bit of %s is found', (_, bytes, key) => {
    expect(outcome(bytes, key)).toBe('sound');
    const unseen: number[] = [];
    for (let bit = 0; bit < bytes.length * 8; bit++)
      if (!outcome(withFlip(bytes, bit), key).startsWith('LOG_')) unseen.push(bit);
    expect(unseen).toEqual([]);
  });

  it.each(cases)('by truncation of %s at any length is found', (_, bytes, key) => {
    for (let length = 0; length < bytes.length; length++) {
      expect(outcome(bytes.subarray(0, length), key), `${length} bytes`).toBe('LOG_TRUNCATED');
    }
    expect(outcome(Buffer.concat([bytes, Buffer.alloc(1)]), key)).toBe('LOG_TRAILING_BYTES');
  });

  it('of bits and by truncation is found in larger segments', () => {
    const part = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(entries, options, fc.array(part, { minLength: 5, maxLength: 5 }), (entries, options, places) => {
        const { bytes } = encodeWith(entries, options);
        for (const place of places) {
          expect(outcome(withFlip(bytes, Math.floor(place * bytes.length * 8)), options.key)).toMatch(/^LOG_/);
          expect(outcome(bytes.subarray(0, Math.floor(place * bytes.length)), options.key)).toBe('LOG_TRUNCATED');
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('a hostile writer', () => {
  const change = fc.record({
    part: fc.constantFrom('head' as const, 'table' as const, 'chunk' as const),
    place: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
  });
  const forged = (
    bytes: Buffer,
    changes: readonly { part: string; place: number; bytes: Uint8Array }[],
    key?: LogKey,
  ) =>
    forge(
      bytes,
      (parts) => {
        const targets = { chunk: parts.chunks[0] ?? Buffer.alloc(0), table: parts.table, head: parts.head };
        for (const target of ['chunk', 'table', 'head'] as const) {
          const from = target === 'head' ? HEADER.epoch : 0;
          for (const { part, place, bytes } of changes) {
            const at = from + Math.floor(place * (targets[target].length - from));
            if (part === target) Buffer.from(bytes).copy(targets[target], at);
          }
          if (target === 'chunk') fitChunks(parts);
        }
      },
      key,
    );

  it('who makes every checksum fit gets a code of the log or a segment within the limits', () => {
    const original = encodeSegment(secondHeader, mixedEntries(), { chunkBytes: 4096 }).bytes;
    let refused = 0;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const bytes = forged(original, changes);
        const result = outcome(bytes);
        if (result !== 'sound') {
          expect(result).toMatch(/^LOG_/);
          refused++;
          return;
        }
        let latestUs = secondHeader.firstTimeUs;
        for (const { record, data } of decodeAll(bytes, secondExpectation)) {
          expect(record.timeUs).toBeGreaterThanOrEqual(latestUs);
          latestUs = record.timeUs;
          if (record.kind !== 'write' && record.kind !== 'discard') continue;
          expect(record.offsetBytes + record.lengthBytes).toBeLessThanOrEqual(diskSizeBytes);
          expect((record.offsetBytes | record.lengthBytes) & 511).toBe(0);
          expect(data?.length ?? record.lengthBytes).toBe(record.lengthBytes);
        }
      }),
      { numRuns: 3000 },
    );
    expect(refused).toBeGreaterThan(1000);
  });

  it('without the key changes nothing in a sealed segment', () => {
    const original = encodeSegment(secondHeader, mixedEntries(), { chunkBytes: 4096, key: testKey }).bytes;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const bytes = forged(original, changes);
        fc.pre(!bytes.equals(original));
        expect(outcome(bytes, testKey)).toMatch(/^LOG_/);
      }),
      { numRuns: 500 },
    );
  });
});
