/**
 * The process server: turns a trace into the replication logs of one or several disks.
 *
 *   records of disk A ─┐ merged by source time,                ┌─ segmenter A ─┐               ┌─ commits of A, in order
 *   records of disk B ─┴─ equal times in the callers' order ───┴─ segmenter B ─┴─ staged ×4 ───┴─ commits of B, in order
 *
 * Memory: per disk one open segment (`segmentBytes` of payload), its encoding, one write, and a zstd window (at most 128 MiB); over all
 * disks `inFlight` + 1 encoded segments.
 */
import type { LogStore, LogUpload } from '../drain/log-store.ts';
import { TidemarkError } from '../errors.ts';
import type { EncodeOptions } from '../log/encode.ts';
import { RECORD_BYTES } from '../log/layout.ts';
import { MAX_SEGMENT_PAYLOAD_BYTES, MAX_SEGMENT_RECORDS, MAX_SEGMENT_TIME_US, MAX_TIME_US } from '../log/limits.ts';
import { MIB } from '../model/sizes.ts';
import { isoFromUs } from '../model/time.ts';
import { mismatch, readBookmark } from './bookmark.ts';
import type { Bookmark } from './bookmark.ts';
import { DiskShipper } from './disk-shipper.ts';
import type { DiskShipment, ShipDisk } from './disk-shipper.ts';
import { SegmentUploader } from './segment-uploader.ts';
import { sourceTimeUs } from './source-records.ts';

/** The design's segment format: a segment closes at 8 MiB of payload. */
export const DEFAULT_SEGMENT_BYTES = 8 * MIB;
/** Enough to hide the latency of one upload behind the others; more only costs memory. */
export const DEFAULT_IN_FLIGHT = 4;
const MIN_DEFAULT_AGE_US = 10_000_000;
/** Keeps a long shipment's heartbeats far below the 5,000 blobs that Azurite handles. */
const DEFAULT_SEGMENTS = 400;

export interface ShipProgress {
  readonly disk: DiskShipment;
  readonly startUs: number;
  readonly finalUs: number;
}

export interface ShipOptions {
  /** At least one; each stream once. */
  readonly disks: readonly ShipDisk[];
  readonly upload: LogUpload;
  readonly log: Pick<LogStore, 'read'>;
  /** The largest time over all disks of the trace, shipped or not; microseconds of trace time. */
  readonly traceEndUs: number;
  /** Source time of trace time 0. Default: that of what is shipped already, else `nowUs` − length of the whole trace. */
  readonly startUs?: number;
  /** The wall clock, microseconds since 1970. */
  readonly nowUs: () => number;
  /** Positive integer. */
  readonly stretch: number;
  /** Ship only entries before this trace time, and end there. */
  readonly untilUs?: number;
  /** Source time that a segment covers at most. Default: the larger of 10 s and a 400th of the shipment. */
  readonly segmentAgeUs?: number;
  readonly segmentBytes?: number;
  readonly inFlight?: number;
  /** Its `key` also opens what is shipped already. */
  readonly encode?: EncodeOptions;
  /** Called after each commit. */
  readonly onProgress?: (progress: ShipProgress) => void;
  readonly signal: AbortSignal;
}

export interface ShipResult {
  readonly startUs: number;
  /** The watermark that every disk has reached or passed. */
  readonly finalUs: number;
  /** As in the options. */
  readonly disks: readonly DiskShipment[];
}

/** The start that all bookmarks and the caller agree on. */
function agreeOnStart(options: ShipOptions, bookmarks: readonly (Bookmark | undefined)[]): number {
  const lengthUs = sourceTimeUs(0, options.traceEndUs, options.stretch);
  let startUs = options.startUs;
  for (const [index, bookmark] of bookmarks.entries()) {
    const disk = options.disks[index];
    if (bookmark === undefined || disk === undefined) continue;
    const { streamStartUs } = bookmark.last.header;
    if (startUs !== undefined && startUs !== streamStartUs) {
      throw mismatch(disk.stream, `it began at ${isoFromUs(streamStartUs)}, not at ${isoFromUs(startUs)}`);
    }
    startUs = streamStartUs;
  }
  return startUs ?? options.nowUs() - lengthUs;
}

interface NumberRule {
  readonly what: string;
  readonly value: number | undefined;
  readonly least: number;
  readonly most: number;
}

/** @throws TidemarkError USAGE unless the value is whole and in its limits, or not given. */
function requireNumber({ what, value, least, most }: NumberRule): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most)) return;
  throw new TidemarkError('USAGE', `${what} is ${value}, and must be a whole number from ${least} to ${most}`);
}

/** @throws TidemarkError USAGE */
function requireOptions({ disks, stretch, untilUs, startUs, segmentAgeUs, segmentBytes }: ShipOptions): void {
  if (disks.length === 0) throw new TidemarkError('USAGE', 'there is no disk to ship');
  requireNumber({ what: 'the stretch', value: stretch, least: 1, most: MAX_TIME_US });
  requireNumber({ what: 'the end, in microseconds of trace time,', value: untilUs, least: 1, most: MAX_TIME_US });
  requireNumber({ what: 'the start, in microseconds since 1970,', value: startUs, least: 0, most: MAX_TIME_US });
  const ageRule = { what: "a segment's age, in microseconds,", least: 1, most: MAX_SEGMENT_TIME_US };
  requireNumber({ ...ageRule, value: segmentAgeUs });
  const sizeRule = { what: "a segment's payload, in bytes,", least: 1, most: MAX_SEGMENT_PAYLOAD_BYTES };
  requireNumber({ ...sizeRule, value: segmentBytes });
}

const minimum = <T>(items: readonly T[], value: (item: T) => number | undefined): T | undefined => {
  let least: T | undefined;
  let leastValue = Number.POSITIVE_INFINITY;
  for (const item of items) {
    const itemValue = value(item);
    if (itemValue !== undefined && itemValue < leastValue) {
      least = item;
      leastValue = itemValue;
    }
  }
  return least;
};

/**
 * Runs all disks in one source time: what is next is the earliest record or, when it is not later, the earliest deadline of an
 * open segment. So the watermarks of the disks are never further apart than the age of a segment.
 */
async function shipInStep(shippers: readonly DiskShipper[], finalUs: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const next = minimum(shippers, (shipper) => shipper.nextTimeUs);
    const oldest = minimum(shippers, (shipper) => shipper.deadlineUs);
    if (oldest !== undefined && oldest.deadlineUs <= (next?.nextTimeUs ?? finalUs)) await oldest.closeByAge();
    else if (next === undefined) break;
    else await next.take();
  }
  for (const shipper of shippers) await shipper.finish(finalUs);
}

const defaultAgeUs = (lengthUs: number): number =>
  Math.min(Math.max(MIN_DEFAULT_AGE_US, Math.ceil(lengthUs / DEFAULT_SEGMENTS)), MAX_SEGMENT_TIME_US);

async function readBookmarks(options: ShipOptions): Promise<readonly (Bookmark | undefined)[]> {
  const { upload, log, signal } = options;
  const key = options.encode?.key;
  const bookmarks: (Bookmark | undefined)[] = [];
  for (const { stream, diskSizeBytes } of options.disks) {
    bookmarks.push(await readBookmark({ stream, diskSizeBytes, upload, log, key, signal }));
  }
  return bookmarks;
}

function openShippers(
  options: ShipOptions,
  uploader: SegmentUploader,
  bookmarks: readonly (Bookmark | undefined)[],
): { readonly shippers: readonly DiskShipper[]; readonly startUs: number; readonly finalUs: number } {
  const { stretch, untilUs, signal, onProgress } = options;
  const startUs = agreeOnStart(options, bookmarks);
  const finalUs = sourceTimeUs(startUs, untilUs ?? options.traceEndUs, stretch);
  const limits = {
    payloadBytes: options.segmentBytes ?? DEFAULT_SEGMENT_BYTES,
    tableBytes: MAX_SEGMENT_RECORDS * RECORD_BYTES,
    ageUs: options.segmentAgeUs ?? defaultAgeUs(finalUs - startUs),
  };
  const shippers = options.disks.map(
    (disk, index) =>
      new DiskShipper({
        disk,
        bookmark: bookmarks[index],
        startUs,
        stretch,
        untilUs: untilUs === undefined ? Number.POSITIVE_INFINITY : finalUs,
        limits,
        uploader,
        encode: options.encode ?? {},
        committed: (shipment) => onProgress?.({ disk: shipment, startUs, finalUs }),
        signal,
      }),
  );
  return { shippers, startUs, finalUs };
}

/**
 * Ships what is not shipped yet, and returns when all of it is visible. The same arguments give the same records and, on a
 * fresh stream, the same segments; a call that was cut off at any moment is made good by the same call.
 * @throws TidemarkError SOURCE_MISMATCH when the arguments do not fit what is shipped, SOURCE_CONFLICT when another source ships
 * the same disk, USAGE, TRACE_*, and what the ports throw
 */
export async function shipTrace(options: ShipOptions): Promise<ShipResult> {
  requireOptions(options);
  const bookmarks = await readBookmarks(options);
  const { upload, log, signal } = options;
  const uploader = new SegmentUploader({ upload, log, inFlight: options.inFlight ?? DEFAULT_IN_FLIGHT, signal });
  const { shippers, startUs, finalUs } = openShippers(options, uploader, bookmarks);
  try {
    for (const shipper of shippers) await shipper.open();
    await shipInStep(shippers, finalUs, signal);
    await uploader.finish();
  } finally {
    await uploader.stop();
    for (const shipper of shippers) await shipper.close();
  }
  return { startUs, finalUs, disks: shippers.map(({ shipment }) => shipment) };
}
