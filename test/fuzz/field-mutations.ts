/** Mutations that know the layout: every field of header, records and chunk entries, names, order and counts. */
import { CHUNK, CHUNK_BYTES, HEADER, RECORD, RECORD_BYTES } from '../../src/log/layout.ts';
import { chunkEntryAt, type Draft } from './draft.ts';
import type { Random } from './random.ts';

/** Changes a draft; false when there is nothing of that kind in it. */
export type Mutation = (draft: Draft, random: Random) => boolean;

interface Field {
  readonly at: number;
  readonly bytes: number;
}

const HEADER_FIELDS: Readonly<Record<Exclude<keyof typeof HEADER, 'names'>, number>> = {
  magic: 8,
  version: 2,
  flags: 2,
  headerBytes: 4,
  epoch: 4,
  recordCount: 4,
  sequence: 8,
  streamStartUs: 8,
  recordsBefore: 8,
  firstTimeUs: 8,
  endTimeUs: 8,
  diskSizeBytes: 8,
  chunkCount: 4,
  tableBytes: 4,
  storedBytes: 8,
  previousDigest: 32,
  keyCheck: 8,
  salt: 16,
  tableTag: 16,
};
const RECORD_FIELDS: Readonly<Record<keyof typeof RECORD, number>> = {
  kind: 1,
  markKind: 1,
  textBytes: 2,
  reserved: 4,
  timeUs: 8,
  offsetBytes: 8,
  lengthBytes: 8,
};
const CHUNK_FIELDS: Readonly<Record<keyof typeof CHUNK, number>> = { storedBytes: 4, rawBytes: 4, sha256: 32 };

const MIB = 1_048_576;
/** Limits, powers and what lies beside them. */
const EDGES: readonly bigint[] = [
  0n,
  1n,
  511n,
  512n,
  513n,
  65_535n,
  65_536n,
  65_537n,
  BigInt(MIB),
  BigInt(MIB + 512),
  BigInt(3 * MIB),
  BigInt(12 * MIB),
  BigInt(16 * MIB),
  99_999_999n,
  100_000_000n,
  999_999_999_999n,
  1_000_000_000_000n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n - 512n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 512n,
  2n ** 64n - 1n,
];
/** Distances from the old value; the last is the longest time of a segment. */
const STEPS: readonly bigint[] = [1n, 2n, 40n, 512n, 1024n, 4096n, BigInt(MIB), 300_000_000n, 35n * 86_400_000_000n];

function mutateField(target: Buffer, { at, bytes }: Field, random: Random): void {
  if (bytes > 8 || random.chance(0.1)) {
    random.bytes(random.chance(0.5) ? bytes : 1).copy(target, at + (bytes > 8 ? random.int(0, bytes - 1) : 0));
    return;
  }
  const low = target.readUIntLE(at, Math.min(bytes, 6));
  const old = BigInt(low) + (bytes === 8 ? BigInt(target.readUInt16LE(at + 6)) << 48n : 0n);
  const step = random.pick(STEPS);
  const value = random.pick([
    random.pick(EDGES),
    old + step,
    old - step,
    old ^ (1n << BigInt(random.int(0, bytes * 8 - 1))),
  ]);
  const wrapped = BigInt.asUintN(bytes * 8, value);
  for (let i = 0; i < bytes; i++) target.writeUInt8(Number((wrapped >> BigInt(8 * i)) & 0xffn), at + i);
}

const entriesOf = <T extends object>(fields: T): [keyof T & string, number][] =>
  Object.entries(fields) as [keyof T & string, number][];

const recordAt = ({ recordCount }: Draft, random: Random): number => random.int(0, recordCount - 1) * RECORD_BYTES;

const headerMutations = entriesOf(HEADER_FIELDS).map(([name, bytes]): [string, Mutation] => [
  `header.${name}`,
  ({ head }, random) => {
    mutateField(head, { at: HEADER[name], bytes }, random);
    return true;
  },
]);

const recordMutations = entriesOf(RECORD_FIELDS).map(([name, bytes]): [string, Mutation] => [
  `record.${name}`,
  (draft, random) => {
    if (draft.recordCount === 0) return false;
    mutateField(draft.table, { at: recordAt(draft, random) + RECORD[name], bytes }, random);
    return true;
  },
]);

const chunkEntryMutations = entriesOf(CHUNK_FIELDS).map(([name, bytes]): [string, Mutation] => [
  `chunk.${name}`,
  (draft, random) => {
    if (draft.chunkCount === 0) return false;
    const index = random.int(0, draft.chunkCount - 1);
    mutateField(draft.table, { at: chunkEntryAt(draft, index) + CHUNK[name], bytes }, random);
    return true;
  },
]);

/** The same change to a record as a source with another disk would make it: aligned, and perhaps outside. */
const moveRange: Mutation = (draft, random) => {
  if (draft.recordCount === 0) return false;
  const at = recordAt(draft, random) + RECORD.offsetBytes;
  const sectors = random.chance(0.8) ? random.int(0, draft.log.diskSizeBytes / 512) : random.int(0, 2 ** 33);
  draft.table.writeBigUInt64LE(BigInt(sectors) * 512n, at);
  return true;
};

/** Moves a time between its neighbours, or a little beyond them. */
const moveTime: Mutation = (draft, random) => {
  if (draft.recordCount === 0) return false;
  const at = recordAt(draft, random) + RECORD.timeUs;
  const beside = random.chance(0.5) ? at - RECORD_BYTES : at + RECORD_BYTES;
  const from =
    beside >= 0 && beside < draft.recordCount * RECORD_BYTES
      ? draft.table.readBigUInt64LE(beside)
      : draft.head.readBigUInt64LE(HEADER.endTimeUs);
  draft.table.writeBigUInt64LE(BigInt.asUintN(64, from + BigInt(random.int(-1, 1))), at);
  return true;
};

/** Kind and fields of one record become those of another kind. */
const changeKind: Mutation = (draft, random) => {
  if (draft.recordCount === 0) return false;
  const at = recordAt(draft, random);
  const kind = random.int(1, 4);
  draft.table.writeUInt8(kind, at + RECORD.kind);
  if (kind !== 3 && random.chance(0.7)) draft.table.fill(0, at + RECORD.markKind, at + RECORD.timeUs);
  if (kind > 2 && random.chance(0.7)) draft.table.fill(0, at + RECORD.offsetBytes, at + RECORD_BYTES);
  return true;
};

const slice = (bytes: Buffer, at: number, length: number): Buffer => Buffer.from(bytes.subarray(at, at + length));

function swapEntries(table: Buffer, a: number, b: number, bytes: number): void {
  const one = slice(table, a, bytes);
  slice(table, b, bytes).copy(table, a);
  one.copy(table, b);
}

const swapRecords: Mutation = (draft, random) => {
  if (draft.recordCount < 2) return false;
  swapEntries(draft.table, recordAt(draft, random), recordAt(draft, random), RECORD_BYTES);
  return true;
};

const swapChunkEntries: Mutation = (draft, random) => {
  if (draft.chunkCount < 2) return false;
  const [a, b] = [random.int(0, draft.chunkCount - 1), random.int(0, draft.chunkCount - 1)];
  swapEntries(draft.table, chunkEntryAt(draft, a), chunkEntryAt(draft, b), CHUNK_BYTES);
  if (random.chance(0.5)) swapChunks(draft, a, b);
  return true;
};

function swapChunks(draft: Draft, a: number, b: number): void {
  const [one, other] = [draft.chunks[a], draft.chunks[b]];
  if (one === undefined || other === undefined) return;
  draft.chunks[a] = other;
  draft.chunks[b] = one;
}

/** Puts `inserted` into the table (or takes `removed` bytes out) and makes `tableBytes` fit, most of the time. */
function spliceTable(
  draft: Draft,
  at: number,
  { removed = 0, inserted = Buffer.alloc(0) }: { removed?: number; inserted?: Buffer },
  random: Random,
): void {
  const { table } = draft;
  draft.table = Buffer.concat([table.subarray(0, at), inserted, table.subarray(Math.min(table.length, at + removed))]);
  if (random.chance(0.9)) draft.head.writeUInt32LE(draft.table.length, HEADER.tableBytes);
}

const addRecords: Mutation = (draft, random) => {
  if (draft.recordCount === 0) return false;
  const at = recordAt(draft, random);
  const copies = random.int(1, 3);
  const one = slice(draft.table, at, RECORD_BYTES);
  spliceTable(draft, at, { inserted: Buffer.concat(Array.from({ length: copies }, () => one)) }, random);
  draft.recordCount += copies;
  draft.head.writeUInt32LE(draft.recordCount, HEADER.recordCount);
  return true;
};

const dropRecord: Mutation = (draft, random) => {
  if (draft.recordCount === 0) return false;
  spliceTable(draft, recordAt(draft, random), { removed: RECORD_BYTES }, random);
  draft.head.writeUInt32LE(--draft.recordCount, HEADER.recordCount);
  return true;
};

const addChunkEntry: Mutation = (draft, random) => {
  if (draft.chunkCount === 0) return false;
  const index = random.int(0, draft.chunkCount - 1);
  const at = chunkEntryAt(draft, index);
  spliceTable(draft, at, { inserted: slice(draft.table, at, CHUNK_BYTES) }, random);
  draft.head.writeUInt32LE(++draft.chunkCount, HEADER.chunkCount);
  const chunk = draft.chunks[index];
  if (chunk !== undefined && random.chance(0.7)) draft.chunks.splice(index, 0, chunk);
  return true;
};

const dropChunkEntry: Mutation = (draft, random) => {
  if (draft.chunkCount === 0) return false;
  const index = random.int(0, draft.chunkCount - 1);
  spliceTable(draft, chunkEntryAt(draft, index), { removed: CHUNK_BYTES }, random);
  draft.head.writeUInt32LE(--draft.chunkCount, HEADER.chunkCount);
  if (random.chance(0.7)) draft.chunks.splice(index, 1);
  return true;
};

/** Text bytes: damaged, longer or shorter, with the mark's length along or not. */
const changeTexts: Mutation = (draft, random) => {
  const from = chunkEntryAt(draft, draft.chunkCount);
  if (from >= draft.table.length) return false;
  const at = random.int(from, draft.table.length - 1);
  if (random.chance(0.5)) draft.table.writeUInt8(random.int(0, 255), at);
  else
    spliceTable(
      draft,
      at,
      random.chance(0.5) ? { removed: random.int(1, 4) } : { inserted: random.bytes(random.int(1, 4)) },
      random,
    );
  return true;
};

const growTable: Mutation = (draft, random) => {
  spliceTable(draft, draft.table.length, { inserted: Buffer.alloc(random.pick([1, 32, 40, 3000])) }, random);
  return true;
};

const NAMES: readonly string[] = [
  '',
  'a',
  'g',
  'shop2',
  '..',
  'a..b',
  '-a',
  'a.',
  'a/b',
  'A\0',
  'y'.repeat(63),
  'y'.repeat(64),
  'é',
  'z'.repeat(255),
];

/** Other names, with a header that is as long as they need, or not. */
const rename: Mutation = (draft, random) => {
  const { group, machine, disk } = draft.log.stream;
  const names = [group, machine, disk];
  names[random.int(0, 2)] = random.pick(NAMES);
  const fields = names.flatMap((name) => [Buffer.of(name.length), Buffer.from(name, 'latin1')]);
  const surplus = random.chance(0.1) ? [Buffer.alloc(random.pick([1, 4, 4000]))] : [];
  draft.head = Buffer.concat([draft.head.subarray(0, HEADER.names), ...fields, ...surplus]);
  if (random.chance(0.9)) draft.head.writeUInt32LE(draft.head.length + 4, HEADER.headerBytes);
  return true;
};

const nameLength: Mutation = ({ head, log }, random) => {
  const { group, machine } = log.stream;
  const at = random.pick([0, 1 + group.length, 2 + group.length + machine.length]) + HEADER.names;
  if (at >= head.length) return false;
  head.writeUInt8(random.pick([0, 1, 62, 63, 64, 255, head.readUInt8(at) ^ 1]), at);
  return true;
};

/** The header says that it is another segment of the log, and everything else is as it was. */
const claimOtherPlace: Mutation = ({ head, log }, random) => {
  const other = random.int(1, log.segments.length);
  const source = log.segments[other - 1]?.bytes ?? head;
  const [from, to] = random.pick([
    [HEADER.sequence, HEADER.streamStartUs],
    [HEADER.recordsBefore, HEADER.firstTimeUs],
    [HEADER.firstTimeUs, HEADER.diskSizeBytes],
    [HEADER.previousDigest, HEADER.keyCheck],
  ] as const);
  source.copy(head, from, from, to);
  return true;
};

/** The end of the segment's time moves: often a sound log of another watermark. */
const moveWatermark: Mutation = ({ head }, random) => {
  const end = head.readBigUInt64LE(HEADER.endTimeUs) + BigInt(random.int(-60, 600)) * 1_000_000n;
  head.writeBigUInt64LE(BigInt.asUintN(64, end), HEADER.endTimeUs);
  return true;
};

export const FIELD_MUTATIONS: readonly (readonly [string, Mutation])[] = [
  ...headerMutations,
  ...recordMutations,
  ...chunkEntryMutations,
  ['record: move range', moveRange],
  ['record: move time', moveTime],
  ['record: change kind', changeKind],
  ['record: swap', swapRecords],
  ['record: repeat', addRecords],
  ['record: drop', dropRecord],
  ['chunk: swap', swapChunkEntries],
  ['chunk: repeat', addChunkEntry],
  ['chunk: drop', dropChunkEntry],
  ['texts: change', changeTexts],
  ['table: grow', growTable],
  ['names: other', rename],
  ['names: length', nameLength],
  ['header: other place', claimOtherPlace],
  ['header: watermark', moveWatermark],
];
