import { describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import { decodeSegment } from '../../src/log/decode.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import type { SegmentEntry } from '../../src/log/encode.ts';
import { MAX_SEGMENT_BYTES, MAX_SEGMENT_RECORDS, MAX_SEGMENT_TIME_US } from '../../src/log/limits.ts';
import type { SegmentHeader } from '../../src/log/segment.ts';
import { MIB } from '../../src/model/sizes.ts';
import {
  decodeAll,
  diskSizeBytes,
  firstHeader,
  noise,
  secondExpectation,
  secondHeader,
  text,
  write,
} from './standard.ts';

const from = secondHeader.firstTimeUs;
const refuses = (header: Partial<SegmentHeader>, entries: readonly SegmentEntry[] = [], base = secondHeader): void => {
  let code = 'none';
  try {
    encodeSegment({ ...base, ...header }, entries);
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    code = error.code;
  }
  expect(code).toMatch(/^(ASSERTION|NAME_INVALID)$/);
};
const mark = (id: string): SegmentEntry => ({ record: { kind: 'mark', timeUs: from, markKind: 'app', id } });
const discard = (offsetBytes: number, lengthBytes: number): SegmentEntry => ({
  record: { kind: 'discard', timeUs: from, offsetBytes, lengthBytes },
});

describe('the writer refuses', () => {
  it.each<[string, Partial<SegmentHeader>]>([
    ['a name with a slash', { stream: { ...secondHeader.stream, disk: 'a/b' } }],
    ['epoch 0', { stream: { ...secondHeader.stream, epoch: 0 } }],
    ['sequence 0', { sequence: 0 }],
    ['a disk that is no multiple of 1 MiB', { diskSizeBytes: MIB + 512 }],
    ['records beyond safe integers', { recordsBefore: 2 ** 53 }],
    ['a begin before the stream', { streamStartUs: from + 1 }],
    ['an end before the begin', { endTimeUs: from - 1 }],
    ['too much time', { endTimeUs: from + MAX_SEGMENT_TIME_US + 1 }],
    ['a short digest', { previousDigest: Buffer.alloc(31) }],
  ])('%s', (_, header) => refuses(header));

  it('a first segment that follows another', () => {
    refuses({ recordsBefore: 1 }, [], firstHeader);
    refuses({ previousDigest: Buffer.alloc(32, 1) }, [], firstHeader);
  });

  it.each<[string, SegmentEntry[]]>([
    ['a write that is too long', [write(from, 0, Buffer.alloc(MIB + 512))]],
    ['a write without sectors', [write(from, 0, Buffer.alloc(100))]],
    ['an empty write', [write(from, 0, Buffer.alloc(0))]],
    ['a write between sectors', [write(from, 1, Buffer.alloc(512))]],
    ['a write beyond the disk', [write(from, diskSizeBytes, Buffer.alloc(512))]],
    ['a write without payload', [{ record: write(from, 0, Buffer.alloc(512)).record }]],
    ['payload of another length', [{ ...write(from, 0, Buffer.alloc(512)), data: Buffer.alloc(1024) }]],
    ['a discard with payload', [{ ...discard(0, 512), data: Buffer.alloc(512) }]],
    ['a discard beyond the disk', [discard(512, diskSizeBytes)]],
    ['a time before the segment', [write(from - 1, 0, Buffer.alloc(512))]],
    ['a time after the segment', [write(secondHeader.endTimeUs + 1, 0, Buffer.alloc(512))]],
    ['a fraction of a microsecond', [write(from + 0.5, 0, Buffer.alloc(512))]],
    ['times out of order', [write(from + 2, 0, Buffer.alloc(512)), write(from + 1, 0, Buffer.alloc(512))]],
    ['a mark without an id', [mark('')]],
    ['a mark with a long id', [mark('ü'.repeat(257))]],
    ['a mark with half a character', [mark('\ud800')]],
    ['too many records', Array.from({ length: MAX_SEGMENT_RECORDS + 1 }, () => discard(0, 512))],
    ['too much payload', Array.from({ length: 13 }, () => write(from, 0, Buffer.alloc(MIB)))],
    ['too large a table', Array.from({ length: 6000 }, () => mark('m'.repeat(512)))],
  ])('%s', (_, entries) => refuses({}, entries));
});

describe('the writer', () => {
  it('fits everything that its limits allow', () => {
    const payload = Array.from({ length: 12 }, (_, i) => write(from, 0, noise(String(i), MIB)));
    const marks = Array.from({ length: 1900 }, () => mark('m'.repeat(512)));
    const rest = Array.from({ length: MAX_SEGMENT_RECORDS - payload.length - marks.length }, () =>
      discard(0, diskSizeBytes),
    );
    const { bytes } = encodeSegment(secondHeader, [...payload, ...marks, ...rest]);
    expect(bytes.length).toBeLessThan(MAX_SEGMENT_BYTES);
    const segment = decodeSegment(bytes, secondExpectation);
    expect(segment.records).toHaveLength(MAX_SEGMENT_RECORDS);
    expect(segment.payloadBytes).toBe(12 * MIB);
    // Payload that zstd cannot shorten is stored as it is.
    expect(segment.chunks.map(({ storedBytes }) => storedBytes)).toEqual(Array.from({ length: 12 }, () => MIB));
  });

  it('fills chunks with writes up to their size, and gives a longer write its own', () => {
    const lengths = [512, 3584, 512, 8192, 4096, 512];
    const entries = lengths.map((length, i) => write(from, 0, text(String(i), length)));
    const { bytes } = encodeSegment(secondHeader, entries, { chunkBytes: 4096 });
    const segment = decodeSegment(bytes, secondExpectation);
    expect(segment.chunks.map(({ rawBytes }) => rawBytes)).toEqual([4096, 512, 8192, 4096, 512]);
    expect([...segment.chunkOfRecord]).toEqual([0, 0, 1, 2, 3, 4]);
    expect([...segment.offsetInChunk]).toEqual([0, 512, 0, 0, 0, 0]);
    expect(decodeAll(bytes, secondExpectation)).toEqual(entries);
  });
});
