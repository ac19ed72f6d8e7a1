/**
 * The demo's own idea of what a trace's recovery points must hold: entries are applied to a buffer, one after the other. On purpose it
 * shares no code with the source, the coalescer or the drain, so that an error there cannot hide here.
 *
 * Memory: the whole disk and the whole log.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants, zstdDecompress } from 'node:zlib';
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import { GIB, MIB } from '../model/sizes.ts';
import { boundaryAtOrAfter, FIVE_MINUTES_US } from '../model/time.ts';
import { pointId } from '../points/manifest.ts';
import { openTraceFolder } from '../source/trace-folder.ts';

/** Disk and log are held in memory, each no larger than this. */
const MAX_BYTES = 2 * GIB;
/** zstd windows of up to 128 MiB, as `zstd --long=27` writes them. */
const UNPACK = { maxOutputLength: MAX_BYTES, params: { [constants.ZSTD_d_windowLogMax]: 27 } };
const unpack = promisify(zstdDecompress);

/** Kernel drivers/md/dm-log-writes.c. */
const DISCARD_FLAG = 4;
const MARK_FLAG = 8;
const APP_MARK = 'app-consistent';

const expectationsSchema = z.object({
  disk_size: z.array(z.int().min(MIB).max(MAX_BYTES).multipleOf(MIB)).length(1),
  marks: z.array(z.object({ text: z.string(), idx: z.array(z.int()), sha256: z.array(z.string().length(64)) })),
});

/** A point that the group must have when the whole trace is replicated. */
export interface ExpectedPoint {
  readonly point: string;
  readonly kind: 'crash' | 'app';
  readonly cutUs: number;
  /** How many of the trace's entries lie before the cut. */
  readonly entries: number;
  /** SHA-256 of the disk at this place, taken when the trace was recorded; null where none was. */
  readonly recordedSha256: string | null;
}

export class PlainReplay {
  /** The disk at the newest cut. Changes with the next one. */
  readonly image: Buffer;
  readonly #log: Buffer;
  readonly #timesUs: readonly number[];
  readonly #recorded: ReadonlyMap<string, string>;
  readonly #sectorBytes: number;
  #nextBytes: number;
  #applied = 0;

  private constructor(files: LoadedTrace) {
    this.image = files.image;
    this.#log = files.log;
    this.#timesUs = files.timesUs;
    this.#recorded = files.recorded;
    this.#sectorBytes = files.log.readUInt32LE(24);
    this.#nextBytes = this.#sectorBytes;
  }

  /** @throws TidemarkError TRACE_NOT_FOUND, DEMO_TRACE_INVALID */
  static async load(folder: string): Promise<PlainReplay> {
    return new PlainReplay(await loadTrace(folder));
  }

  /** Trace time of the last entry in microseconds. */
  get endUs(): number {
    return this.#timesUs.at(-1) ?? 0;
  }

  /**
   * In the order of their cuts: a crash-consistent point at every five-minute boundary from `startUs` through the trace's end, and an
   * app-consistent one at every app mark, for a group of this one disk.
   */
  expectedPoints(startUs: number, stretch: number): ExpectedPoint[] {
    const sourceTimeUs = (traceTimeUs: number): number => startUs + traceTimeUs * stretch;
    const points: Omit<ExpectedPoint, 'point'>[] = this.#appMarks().map(({ entry, text }) => ({
      kind: 'app',
      cutUs: sourceTimeUs(this.#timesUs[entry] ?? 0),
      entries: entry,
      recordedSha256: this.#recorded.get(text) ?? null,
    }));
    const finalUs = sourceTimeUs(this.endUs);
    for (let cutUs = boundaryAtOrAfter(startUs); cutUs <= finalUs; cutUs += FIVE_MINUTES_US) {
      const later = this.#timesUs.findIndex((timeUs) => sourceTimeUs(timeUs) >= cutUs);
      const entries = later < 0 ? this.#timesUs.length : later;
      points.push({ kind: 'crash', cutUs, entries, recordedSha256: null });
    }
    return points
      .toSorted((a, b) => a.cutUs - b.cutUs || a.entries - b.entries)
      .map((point) => ({ point: pointId(point), ...point }));
  }

  /** Applies everything before entry number `entries`; only forwards. */
  advance(entries: number): void {
    for (; this.#applied < entries; this.#applied++) {
      const { flags, offsetBytes, lengthBytes, dataAt, nextAt } = this.#entryAt(this.#nextBytes);
      if ((flags & DISCARD_FLAG) !== 0) this.image.fill(0, offsetBytes, offsetBytes + lengthBytes);
      else this.#log.copy(this.image, offsetBytes, dataAt, nextAt);
      this.#nextBytes = nextAt;
    }
  }

  #appMarks(): { entry: number; text: string }[] {
    const marks: { entry: number; text: string }[] = [];
    let at = this.#sectorBytes;
    for (let entry = 0; entry < this.#timesUs.length; entry++) {
      const { flags, textBytes, nextAt } = this.#entryAt(at);
      const text = this.#log.toString('utf8', at + 32, at + 32 + textBytes).replace(/\0.*$/s, '');
      if ((flags & MARK_FLAG) !== 0 && text.startsWith(APP_MARK)) marks.push({ entry, text });
      at = nextAt;
    }
    return marks;
  }

  /** `u64 sector, u64 sectors, u64 flags, u64 text length` in a sector of its own, then the data of a write. */
  #entryAt(at: number): {
    readonly flags: number;
    readonly offsetBytes: number;
    readonly lengthBytes: number;
    readonly textBytes: number;
    readonly dataAt: number;
    readonly nextAt: number;
  } {
    const offsetBytes = Number(this.#log.readBigUInt64LE(at)) * this.#sectorBytes;
    const lengthBytes = Number(this.#log.readBigUInt64LE(at + 8)) * this.#sectorBytes;
    const flags = Number(this.#log.readBigUInt64LE(at + 16));
    const textBytes = Number(this.#log.readBigUInt64LE(at + 24));
    const dataAt = at + this.#sectorBytes;
    const hasData = (flags & (DISCARD_FLAG | MARK_FLAG)) === 0;
    return { flags, offsetBytes, lengthBytes, textBytes, dataAt, nextAt: dataAt + (hasData ? lengthBytes : 0) };
  }
}

interface LoadedTrace {
  readonly image: Buffer;
  readonly log: Buffer;
  readonly timesUs: readonly number[];
  readonly recorded: ReadonlyMap<string, string>;
}

async function loadTrace(folder: string): Promise<LoadedTrace> {
  const [disk, more] = (await openTraceFolder(folder)).disks;
  if (disk === undefined || more !== undefined) throw invalid(folder, 'has more than one disk');
  const expected = expectationsSchema.safeParse(
    parseJson(await readFile(join(folder, 'expect.json'), 'utf8').catch(() => '')),
  );
  if (!expected.success) throw invalid(folder, `has no usable expect.json: ${z.prettifyError(expected.error)}`);
  const image = Buffer.alloc(expected.data.disk_size[0] ?? 0);
  if (disk.imageFile !== undefined) (await load(disk.imageFile)).copy(image);
  const [header = '', ...rows] = (await load(disk.timesFile)).toString('latin1').trim().split('\n');
  const column = header.trim().split(',').indexOf('t_in_us');
  const recorded = expected.data.marks.flatMap(({ text, sha256: [sha256] }) =>
    sha256 === undefined ? [] : [[text, sha256] as const],
  );
  return {
    image,
    log: await load(disk.logFile),
    timesUs: rows.map((row) => Number(row.split(',')[column])),
    recorded: new Map(recorded),
  };
}

async function load(file: string): Promise<Buffer> {
  const bytes = await readFile(file);
  return file.endsWith('.zst') ? unpack(bytes, UNPACK) : bytes;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const invalid = (folder: string, problem: string): TidemarkError =>
  new TidemarkError('DEMO_TRACE_INVALID', `the trace folder ${folder} ${problem}`);
