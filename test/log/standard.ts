/** The stream, key and expectations that the tests and fixtures of the log format share. */
import { createHash } from 'node:crypto';
import { decodeChunk, decodeSegment } from '../../src/log/decode.ts';
import type { SegmentExpectation } from '../../src/log/decode.ts';
import type { SegmentEntry } from '../../src/log/encode.ts';
import { createLogKey } from '../../src/log/seal.ts';
import type { LogKey } from '../../src/log/seal.ts';
import type { DecodedSegment, SegmentHeader } from '../../src/log/segment.ts';
import { MIB } from '../../src/model/sizes.ts';

/** 2026-11-23T04:30:00Z */
export const T0 = 1_795_408_200_000_000;
export const SECOND_US = 1_000_000;
export const testKey: LogKey = createLogKey(createHash('sha256').update('tidemark test key').digest());
export const otherKey: LogKey = createLogKey(createHash('sha256').update('another key').digest());
export const stream = { group: 'shop', machine: 'web-1', disk: 'disk0', epoch: 3 } as const;
export const diskSizeBytes = 8 * MIB;

export const firstHeader: SegmentHeader = {
  stream,
  diskSizeBytes,
  sequence: 1,
  streamStartUs: T0,
  recordsBefore: 0,
  firstTimeUs: T0,
  endTimeUs: T0 + 10 * SECOND_US,
  previousDigest: Buffer.alloc(32),
};

const previousDigest = createHash('sha256').update('the segment before').digest();

/** Sequence 2, after ten seconds and seven records. */
export const secondHeader: SegmentHeader = {
  ...firstHeader,
  sequence: 2,
  recordsBefore: 7,
  firstTimeUs: T0 + 10 * SECOND_US,
  endTimeUs: T0 + 20 * SECOND_US,
  previousDigest,
};

export const firstExpectation: SegmentExpectation = { stream, diskSizeBytes, sequence: 1 };
export const secondExpectation: SegmentExpectation = {
  stream,
  diskSizeBytes,
  sequence: 2,
  previous: { digest: previousDigest, endTimeUs: T0 + 10 * SECOND_US, recordsThrough: 7, streamStartUs: T0 },
};

/** Repeatable bytes that zstd cannot shorten. */
export function noise(seed: string, lengthBytes: number): Buffer {
  const blocks: Buffer[] = [];
  for (let at = 0; at < lengthBytes; at += 32) blocks.push(createHash('sha256').update(`${seed} ${at}`).digest());
  return Buffer.concat(blocks).subarray(0, lengthBytes);
}

export const text = (seed: string, lengthBytes: number): Buffer => Buffer.alloc(lengthBytes, `${seed} `);

export const write = (timeUs: number, offsetBytes: number, data: Buffer): SegmentEntry => ({
  record: { kind: 'write', timeUs, offsetBytes, lengthBytes: data.length },
  data,
});

/** Two chunks (with `chunkBytes` 4096) and every kind of record, between 10 s and 20 s of the standard stream. */
export function mixedEntries(from: number = secondHeader.firstTimeUs): SegmentEntry[] {
  return [
    write(from, 0, text('boot', 1024)),
    write(from + SECOND_US, 4096, text('journal', 3072)),
    { record: { kind: 'discard', timeUs: from + SECOND_US, offsetBytes: MIB, lengthBytes: 3 * MIB } },
    { record: { kind: 'mark', timeUs: from + 2 * SECOND_US, markKind: 'crash', id: 'c-0001' } },
    write(from + 3 * SECOND_US, 512, text('data', 4096)),
    { record: { kind: 'base-complete', timeUs: from + 4 * SECOND_US } },
    { record: { kind: 'mark', timeUs: from + 10 * SECOND_US, markKind: 'app', id: 'Sicherungspunkt für Büro ✓' } },
  ];
}

/** Records with their payload, every chunk decoded. */
export function entriesOf(bytes: Buffer, segment: DecodedSegment, key?: LogKey): SegmentEntry[] {
  const chunks = segment.chunks.map((_, i) => decodeChunk(bytes, segment, i, key));
  return segment.records.map((record, i) => {
    if (record.kind !== 'write') return { record };
    const at = segment.offsetInChunk[i] ?? -1;
    const chunk = chunks[segment.chunkOfRecord[i] ?? -1];
    return { record, data: chunk?.subarray(at, at + record.lengthBytes) ?? Buffer.alloc(0) };
  });
}

/** Decodes header, table and every chunk. */
export function decodeAll(bytes: Buffer, expected: SegmentExpectation, key?: LogKey): SegmentEntry[] {
  return entriesOf(bytes, decodeSegment(bytes, expected, key), key);
}

/** Records with the digest of their payload: compares fast, and failures print short. */
export const digested = (entries: readonly SegmentEntry[]): unknown[] =>
  entries.map(({ record, data }) => ({
    ...record,
    ...(data === undefined ? {} : { dataSha256: createHash('sha256').update(data).digest('hex') }),
  }));
