/** Random logs of a group and what each point of them must hold: a plain replay, with none of the code under test. */
import * as fc from 'fast-check';
import { encodeSegment, type SegmentEntry } from '../../src/log/encode.ts';
import type { LogRecord } from '../../src/log/record.ts';
import type { LogUpload } from '../../src/drain/log-store.ts';
import type { LogStream } from '../../src/model/names.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';

export const DISK_BYTES = 1024 * 1024;
/** 2026-11-23T04:01:00Z: not on a boundary. */
export const START_US = 1_795_406_460_000_000;

export interface ModelEntry {
  readonly record: LogRecord;
  readonly data?: Buffer;
}

const eventArb = fc.record({
  /** 'boundary': exactly on the next five-minute boundary. */
  gapUs: fc.oneof(
    fc.constant(0),
    fc.constant('boundary' as const),
    fc.integer({ min: 1, max: 40_000_000 }),
    fc.integer({ min: 40_000_000, max: 400_000_000 }),
  ),
  what: fc.oneof(
    { weight: 8, arbitrary: fc.constant('write') },
    { weight: 2, arbitrary: fc.constant('discard') },
    { weight: 2, arbitrary: fc.constant('mark') },
  ),
  sector: fc.nat(DISK_BYTES / 512 - 1),
  sectors: fc.oneof(fc.integer({ min: 1, max: 32 }), fc.integer({ min: 100, max: 600 })),
  fill: fc.nat(255),
  disk: fc.nat(2),
  /** A mark is put into all disks; some get lost on one disk. */
  lostOn: fc.option(fc.nat(2), { nil: null, freq: 5 }),
  skewUs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 1000 })),
  markKind: fc.constantFrom('app' as const, 'crash' as const),
});
export type ModelEvent = typeof eventArb extends fc.Arbitrary<infer T> ? T : never;
export const eventsArb = fc.array(eventArb, { minLength: 1, maxLength: 60 });

/** The streams of `diskCount` disks: base copy of two writes, base-complete, then the events. All disks share one clock. */
export function streamsOf(
  events: readonly ModelEvent[],
  diskCount: number,
): { streams: ModelEntry[][]; endUs: number } {
  const streams = Array.from({ length: diskCount }, (_, disk): ModelEntry[] => [
    write(START_US, 0, 8192, 0x11 + disk),
    write(START_US, DISK_BYTES - 4096, 4096, 0x21 + disk),
    { record: { kind: 'base-complete', timeUs: START_US } },
  ]);
  let timeUs = START_US;
  for (const [index, event] of events.entries()) {
    timeUs = event.gapUs === 'boundary' ? nextBoundary(timeUs) : timeUs + event.gapUs;
    const offsetBytes = event.sector * 512;
    const lengthBytes = Math.min(event.sectors * 512, DISK_BYTES - offsetBytes);
    if (event.what === 'mark') {
      const id = `mark ${index}`;
      for (const [disk, stream] of streams.entries()) {
        if (event.lostOn === disk && diskCount > 1) continue;
        const markUs = timeUs + (disk === 0 ? 0 : event.skewUs);
        stream.push({ record: { kind: 'mark', timeUs: markUs, markKind: event.markKind, id } });
      }
      // No two marks share an instant on all disks: which one a disk lacks could then not be told from their times.
      timeUs += event.skewUs + 1;
      continue;
    }
    const stream = streams[event.disk % diskCount];
    if (event.what === 'write') stream?.push(write(timeUs, offsetBytes, lengthBytes, event.fill));
    else stream?.push({ record: { kind: 'discard', timeUs, offsetBytes, lengthBytes } });
  }
  return { streams, endUs: timeUs + 1 };
}

const nextBoundary = (timeUs: number): number => (Math.floor(timeUs / FIVE_MINUTES_US) + 1) * FIVE_MINUTES_US;

/** No two sectors of a write are alike, unless it writes zeroes. */
function write(timeUs: number, offsetBytes: number, lengthBytes: number, fill: number): ModelEntry {
  const data = Buffer.alloc(lengthBytes, fill);
  if (fill > 0) for (let at = 0; at < lengthBytes; at += 512) data.writeUInt32LE(fill * 65_536 + at / 512 + 1, at);
  return { record: { kind: 'write', timeUs, offsetBytes, lengthBytes }, data };
}

export function replay(entries: readonly ModelEntry[]): Buffer {
  const image = Buffer.alloc(DISK_BYTES);
  for (const { record, data } of entries) {
    if (record.kind === 'write') data?.copy(image, record.offsetBytes);
    if (record.kind === 'discard') image.fill(0, record.offsetBytes, record.offsetBytes + record.lengthBytes);
  }
  return image;
}

export interface ModelPoint {
  readonly cutUs: number;
  readonly kind: 'crash' | 'app';
  readonly images: readonly Buffer[];
  /** Writes and discards before the cut, per disk. */
  readonly changes: readonly number[];
}

function pointAt(cutUs: number, kind: ModelPoint['kind'], before: readonly (readonly ModelEntry[])[]): ModelPoint {
  const isChange = ({ record }: ModelEntry): boolean => record.kind === 'write' || record.kind === 'discard';
  return { cutUs, kind, images: before.map(replay), changes: before.map((entries) => entries.filter(isChange).length) };
}

/**
 * What the design says of a single-machine group: a crash point at each boundary that all logs have reached, an app point at each app
 * mark that is on all disks. Marks on all disks never straddle a boundary here unless their skew says so; those are left to the caller.
 */
export function expectedPoints(
  streams: readonly (readonly ModelEntry[])[],
  endUs: number,
  appMarks: boolean,
): ModelPoint[] {
  const points: ModelPoint[] = [];
  const first = Math.ceil(START_US / FIVE_MINUTES_US) * FIVE_MINUTES_US;
  for (let cutUs = first; cutUs <= endUs; cutUs += FIVE_MINUTES_US) {
    points.push(
      pointAt(
        cutUs,
        'crash',
        streams.map((s) => s.filter((e) => e.record.timeUs < cutUs)),
      ),
    );
  }
  if (!appMarks) return points;
  const ids = new Set(
    streams.flatMap((s) =>
      s.flatMap(({ record }) => (record.kind === 'mark' && record.markKind === 'app' ? [record.id] : [])),
    ),
  );
  for (const id of ids) {
    const places = streams.map((s) => s.findIndex(({ record }) => record.kind === 'mark' && record.id === id));
    if (places.includes(-1)) continue;
    const times = streams.map((s, disk) => s[places[disk] ?? 0]?.record.timeUs ?? 0);
    points.push(
      pointAt(
        Math.max(...times),
        'app',
        streams.map((s, disk) => s.slice(0, places[disk])),
      ),
    );
  }
  return points.toSorted((a, b) => a.cutUs - b.cutUs);
}

/** Ships the entries of one stream as segments that end where `cuts` says (counts of records), the last with the watermark `endUs`. */
export class ModelShipper {
  readonly #stream: LogStream;
  readonly #upload: LogUpload;
  #sequence = 0;
  #records = 0;
  #digest: Buffer = Buffer.alloc(32);
  #endUs = START_US;

  constructor(stream: LogStream, upload: LogUpload) {
    this.#stream = stream;
    this.#upload = upload;
  }

  async ship(entries: readonly ModelEntry[], endTimeUs: number, signal: AbortSignal): Promise<void> {
    this.#sequence++;
    const { bytes, digest } = encodeSegment(
      {
        stream: this.#stream,
        diskSizeBytes: DISK_BYTES,
        sequence: this.#sequence,
        streamStartUs: START_US,
        recordsBefore: this.#records,
        firstTimeUs: this.#endUs,
        endTimeUs,
        previousDigest: this.#digest,
      },
      entries.map(({ record, data }): SegmentEntry => (data === undefined ? { record } : { record, data })),
    );
    this.#digest = digest;
    this.#records += entries.length;
    this.#endUs = endTimeUs;
    const staged = await this.#upload.stage(this.#stream, this.#sequence, bytes, signal);
    await staged.commit(signal);
  }
}
