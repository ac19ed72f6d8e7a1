/**
 * The test oracle: replays a trace folder plainly, whole files in memory. It shares no code with src/source, so that an error there
 * cannot hide here.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, zstdDecompressSync } from 'node:zlib';

export const TRACE_NAMES = [
  't1-ext4-sqlite',
  't2-ext4-postgres',
  't3-xfs-churn',
  't4-two-disks',
  't5-btrfs-churn',
] as const;
export type TraceName = (typeof TRACE_NAMES)[number];

/** The folder of a bundled trace; t2 is the demo's. */
export function tracePath(name: TraceName): string {
  const relative = name === 't2-ext4-postgres' ? '../../src/demo/trace' : `../fixtures/traces/${name}`;
  return fileURLToPath(new URL(relative, import.meta.url));
}

export interface ExpectedMark {
  readonly kind: string;
  readonly text: string;
  readonly t_us: number;
  readonly seq: number;
  /** Per disk: the mark's own entry; the state is every entry before it. */
  readonly idx: readonly number[];
  readonly sha256: readonly string[];
}

export interface ExpectedCut {
  readonly kind: string;
  readonly seq: number;
  /** Per disk: how many entries lie before the cut. */
  readonly entries: readonly number[];
  readonly t_us: number;
  readonly sha256: readonly string[];
}

export interface Expectations {
  readonly disk_size: readonly number[];
  readonly entries: readonly number[];
  readonly sectorsize: number;
  readonly initial_sha256: readonly string[];
  readonly final_sha256: readonly string[];
  readonly marks: readonly ExpectedMark[];
  readonly cuts: readonly ExpectedCut[];
}

export const expectations = (dir: string): Expectations =>
  JSON.parse(readFileSync(join(dir, 'expect.json'), 'utf8')) as Expectations;

/** Every entry before number `entries`, or every entry with `t_us × stretch + startUs < beforeUs`. */
export type Cut =
  | { readonly entries: number }
  | { readonly beforeUs: number; readonly startUs: number; readonly stretch: number };

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

function load(dir: string, name: string): Buffer | undefined {
  const packed = join(dir, `${name}.zst`);
  if (existsSync(packed)) {
    return zstdDecompressSync(readFileSync(packed), { params: { [constants.ZSTD_d_windowLogMax]: 27 } });
  }
  return existsSync(join(dir, name)) ? readFileSync(join(dir, name)) : undefined;
}

function mustLoad(dir: string, name: string): Buffer {
  const bytes = load(dir, name);
  if (bytes === undefined) throw new Error(`${dir} has no ${name}`);
  return bytes;
}

/** `t_in_us` of every entry. */
export function traceTimes(dir: string, disk: number): number[] {
  const rows = mustLoad(dir, `disk${disk}.times.csv`).toString('latin1').trim().split('\n');
  return rows.slice(1).map((row) => Number(row.split(',')[2]));
}

const SECTOR_BYTES = 512;
/** The base copy leaves out blocks of this size that are zero (docs/source.md). */
const BASE_BLOCK_BYTES = 4096;

/** One disk of a trace, replayed forwards: cuts are asked for in ascending order. */
export class TraceReplay {
  /** The disk's bytes at the newest cut. Changes with the next one. */
  readonly image: Buffer;
  /** `t_in_us` of every entry. */
  readonly times: readonly number[];
  readonly #log: Buffer;
  readonly #sectorBytes: number;
  /** One per sector of 512 bytes: whether the base copy or an entry has touched it since {@link takeTouched}. */
  #touched: Uint8Array;
  /** Entries applied so far. */
  #index = 0;
  #position: number;

  /** `sizeBytes` is needed for folders without expect.json. */
  constructor(dir: string, disk: number, sizeBytes = expectations(dir).disk_size[disk]) {
    if (sizeBytes === undefined) throw new Error(`${dir} has no disk ${disk}`);
    this.image = Buffer.alloc(sizeBytes);
    load(dir, `initial${disk}.img`)?.copy(this.image);
    this.#touched = new Uint8Array(sizeBytes / SECTOR_BYTES);
    const zeroes = Buffer.alloc(BASE_BLOCK_BYTES);
    for (let at = 0; at < sizeBytes; at += BASE_BLOCK_BYTES) {
      if (!this.image.subarray(at, at + BASE_BLOCK_BYTES).equals(zeroes)) this.#touch(at, BASE_BLOCK_BYTES);
    }
    this.#log = mustLoad(dir, `disk${disk}.log`);
    this.#sectorBytes = this.#log.readUInt32LE(24);
    this.#position = this.#sectorBytes;
    this.times = traceTimes(dir, disk);
  }

  get entries(): number {
    return Number(this.#log.readBigUInt64LE(16));
  }

  #applyNext(): void {
    const at = this.#position;
    const offset = Number(this.#log.readBigUInt64LE(at)) * this.#sectorBytes;
    const length = Number(this.#log.readBigUInt64LE(at + 8)) * this.#sectorBytes;
    const flags = Number(this.#log.readBigUInt64LE(at + 16));
    const dataAt = at + this.#sectorBytes;
    const isMark = (flags & 8) !== 0;
    const isDiscard = (flags & 4) !== 0;
    const dataLength = isMark || isDiscard ? 0 : length;
    if (isDiscard) this.image.fill(0, offset, offset + length);
    else if (dataLength > 0) this.#log.copy(this.image, offset, dataAt, dataAt + dataLength);
    if (isDiscard || dataLength > 0) this.#touch(offset, length);
    this.#position = dataAt + dataLength;
    this.#index++;
  }

  /** Applies entries up to the cut, and returns how many have been applied in all. */
  advance(cut: Cut): number {
    const target = 'entries' in cut ? cut.entries : this.#entriesBefore(cut);
    if (target < this.#index) throw new Error(`cut at entry ${target} is before entry ${this.#index}`);
    if (target > this.entries) throw new Error(`the log has ${this.entries} entries, not ${target}`);
    while (this.#index < target) this.#applyNext();
    return this.#index;
  }

  #entriesBefore(cut: Extract<Cut, { readonly beforeUs: number }>): number {
    const found = this.times.findIndex((timeUs) => timeUs * cut.stretch + cut.startUs >= cut.beforeUs);
    return found < 0 ? this.times.length : found;
  }

  #touch(offsetBytes: number, lengthBytes: number): void {
    this.#touched.fill(1, offsetBytes / SECTOR_BYTES, (offsetBytes + lengthBytes) / SECTOR_BYTES);
  }

  /** Sectors written or discarded since the last call, the first time also those of the base copy: 1 per sector of 512 bytes. */
  takeTouched(): Uint8Array {
    const touched = this.#touched;
    this.#touched = new Uint8Array(touched.length);
    return touched;
  }

  sha256(): string {
    return sha256(this.image);
  }
}

/** A fresh image of one disk at one cut; for many cuts keep a {@link TraceReplay}. */
export function imageAtCut(dir: string, disk: number, cut: Cut, sizeBytes?: number): Buffer {
  const replay = new TraceReplay(dir, disk, sizeBytes);
  replay.advance(cut);
  return replay.image;
}

/** The trace's end in microseconds: the largest `t_in_us` over all disks. */
export function traceEnd(dir: string): number {
  let endUs = 0;
  for (let disk = 0; ; disk++) {
    const times = load(dir, `disk${disk}.times.csv`);
    if (times === undefined) break;
    const rows = times.toString('latin1').trim().split('\n');
    for (const row of rows.slice(1)) endUs = Math.max(endUs, Number(row.split(',')[2]));
  }
  return endUs;
}
