import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ERROR_CATALOGUE, TidemarkError } from '../../src/errors.ts';
import {
  decodeChunk,
  decodeChunkAsync,
  decodeHead,
  decodeSegment,
  peekHeader,
  verifyChunk,
} from '../../src/log/decode.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import { MAX_SEGMENT_BYTES } from '../../src/log/limits.ts';
import { createLogKey } from '../../src/log/seal.ts';
import { DECODED_WITH_KEY, firstSegmentDefects } from './bad-segments.ts';
import { forge } from './forge.ts';
import {
  decodeAll,
  firstExpectation,
  mixedEntries,
  otherKey,
  secondExpectation,
  secondHeader,
  testKey,
} from './standard.ts';

const folder = fileURLToPath(new URL('../fixtures/log/bad/', import.meta.url));
const fixtures = readdirSync(folder).map((file) => file.replace(/\.seg$/, ''));
const codeOf = (fixture: string): string => fixture.split('-')[0] ?? '';

/** Codes that no single segment can give: two are the reader's, one is about the key itself. */
const WITHOUT_FIXTURE = ['LOG_SEQUENCE_GAP', 'LOG_SEGMENT_MISSING', 'LOG_KEY_INVALID'];

function thrownBy(action: () => unknown): TidemarkError {
  try {
    action();
  } catch (error) {
    if (error instanceof TidemarkError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const plain = encodeSegment(secondHeader, mixedEntries(), { chunkBytes: 4096 }).bytes;

describe('bad segments', () => {
  it.each(fixtures)('%s', async (fixture) => {
    const bytes = readFileSync(`${folder}${fixture}.seg`);
    const key = DECODED_WITH_KEY.includes(codeOf(fixture)) ? testKey : undefined;
    const error = thrownBy(() => decodeAll(bytes, secondExpectation, key));
    expect(error.code).toBe(codeOf(fixture));
    expect(error.class).toBe(/_KEY_|NOT_SEALED/.test(error.code) ? 'operator' : 'resync');
    expect(error.details['offset']).toBeTypeOf('number');
    expect(error.details['field']).toBeTypeOf('string');
    if (!error.code.startsWith('LOG_CHUNK') || error.details['offset'] === undefined) return;
    // Where the table is sound, the other ways to a chunk find the same.
    let segment;
    try {
      segment = decodeSegment(bytes, secondExpectation, key);
    } catch {
      return;
    }
    const all = segment.chunks.map((_, i) => decodeChunkAsync(bytes, segment, i, key));
    const failed = (await Promise.allSettled(all)).filter((result) => result.status === 'rejected');
    expect(failed.map(({ reason }) => (reason as TidemarkError).code)).toContain(error.code);
  });

  it('has a fixture for every code of the log', () => {
    const codes = Object.keys(ERROR_CATALOGUE).filter((code) => code.startsWith('LOG_'));
    const covered = new Set(fixtures.map(codeOf));
    expect(codes.filter((code) => !covered.has(code)).sort()).toEqual([...WITHOUT_FIXTURE].sort());
    expect([...covered].filter((code) => !codes.includes(code))).toEqual([]);
  });

  it.each(firstSegmentDefects())('%s in the first segment of a stream', (code, bytes) => {
    expect(thrownBy(() => decodeAll(bytes, firstExpectation)).code).toBe(code);
  });

  it('is refused by its size before anything is read', () => {
    expect(thrownBy(() => decodeSegment(Buffer.alloc(MAX_SEGMENT_BYTES + 1), secondExpectation)).code).toBe(
      'LOG_TOO_LARGE',
    );
    const head = { ...secondExpectation, blobBytes: MAX_SEGMENT_BYTES + 1 };
    expect(thrownBy(() => decodeHead(plain, head)).code).toBe('LOG_TOO_LARGE');
  });

  it('needs a key of 32 bytes', () => {
    expect(thrownBy(() => createLogKey(Buffer.alloc(31))).code).toBe('LOG_KEY_INVALID');
    const sealed = encodeSegment(secondHeader, mixedEntries(), { key: testKey }).bytes;
    expect(thrownBy(() => decodeSegment(sealed, secondExpectation, otherKey)).code).toBe('LOG_KEY_WRONG');
    const segment = decodeSegment(sealed, secondExpectation, testKey);
    expect(thrownBy(() => decodeChunk(sealed, segment, 0)).code).toBe('LOG_KEY_MISSING');
    expect(thrownBy(() => decodeChunk(sealed, segment, 0, otherKey)).code).toBe('LOG_CHUNK_SEAL');
  });
});

describe('heads', () => {
  const { headBytes, totalBytes } = peekHeader(plain.subarray(0, 200));
  const expected = { ...secondExpectation, blobBytes: totalBytes };

  it('decode to the same segment as the whole blob', () => {
    expect(totalBytes).toBe(plain.length);
    expect(decodeHead(plain.subarray(0, headBytes), expected)).toEqual(decodeSegment(plain, secondExpectation));
  });

  it('tell a cut blob from a short prefix', () => {
    expect(thrownBy(() => decodeHead(plain.subarray(0, headBytes - 1), expected)).code).toBe('LOG_TRUNCATED');
    const cut = { ...expected, blobBytes: totalBytes - 1 };
    expect(thrownBy(() => decodeHead(plain.subarray(0, headBytes), cut)).code).toBe('LOG_TRUNCATED');
    const longer = { ...expected, blobBytes: totalBytes + 1 };
    expect(thrownBy(() => decodeHead(plain.subarray(0, headBytes), longer)).code).toBe('LOG_TRAILING_BYTES');
  });

  it('hold no chunks', () => {
    const prefix = plain.subarray(0, headBytes);
    const segment = decodeHead(prefix, expected);
    expect(thrownBy(() => decodeChunk(prefix, segment, 0)).code).toBe('LOG_TRUNCATED');
    expect(thrownBy(() => verifyChunk(prefix, segment, 1)).code).toBe('LOG_TRUNCATED');
  });

  it('are verified without the payload, which is found out chunk by chunk', () => {
    const bytes = Buffer.from(plain);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
    const segment = decodeSegment(bytes, secondExpectation);
    expect(decodeChunk(bytes, segment, 0)).toHaveLength(4096);
    expect(thrownBy(() => verifyChunk(bytes, segment, 1)).code).toBe('LOG_CHUNK_CHECKSUM');
  });

  it('leave the chain alone when nothing is known of the segment before', () => {
    const { stream, diskSizeBytes } = secondHeader;
    expect(decodeSegment(plain, { stream, diskSizeBytes, sequence: 2 }).records).toHaveLength(7);
    const moved = forge(plain, ({ head }) => void head.fill(7, 88, 120));
    expect(decodeSegment(moved, { stream, diskSizeBytes, sequence: 2 }).header.previousDigest).toEqual(
      Buffer.alloc(32, 7),
    );
  });
});
