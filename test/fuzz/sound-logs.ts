/** Sound logs for the fuzzers to break: small ones of every shape, and a few at the limits of the format. */
import { createHash } from 'node:crypto';
import { encodeSegment, type EncodeOptions, type SegmentEntry } from '../../src/log/encode.ts';
import { createLogKey, type LogKey } from '../../src/log/seal.ts';
import type { LogStream } from '../../src/model/names.ts';
import { KIB, MIB } from '../../src/model/sizes.ts';
import { START_US } from '../support/model-log.ts';
import { createRandom, type Random } from './random.ts';
import type { ReferencePlace, ReferenceTail } from './reference-reader.ts';

export const MASTER = createHash('sha256').update('fuzz master key').digest();
export const KEY: LogKey = createLogKey(Buffer.from(MASTER));
export const OTHER_KEY: LogKey = createLogKey(createHash('sha256').update('another master key').digest());

export interface SegmentPlan {
  readonly entries: readonly SegmentEntry[];
  readonly endUs: number;
}

export interface SoundSegment {
  readonly bytes: Buffer;
  readonly tail: ReferenceTail;
}

/** One disk's log, encoded. `segments[0]` has sequence 1. */
export interface SoundLog {
  readonly stream: LogStream;
  readonly diskSizeBytes: number;
  readonly isSealed: boolean;
  readonly segments: readonly SoundSegment[];
}

export interface LogPlan {
  readonly stream: LogStream;
  readonly diskSizeBytes: number;
  readonly segments: readonly SegmentPlan[];
  readonly isSealed: boolean;
  readonly options?: Omit<EncodeOptions, 'key'>;
}

export function encodeLog({ stream, diskSizeBytes, segments, isSealed, options = {} }: LogPlan): SoundLog {
  let tail: ReferenceTail = {
    digest: Buffer.alloc(32),
    endTimeUs: START_US,
    recordsThrough: 0,
    streamStartUs: START_US,
  };
  const encoded = segments.map(({ entries, endUs }, index): SoundSegment => {
    const header = {
      stream,
      diskSizeBytes,
      sequence: index + 1,
      streamStartUs: START_US,
      recordsBefore: tail.recordsThrough,
      firstTimeUs: tail.endTimeUs,
      endTimeUs: endUs,
      previousDigest: tail.digest,
    };
    const { bytes, digest } = encodeSegment(header, entries, isSealed ? { ...options, key: KEY } : options);
    tail = { ...tail, digest, endTimeUs: endUs, recordsThrough: tail.recordsThrough + entries.length };
    return { bytes, tail };
  });
  return { stream, diskSizeBytes, isSealed, segments: encoded };
}

/** What a reader that has read the log up to segment `sequence` expects there. */
export function placeOf(log: SoundLog, sequence: number): ReferencePlace {
  const previous = log.segments[sequence - 2]?.tail;
  const { epoch, group, machine, disk } = log.stream;
  return {
    group,
    machine,
    disk,
    epoch,
    sequence,
    diskSizeBytes: log.diskSizeBytes,
    ...(previous !== undefined && { previous }),
    ...(log.isSealed && { master: MASTER }),
  };
}

const DISK_BYTES = 4 * MIB;
/** A disk of 2 GiB has room for 12 MiB of distinct writes, and offsets beyond 32 bits are reached by mutation. */
const LARGE_DISK_BYTES = 2048 * MIB;
const NAMES = ['g', 'shop', 'web-1', 'disk0', 'a.b_c', 'x'.repeat(63)];

const random512 = (random: Random, atMost: number): number => 512 * random.int(1, atMost / 512);

function randomEntry(random: Random, timeUs: number): SegmentEntry {
  const kind = random.pick(['write', 'write', 'write', 'discard', 'mark', 'base-complete'] as const);
  if (kind === 'base-complete') return { record: { kind, timeUs } };
  if (kind === 'mark') {
    const id = random.pick(['m', 'c-0001', 'Büro ✓', '\uFEFFx', 'i'.repeat(512)]);
    return { record: { kind, timeUs, markKind: random.pick(['crash', 'app']), id } };
  }
  const lengthBytes = random512(random, kind === 'write' ? 6 * KIB : DISK_BYTES);
  const offsetBytes = 512 * random.int(0, (DISK_BYTES - lengthBytes) / 512);
  if (kind === 'discard') return { record: { kind, timeUs, offsetBytes, lengthBytes } };
  const data = random.chance(0.3) ? random.bytes(lengthBytes) : Buffer.alloc(lengthBytes, random.int(0, 255));
  return { record: { kind, timeUs, offsetBytes, lengthBytes }, data };
}

function smallLog(random: Random): SoundLog {
  let timeUs = START_US;
  const segments = Array.from({ length: random.int(2, 4) }, (): SegmentPlan => {
    const entries = Array.from({ length: random.int(0, 8) }, () => {
      timeUs += random.chance(0.3) ? 0 : random.int(1, 90_000_000);
      return randomEntry(random, timeUs);
    });
    timeUs += random.chance(0.3) ? 0 : random.int(1, 90_000_000);
    return { entries, endUs: timeUs };
  });
  const stream = {
    group: random.pick(NAMES),
    machine: random.pick(NAMES),
    disk: random.pick(NAMES),
    epoch: random.int(1, 3),
  };
  const options = { chunkBytes: random.pick([2 * KIB, 8 * KIB, 512 * KIB]), level: random.pick([1, 3]) };
  return encodeLog({ stream, diskSizeBytes: DISK_BYTES, segments, isSealed: random.chance(0.3), options });
}

/** As many records, chunks, payload or mark ids as a segment takes. */
function largeLog(which: LargeKind): SoundLog {
  const timeUs = START_US;
  const entries = {
    records: (): SegmentEntry[] =>
      Array.from({ length: 65_536 }, (_, i) => ({
        record: { kind: 'discard', timeUs, offsetBytes: ((i * 40_503) % 65_536) * 1024, lengthBytes: 512 },
      })),
    chunks: (): SegmentEntry[] => Array.from({ length: 512 }, (_, i) => write(timeUs, i * 4096, Buffer.alloc(512, i))),
    payload: (): SegmentEntry[] =>
      Array.from({ length: 24 }, (_, i) => write(timeUs, i * MIB, Buffer.alloc(512 * KIB, i + 1))),
    ids: (): SegmentEntry[] =>
      Array.from({ length: 5700 }, (_, i) => ({
        record: { kind: 'mark', timeUs, markKind: 'app', id: String(i).padStart(512, '.') },
      })),
  }[which]();
  const stream = { group: 'g', machine: 'm', disk: 'large', epoch: 1 };
  const segments = [
    { entries, endUs: timeUs + 1 },
    { entries: [], endUs: timeUs + 2 },
  ];
  return encodeLog({
    stream,
    diskSizeBytes: LARGE_DISK_BYTES,
    segments,
    isSealed: false,
    options: { chunkBytes: 512 * KIB },
  });
}

const write = (timeUs: number, offsetBytes: number, data: Buffer): SegmentEntry => ({
  record: { kind: 'write', timeUs, offsetBytes, lengthBytes: data.length },
  data,
});

const SMALL_LOGS = 64;
const LARGE = ['records', 'chunks', 'payload', 'ids'] as const;
const made = new Map<string, SoundLog>();

function remembered(name: string, make: () => SoundLog): SoundLog {
  const log = made.get(name) ?? make();
  made.set(name, log);
  return log;
}

export function anySmallLog(random: Random): SoundLog {
  const index = random.int(1, SMALL_LOGS);
  return remembered(`small ${index}`, () => smallLog(createRandom(index)));
}

/** What a large log has as much of as a segment takes. */
export type LargeKind = (typeof LARGE)[number];

export const anyLargeKind = (random: Random): LargeKind => random.pick(LARGE);

export function largeLogOf(which: LargeKind): SoundLog {
  return remembered(which, () => largeLog(which));
}
