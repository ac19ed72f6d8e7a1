import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { decodeSegment } from '../../src/log/decode.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import { decodeAll, digested, entriesOf, firstExpectation, secondExpectation, testKey } from './standard.ts';

const folder = fileURLToPath(new URL('../fixtures/log/v1/', import.meta.url));
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.seg'))
  .map((file) => file.slice(0, -4));

const Described = z.object({
  zstd: z.string(),
  sealed: z.boolean(),
  level: z.number().nullable(),
  chunkBytes: z.number().nullable(),
  header: z.object({ sequence: z.number() }).loose(),
  digest: z.string(),
  chunks: z.array(z.object({ storedBytes: z.number(), rawBytes: z.number(), sha256: z.string() })),
  records: z.array(z.object({ kind: z.string() }).loose()),
});

describe('segments of format version 1', () => {
  it('are all there', () => {
    expect([...names].sort()).toEqual([
      'heartbeat',
      'high-level',
      'incompressible',
      'marks-only',
      'plain',
      'sealed',
      'sealed-heartbeat',
    ]);
  });

  it.each(names)('%s decodes to what was written', (name) => {
    const bytes = readFileSync(`${folder}${name}.seg`);
    const described = Described.parse(JSON.parse(readFileSync(`${folder}${name}.json`, 'utf8')));
    const expected = described.header.sequence === 1 ? firstExpectation : secondExpectation;
    const key = described.sealed ? testKey : undefined;
    const segment = decodeSegment(bytes, expected, key);
    expect({ ...segment.header, previousDigest: segment.header.previousDigest.toString('hex') }).toEqual(
      described.header,
    );
    expect(segment.digest.toString('hex')).toBe(described.digest);
    expect(
      segment.chunks.map(({ storedBytes, rawBytes, sha256 }) => ({
        storedBytes,
        rawBytes,
        sha256: sha256.toString('hex'),
      })),
    ).toEqual(described.chunks);
    expect(digested(entriesOf(bytes, segment, key))).toEqual(described.records);
    expect(segment.totalBytes).toBe(bytes.length);
  });

  it.each(names)('%s is written again alike', (name) => {
    const bytes = readFileSync(`${folder}${name}.seg`);
    const { zstd, header, ...described } = Described.parse(JSON.parse(readFileSync(`${folder}${name}.json`, 'utf8')));
    const expected = header.sequence === 1 ? firstExpectation : secondExpectation;
    const key = described.sealed ? testKey : undefined;
    const segment = decodeSegment(bytes, expected, key);
    const again = encodeSegment(segment.header, entriesOf(bytes, segment, key), {
      ...(described.level === null ? {} : { level: described.level }),
      ...(described.chunkBytes === null ? {} : { chunkBytes: described.chunkBytes }),
      ...(key === undefined ? {} : { key }),
    });
    expect(digested(decodeAll(again.bytes, expected, key))).toEqual(described.records);
    // Another zstd may find shorter frames; all other bytes are fixed.
    const hasFrames = segment.chunks.some(({ storedBytes, rawBytes }) => storedBytes < rawBytes);
    if (!hasFrames || process.versions['zstd'] === zstd) expect(again.bytes.equals(bytes)).toBe(true);
  });
});
