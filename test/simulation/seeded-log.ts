/** A random replication log of one group, and what must come of it: the design's rules and a plain replay. */
import { createCipheriv } from 'node:crypto';
import type { LogRecord, MarkKind } from '../../src/log/record.ts';
import { FIVE_MINUTES_US, HOUR_US } from '../../src/model/time.ts';
import { START_US, type ModelEntry } from '../support/model-log.ts';
import { pointIdOf } from '../support/point-oracle.ts';
import type { Random } from './random.ts';

const SECTOR = 512;
/** All writes of a log lie in so many sectors, so that they meet; the rest of the disk stays empty. */
const ARENA_SECTORS = 64;
/** Random payload of all seeds. zstd cannot shorten it, so nothing is decompressed in the thread pool, whose order no seed decides. */
export const NOISE = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16)).update(
  Buffer.alloc(4 * 1024 * 1024),
);

export interface ModelDisk {
  readonly machine: string;
  readonly disk: string;
}

export interface ModelSegment {
  readonly entries: readonly ModelEntry[];
  /** Watermark. */
  readonly endUs: number;
}

export interface ModelLane extends ModelDisk {
  readonly entries: readonly ModelEntry[];
  readonly segments: readonly ModelSegment[];
  /** Final watermark. */
  readonly endUs: number;
}

export interface Arena {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface SeededLog {
  readonly lanes: readonly ModelLane[];
  readonly machineCount: number;
  readonly appOn: boolean;
  readonly arena: Arena;
}

export interface ExpectedPoint {
  readonly id: string;
  readonly kind: MarkKind | 'latest';
  readonly cutUs: number;
  readonly mark: string | null;
  /** Entries before the cut, per disk. */
  readonly through: readonly number[];
  /** The arena of each disk. */
  readonly images: readonly Buffer[];
}

export function seededLog(random: Random, appOn: boolean): SeededLog {
  const machineCount = random.chance(0.25) ? 2 : 1;
  const disks = Array.from({ length: machineCount }, (_, m) =>
    Array.from({ length: random.int(1, machineCount === 1 ? 3 : 2) }, (_, d) => ({ machine: `m${m}`, disk: `d${d}` })),
  ).flat();
  // Sometimes across the 64 KiB at which extents and pages are cut.
  const firstSector = random.chance(0.3) ? 128 - ARENA_SECTORS / 2 : 0;
  const arena = { offsetBytes: firstSector * SECTOR, lengthBytes: ARENA_SECTORS * SECTOR };
  const writer = new LogWriter(random, disks, arena);
  writer.base();
  for (let event = random.int(3, 36); event > 0; event--) writer.event(machineCount);
  const finalUs = random.chance(0.3) ? nextBoundary(writer.nowUs) : writer.nowUs + 1;
  const lanes = disks.map((disk, index): ModelLane => {
    const entries = writer.streams[index] ?? [];
    return { ...disk, entries, segments: cutSegments(random, entries, finalUs), endUs: finalUs };
  });
  return { lanes, machineCount, appOn, arena };
}

const nextBoundary = (timeUs: number): number => (Math.floor(timeUs / FIVE_MINUTES_US) + 1) * FIVE_MINUTES_US;

/** Writes the streams of all disks along one course of time. */
class LogWriter {
  readonly streams: ModelEntry[][];
  nowUs = START_US;
  readonly #random: Random;
  readonly #arena: Arena;
  /** Clocks of two machines differ: by so much the mark of the second one is later. */
  readonly #skewUs: number;
  readonly #onSecondMachine: readonly boolean[];
  /** Disks that are still copied, each with the events left until then. */
  readonly #copying: number[];
  #poolAt: number;
  #marks = 0;

  constructor(random: Random, disks: readonly ModelDisk[], arena: Arena) {
    this.#random = random;
    this.#arena = arena;
    this.streams = disks.map(() => []);
    this.#onSecondMachine = disks.map(({ machine }) => machine !== 'm0');
    this.#skewUs = random.chance(0.5) ? 0 : random.int(1, 1000);
    this.#copying = disks.map(() => (random.chance(0.7) ? 0 : random.int(1, 5)));
    this.#poolAt = random.int(0, 4095) * SECTOR;
  }

  base(): void {
    for (const index of this.streams.keys()) {
      this.#write(index, this.#arena.offsetBytes, 8 * SECTOR);
      if (this.#random.chance(0.5)) this.#change(index);
      if (this.#copying[index] === 0) this.#completeBase(index);
    }
  }

  event(machineCount: number): void {
    this.nowUs = this.#nextTime(machineCount);
    for (const [index, left] of this.#copying.entries()) {
      if (left === 0) continue;
      this.#copying[index] = left - 1;
      if (left === 1) this.#completeBase(index);
    }
    const what = this.#random.weighted([
      [8, 'change'],
      [machineCount > 1 ? 4 : 2, 'mark'],
    ]);
    if (what === 'change') this.#change(this.#random.int(0, this.streams.length - 1));
    else this.#mark(machineCount);
  }

  #nextTime(machineCount: number): number {
    const random = this.#random;
    if (machineCount > 1) return this.nowUs + random.int(10_000, random.chance(0.1) ? HOUR_US : FIVE_MINUTES_US);
    return random.weighted([
      [3, this.nowUs],
      [2, nextBoundary(this.nowUs)],
      [6, this.nowUs + random.int(1, 60_000_000)],
      [3, this.nowUs + random.int(60_000_000, 400_000_000)],
      [0.3, this.nowUs + random.int(1, 60) * 60_000_000],
    ]);
  }

  #completeBase(index: number): void {
    this.streams[index]?.push({ record: { kind: 'base-complete', timeUs: this.#timeAt(index) } });
  }

  #timeAt(index: number): number {
    return this.nowUs + (this.#onSecondMachine[index] === true ? this.#skewUs : 0);
  }

  #change(index: number): void {
    const first = this.#random.int(0, ARENA_SECTORS - 1);
    const sectors = Math.min(ARENA_SECTORS - first, this.#random.chance(0.2) ? ARENA_SECTORS : this.#random.int(1, 12));
    const offsetBytes = this.#arena.offsetBytes + first * SECTOR;
    if (this.#random.chance(0.75)) this.#write(index, offsetBytes, sectors * SECTOR);
    else {
      const record: LogRecord = {
        kind: 'discard',
        timeUs: this.#timeAt(index),
        offsetBytes,
        lengthBytes: sectors * SECTOR,
      };
      this.streams[index]?.push({ record });
    }
  }

  #write(index: number, offsetBytes: number, lengthBytes: number): void {
    if (this.#poolAt + lengthBytes > NOISE.length) this.#poolAt = 0;
    const data = NOISE.subarray(this.#poolAt, this.#poolAt + lengthBytes);
    this.#poolAt += lengthBytes;
    this.streams[index]?.push({
      record: { kind: 'write', timeUs: this.#timeAt(index), offsetBytes, lengthBytes },
      data,
    });
  }

  /** Into every disk at one moment; now and then it gets lost on one of them, or another one follows at the same moment. */
  #mark(machineCount: number): void {
    const random = this.#random;
    const markKind: MarkKind = random.chance(machineCount > 1 ? 0.6 : 0.15) ? 'crash' : 'app';
    const lostOn = this.streams.length > 1 && random.chance(0.2) ? random.int(0, this.streams.length - 1) : -1;
    const id = `mark ${String(++this.#marks).padStart(4, '0')}`;
    for (const [index, stream] of this.streams.entries()) {
      if (index !== lostOn) stream.push({ record: { kind: 'mark', timeUs: this.#timeAt(index), markKind, id } });
    }
    // Of clocks that differ nobody can tell which of two marks of one moment came first.
    if (random.chance(0.1) && (machineCount === 1 || this.#skewUs === 0)) this.#mark(machineCount);
  }
}

/** Segments of random lengths, empty ones among them, with every watermark that the records allow. */
function cutSegments(random: Random, entries: readonly ModelEntry[], finalUs: number): ModelSegment[] {
  const longest = random.pick([1, 3, 8, 30]);
  const segments: ModelSegment[] = [];
  let at = 0;
  let lastUs = START_US;
  while (at < entries.length) {
    const next = Math.min(entries.length, at + random.int(random.chance(0.15) ? 0 : 1, longest));
    const earliestUs = entries[next - 1]?.record.timeUs ?? lastUs;
    const latestUs = entries[next]?.record.timeUs ?? Math.max(finalUs, earliestUs);
    const endUs = random.weighted([
      [4, latestUs],
      [1, Math.max(lastUs, earliestUs)],
      [1, random.int(Math.max(lastUs, earliestUs), latestUs)],
    ]);
    segments.push({ entries: entries.slice(at, next), endUs });
    lastUs = endUs;
    at = next;
  }
  segments.push({ entries: [], endUs: Math.max(finalUs, lastUs) });
  return segments;
}

/** What every disk held just before `cutUs`. */
export function momentBefore({ lanes, arena }: SeededLog, cutUs: number): Pick<ExpectedPoint, 'through' | 'images'> {
  const through = lanes.map(({ entries }) => entries.filter(({ record }) => record.timeUs < cutUs).length);
  return {
    through,
    images: lanes.map(({ entries }, index) => new Replay(entries, arena).through(through[index] ?? 0)),
  };
}

interface ExpectedCut {
  readonly kind: MarkKind;
  readonly cutUs: number;
  readonly mark: string | null;
  readonly through: readonly number[];
}

/** Where each disk's initial copy ends: the index of that record. */
const baseIndex = ({ entries }: ModelLane): number =>
  entries.findIndex(({ record }) => record.kind === 'base-complete');

/** Every point that the log must give, oldest first; nothing before the initial copies of all disks are complete. */
export function expectedPoints(log: SeededLog): ExpectedPoint[] {
  const { lanes, arena } = log;
  if (lanes.some((lane) => baseIndex(lane) < 0)) return [];
  const replays = lanes.map((lane) => new Replay(lane.entries, arena));
  return distinct([...boundaryCuts(log), ...markCuts(log)].toSorted(byPlace)).map((cut) => ({
    ...cut,
    id: pointIdOf(cut.cutUs, cut.kind),
    images: replays.map((replay, index) => replay.through(cut.through[index] ?? 0)),
  }));
}

/** Every five minutes from the end of the last initial copy to the watermark, in a group of one machine. */
function boundaryCuts({ lanes, machineCount }: SeededLog): ExpectedCut[] {
  if (machineCount > 1) return [];
  const cuts: ExpectedCut[] = [];
  const completeUs = Math.max(...lanes.map((lane) => lane.entries[baseIndex(lane)]?.record.timeUs ?? 0));
  const endUs = Math.min(...lanes.map((lane) => lane.segments.at(-1)?.endUs ?? 0));
  for (
    let cutUs = Math.ceil(completeUs / FIVE_MINUTES_US) * FIVE_MINUTES_US;
    cutUs <= endUs;
    cutUs += FIVE_MINUTES_US
  ) {
    const through = lanes.map((lane) => {
      const base = baseIndex(lane);
      const stop = lane.entries.findIndex(({ record }, index) => index > base && record.timeUs >= cutUs);
      return stop < 0 ? lane.entries.length : stop;
    });
    cuts.push({ kind: 'crash', cutUs, mark: null, through });
  }
  return cuts;
}

/** Marks that the group cuts at, wherever all disks have them behind their initial copies. */
function markCuts(log: SeededLog): ExpectedCut[] {
  const cuts: ExpectedCut[] = [];
  for (const { id, kind } of stopMarks(log)) {
    const through = placesOf(log, id);
    if (through.includes(-1)) continue;
    const cutUs = Math.max(...log.lanes.map(({ entries }, index) => entries[through[index] ?? 0]?.record.timeUs ?? 0));
    cuts.push({ kind, cutUs, mark: id, through });
  }
  return cuts;
}

/** In the order in which they were made. */
function stopMarks({ lanes, machineCount, appOn }: SeededLog): readonly { id: string; kind: MarkKind }[] {
  const kinds = new Map<string, MarkKind>();
  for (const { record } of lanes.flatMap(({ entries }) => entries)) {
    if (record.kind === 'mark' && (record.markKind === 'app' ? appOn : machineCount > 1)) {
      kinds.set(record.id, record.markKind);
    }
  }
  return [...kinds].map(([id, kind]) => ({ id, kind })).toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

/** Index of the mark per disk; -1 where it is missing or within the initial copy. */
function placesOf({ lanes }: SeededLog, id: string): number[] {
  return lanes.map((lane) => {
    const place = lane.entries.findIndex(({ record }) => record.kind === 'mark' && record.id === id);
    return place > baseIndex(lane) ? place : -1;
  });
}

/**
 * Marks with a hole. `due`: those that the last point's content lies behind, which must have been reported. A mark with nothing
 * written behind it may wait at the boundary.
 */
export function lostMarks(
  log: SeededLog,
  last: ExpectedPoint | undefined,
): { readonly all: Set<string>; readonly due: Set<string> } {
  const all = new Set<string>();
  const due = new Set<string>();
  const protectedUs = Math.max(...log.lanes.map((lane) => lane.entries[baseIndex(lane)]?.record.timeUs ?? 0));
  for (const { id } of stopMarks(log)) {
    const places = placesOf(log, id);
    if (!places.includes(-1)) continue;
    all.add(id);
    const marks = log.lanes.flatMap(({ entries }, index) => {
      const place = places[index] ?? -1;
      const timeUs = entries[place]?.record.timeUs;
      if (timeUs === undefined) return [];
      const behind = entries.slice(place, last?.through[index] ?? 0);
      return [{ timeUs, isPassed: behind.some(({ record }) => record.kind === 'write' || record.kind === 'discard') }];
    });
    const isProtected = marks.every(({ timeUs }) => timeUs >= protectedUs);
    if (isProtected && marks.some(({ isPassed }) => isPassed)) due.add(id);
  }
  return { all, due };
}

/** On every disk the one with fewer entries comes first; a boundary comes before a mark of its time. */
function byPlace(a: ExpectedCut, b: ExpectedCut): number {
  if (a.mark !== null && b.mark !== null) return a.mark < b.mark ? -1 : 1;
  if (a.cutUs !== b.cutUs) return a.cutUs - b.cutUs;
  return Number(a.mark !== null) - Number(b.mark !== null);
}

/** At one instant there is at most one crash-consistent point and, after it, one app-consistent one: the first of each. */
function distinct(cuts: readonly ExpectedCut[]): ExpectedCut[] {
  const kept: ExpectedCut[] = [];
  for (const cut of cuts) {
    const last = kept.at(-1);
    const follows = last === undefined || cut.cutUs > last.cutUs || (last.kind === 'crash' && cut.kind === 'app');
    if (follows) kept.push(cut);
  }
  return kept;
}

/** What a disk's arena holds after its first entries; asked for in rising order. */
export class Replay {
  readonly #entries: readonly ModelEntry[];
  readonly #arena: Arena;
  #done = 0;
  #image: Buffer;

  constructor(entries: readonly ModelEntry[], arena: Arena) {
    this.#entries = entries;
    this.#arena = arena;
    this.#image = Buffer.alloc(arena.lengthBytes);
  }

  through(count: number): Buffer {
    if (count < this.#done) throw new Error('a replay does not go back');
    if (count > this.#done) this.#image = Buffer.from(this.#image);
    for (; this.#done < count; this.#done++) {
      const entry = this.#entries[this.#done];
      if (entry?.record.kind !== 'write' && entry?.record.kind !== 'discard') continue;
      const at = entry.record.offsetBytes - this.#arena.offsetBytes;
      if (entry.data === undefined) this.#image.fill(0, at, at + entry.record.lengthBytes);
      else entry.data.copy(this.#image, at);
    }
    return this.#image;
  }
}
