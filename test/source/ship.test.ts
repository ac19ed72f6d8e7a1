import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLogKey } from '../../src/log/seal.ts';
import { MemoryLogStore } from '../../src/memory/memory-log-store.ts';
import type { LogStream } from '../../src/model/names.ts';
import { SegmentUploader } from '../../src/source/segment-uploader.ts';
import { shipTrace } from '../../src/source/ship.ts';
import type { ShipOptions, ShipResult } from '../../src/source/ship.ts';
import type { SourceRecord } from '../../src/source/source-records.ts';
import { openTraceFolder, traceEndUs } from '../../src/source/trace-folder.ts';
import { expectations, sha256, tracePath } from '../support/trace-oracle.ts';
import { writeTrace } from './make-trace.ts';
import type { MadeDisk, MadeEntry } from './make-trace.ts';
import { breaksWatermarkRule, readStream, RUNNING, WatchedUpload } from './ship-support.ts';

const MIB = 1024 * 1024;
const DISK_BYTES = 2 * MIB;
const START_US = 1_790_000_000_000_000;
let root: string;
let made = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'tidemark-ship-'));
});
afterAll(async () => {
  await rm(root, { recursive: true });
});

const streamOf = (disk: number): LogStream => ({ group: 'g', machine: 'm', disk: `disk${disk}`, epoch: 1 });

type Settings = Partial<Omit<ShipOptions, 'disks' | 'upload' | 'log'>>;

/** Ships all disks of a folder into `upload`'s store. */
async function ship(dir: string, upload: WatchedUpload, settings: Settings = {}): Promise<ShipResult> {
  const trace = await openTraceFolder(dir);
  return shipTrace({
    disks: trace.disks.map((files, disk) => ({ stream: streamOf(disk), diskSizeBytes: DISK_BYTES, files })),
    upload,
    log: upload.store,
    traceEndUs: await traceEndUs(trace.disks, RUNNING),
    nowUs: () => START_US + 1_000_000_000,
    startUs: START_US,
    stretch: 1,
    signal: RUNNING,
    ...settings,
  });
}

const write = (timeUs: number, sector: number, sectors: number, value: number): MadeEntry => ({
  kind: 'write',
  timeUs,
  sector,
  data: Buffer.alloc(sectors * 512, value),
});

const entryArbitrary: fc.Arbitrary<(timeUs: number) => MadeEntry> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ sector: fc.nat(3999), sectors: fc.integer({ min: 1, max: 96 }), value: fc.nat(255) }).map(
      ({ sector, sectors, value }) =>
        (timeUs: number) =>
          write(timeUs, sector, sectors, value),
    ),
  },
  fc
    .record({ sector: fc.nat(95), sectors: fc.integer({ min: 1, max: 4000 }) })
    .map((range) => (timeUs: number): MadeEntry => ({ kind: 'discard', timeUs, ...range })),
  fc
    .tuple(fc.constantFrom('app-consistent id=', 'crash-consistent id=', 'mounted '), fc.nat(99))
    .map(([text, id]) => (timeUs: number): MadeEntry => ({ kind: 'mark', timeUs, text: `${text}${id}` })),
  fc.constant((timeUs: number): MadeEntry => ({ kind: 'flush', timeUs })),
);

const diskArbitrary: fc.Arbitrary<MadeDisk> = fc
  .record({
    steps: fc.array(fc.tuple(fc.oneof(fc.constant(0), fc.nat(50_000)), entryArbitrary), { maxLength: 30 }),
    blocks: fc.uniqueArray(fc.nat(DISK_BYTES / 4096 - 1), { maxLength: 20 }),
  })
  .map(({ steps, blocks }) => {
    let timeUs = 0;
    const image = Buffer.alloc(DISK_BYTES);
    for (const block of blocks) image.fill(block + 1, block * 4096, block * 4096 + 4096);
    return { entries: steps.map(([gapUs, make]) => make((timeUs += gapUs))), image };
  });

/** What the log has to hold, made from the trace without any code of the source side. */
function expectedRecords(disk: MadeDisk, stretch: number, untilUs = Number.POSITIVE_INFINITY): SourceRecord[] {
  const records: SourceRecord[] = [{ record: { kind: 'base-complete', timeUs: START_US } }];
  for (const entry of disk.entries) {
    const timeUs = START_US + entry.timeUs * stretch;
    if (entry.timeUs >= untilUs) continue;
    if (entry.kind === 'write') {
      const lengthBytes = entry.data.length;
      records.push({
        record: { kind: 'write', timeUs, offsetBytes: entry.sector * 512, lengthBytes },
        data: entry.data,
      });
    }
    if (entry.kind === 'discard') {
      const range = { offsetBytes: entry.sector * 512, lengthBytes: entry.sectors * 512 };
      records.push({ record: { kind: 'discard', timeUs, ...range } });
    }
    if (entry.kind === 'mark' && !entry.text.startsWith('mounted')) {
      const markKind = entry.text.startsWith('app') ? 'app' : 'crash';
      records.push({ record: { kind: 'mark', timeUs, markKind, id: entry.text } });
    }
  }
  return records;
}

/** Splits off the base copy, and applies it to a disk of zeroes. */
function splitBase(records: readonly SourceRecord[]): { readonly image: Buffer; readonly rest: SourceRecord[] } {
  const image = Buffer.alloc(DISK_BYTES);
  const end = records.findIndex(({ record }) => record.kind === 'base-complete');
  for (const { record, data } of records.slice(0, end)) {
    if (record.kind === 'write') data?.copy(image, record.offsetBytes);
    expect(record.timeUs).toBe(START_US);
  }
  return { image, rest: records.slice(end) };
}

/** Comparing long buffers byte by byte takes the test runner seconds. */
const asText = (records: readonly SourceRecord[]): unknown[] =>
  records.map(({ record, data }) => ({ ...record, data: data?.toString('latin1') }));

const endOf = (disks: readonly MadeDisk[]): number =>
  Math.max(0, ...disks.flatMap(({ entries }) => entries.map(({ timeUs }) => timeUs)));

const shipmentArbitrary = fc.record({
  disks: fc.array(diskArbitrary, { minLength: 1, maxLength: 2 }),
  stretch: fc.constantFrom(1, 7, 60),
  segmentAgeUs: fc.integer({ min: 20_000, max: 3_000_000 }),
  segmentBytes: fc.integer({ min: 512, max: 200_000 }),
});

test('property: the segments hold the trace, keep the watermark rule, and leave no disk behind by more than an age', async () => {
  await fc.assert(
    fc.asyncProperty(shipmentArbitrary, async ({ disks, stretch, segmentAgeUs, segmentBytes }) => {
      const dir = await writeTrace(join(root, String(made++)), disks);
      const upload = new WatchedUpload();
      const watermarks = new Map<string, number>(disks.map((_, disk) => [`disk${disk}`, START_US]));
      const settings = { stretch, segmentAgeUs, segmentBytes, inFlight: 1 };
      const result = await ship(dir, upload, {
        ...settings,
        onProgress: ({ disk }) => {
          watermarks.set(disk.stream.disk, disk.watermarkUs ?? -1);
          const all = [...watermarks.values()];
          expect(Math.max(...all) - Math.min(...all)).toBeLessThanOrEqual(segmentAgeUs);
        },
      });
      const finalUs = START_US + endOf(disks) * stretch;
      expect(result).toMatchObject({ startUs: START_US, finalUs });
      for (const [number, disk] of disks.entries()) {
        const { segments, records } = await readStream(upload.store, streamOf(number), DISK_BYTES);
        const { image, rest } = splitBase(records);
        expect(image.equals(disk.image ?? Buffer.alloc(0))).toBe(true);
        expect(asText(rest)).toEqual(asText(expectedRecords(disk, stretch)));
        expect(breaksWatermarkRule(segments)).toBeUndefined();
        expect(segments.at(-1)?.header.endTimeUs).toBe(finalUs);
        for (const { header, payloadBytes, records } of segments) {
          expect(header.endTimeUs - header.firstTimeUs).toBeLessThanOrEqual(segmentAgeUs);
          expect(payloadBytes <= segmentBytes || records.length === 1).toBe(true);
        }
        expect(result.disks[number]).toMatchObject({
          segments: segments.length,
          records: records.length,
          rawBytes: segments.reduce((sum, { payloadBytes }) => sum + payloadBytes, 0),
          storedBytes: segments.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
          totalRecords: records.length,
          lastSequence: segments.length,
          watermarkUs: finalUs,
        });
      }
    }),
    { numRuns: 40 },
  );
});

/** Two busy disks, with a pause in which only heartbeats go out. */
const BUSY: readonly MadeDisk[] = [0, 1].map((disk) => {
  const image = Buffer.alloc(DISK_BYTES);
  image.fill(disk + 1, 8192, 200_000);
  const entries: MadeEntry[] = [];
  for (let step = 0; step < 24; step++) {
    const timeUs = step < 16 ? step * 10_000 : 1_000_000 + step * 10_000;
    entries.push(write(timeUs, step * 50, 8 + disk * 16, step + 1));
    if (step % 6 === 5) entries.push({ kind: 'mark', timeUs, text: `app-consistent id=${step}` });
  }
  return { entries, image };
});
const BUSY_SETTINGS = { segmentAgeUs: 100_000, segmentBytes: 30_000 };

/** Per disk, the digests of its segments' bytes. */
async function contentOf(store: MemoryLogStore): Promise<readonly (readonly string[])[]> {
  return Promise.all(
    BUSY.map(async (_, disk) =>
      (await readStream(store, streamOf(disk), DISK_BYTES)).blobs.map((blob) => sha256(blob)),
    ),
  );
}

describe('stopping and going on', () => {
  test('after a stop at any commit the same call makes the same segments, byte for byte', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const whole = new WatchedUpload();
    await ship(dir, whole, BUSY_SETTINGS);
    const wanted = await contentOf(whole.store);
    expect(whole.commits.length).toBeGreaterThan(30);
    for (let stopAfter = 1; stopAfter < whole.commits.length; stopAfter++) {
      const upload = new WatchedUpload();
      const stop = new AbortController();
      upload.afterCommit = () => {
        if (upload.commits.length === stopAfter) stop.abort(new Error('killed'));
      };
      await expect(ship(dir, upload, { ...BUSY_SETTINGS, signal: stop.signal })).rejects.toThrow('killed');
      expect(upload.commits.length).toBe(stopAfter);
      const again = new WatchedUpload(upload.store);
      await ship(dir, again, BUSY_SETTINGS);
      expect(again.commits.length).toBe(whole.commits.length - stopAfter);
      expect(await contentOf(upload.store)).toEqual(wanted);
    }
  });

  test('a sealed stream goes on with its key, and with no other', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const upload = new WatchedUpload();
    const key = createLogKey(Buffer.alloc(32, 1));
    await ship(dir, upload, { ...BUSY_SETTINGS, untilUs: 100_000, encode: { key } });
    for (const encode of [{}, { key: createLogKey(Buffer.alloc(32, 2)) }]) {
      await expect(ship(dir, upload, { ...BUSY_SETTINGS, encode })).rejects.toMatchObject({ code: 'SOURCE_MISMATCH' });
    }
    await ship(dir, upload, { ...BUSY_SETTINGS, encode: { key } });
    const { records } = await readStream(upload.store, streamOf(0), DISK_BYTES, key);
    expect(asText(splitBase(records).rest)).toEqual(asText(expectedRecords(BUSY[0] ?? { entries: [] }, 1)));
  });

  test('a stream that is shipped whole is left alone, also without --start', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const upload = new WatchedUpload();
    const first = await ship(dir, upload, BUSY_SETTINGS);
    const staged = upload.staged;
    const { startUs: _, ...rest } = { startUs: 0, ...BUSY_SETTINGS };
    const trace = await openTraceFolder(dir);
    const second = await shipTrace({
      ...rest,
      disks: trace.disks.map((files, disk) => ({ stream: streamOf(disk), diskSizeBytes: DISK_BYTES, files })),
      upload,
      log: upload.store,
      traceEndUs: await traceEndUs(trace.disks, RUNNING),
      nowUs: () => 5,
      stretch: 1,
      signal: RUNNING,
    });
    expect(upload.staged).toBe(staged);
    expect(second.startUs).toBe(START_US);
    expect(second.disks).toEqual(
      first.disks.map((disk) => ({ ...disk, segments: 0, records: 0, rawBytes: 0, storedBytes: 0 })),
    );
  });

  test('--until ends before its time, and a later call goes on from there', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const upload = new WatchedUpload();
    for (const untilUs of [50_000, 50_001, 600_000, undefined]) {
      const result = await ship(dir, upload, { ...BUSY_SETTINGS, ...(untilUs === undefined ? {} : { untilUs }) });
      expect(result.finalUs).toBe(START_US + (untilUs ?? endOf(BUSY)));
      for (const [number, disk] of BUSY.entries()) {
        const { segments, records } = await readStream(upload.store, streamOf(number), DISK_BYTES);
        const { image, rest } = splitBase(records);
        expect(image.equals(disk.image ?? Buffer.alloc(0))).toBe(true);
        expect(asText(rest)).toEqual(asText(expectedRecords(disk, 1, untilUs)));
        expect(segments.at(-1)?.header.endTimeUs).toBe(result.finalUs);
        expect(breaksWatermarkRule(segments)).toBeUndefined();
      }
    }
    const staged = upload.staged;
    await ship(dir, upload, { ...BUSY_SETTINGS, untilUs: 100_000 });
    expect(upload.staged).toBe(staged);
  });

  test('the default start is the wall clock less the length of the trace', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const trace = await openTraceFolder(dir);
    const upload = new WatchedUpload();
    const result = await shipTrace({
      disks: trace.disks.map((files, disk) => ({ stream: streamOf(disk), diskSizeBytes: DISK_BYTES, files })),
      upload,
      log: upload.store,
      traceEndUs: await traceEndUs(trace.disks, RUNNING),
      nowUs: () => START_US,
      stretch: 60,
      signal: RUNNING,
    });
    expect(result).toMatchObject({ startUs: START_US - endOf(BUSY) * 60, finalUs: START_US });
  });
});

describe('arguments that do not fit what is shipped', () => {
  test.each([
    ['another start', { startUs: START_US + 1 }],
    ['another stretch', { stretch: 2 }],
  ])('%s', async (_, settings) => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const upload = new WatchedUpload();
    // The end lies in the pause, so that the newest segments are heartbeats.
    await ship(dir, upload, { ...BUSY_SETTINGS, untilUs: 900_000 });
    const staged = upload.staged;
    await expect(ship(dir, upload, settings)).rejects.toMatchObject({ code: 'SOURCE_MISMATCH' });
    expect(upload.staged).toBe(staged);
  });

  test.each([
    ['a shorter trace', (disk: MadeDisk): MadeDisk => ({ ...disk, entries: disk.entries.slice(0, 5) })],
    [
      'a trace with another last record',
      (disk: MadeDisk): MadeDisk => ({ ...disk, entries: [...disk.entries.slice(0, -1), write(1_230_000, 7, 1, 1)] }),
    ],
    ['another base copy', ({ entries }: MadeDisk): MadeDisk => ({ entries })],
  ])('%s', async (_, change) => {
    const upload = new WatchedUpload();
    await ship(await writeTrace(join(root, String(made++)), BUSY), upload, BUSY_SETTINGS);
    const staged = upload.staged;
    const other = await writeTrace(join(root, String(made++)), BUSY.map(change));
    await expect(ship(other, upload, BUSY_SETTINGS)).rejects.toMatchObject({ code: 'SOURCE_MISMATCH' });
    expect(upload.staged).toBe(staged);
  });

  test('another disk size', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const upload = new WatchedUpload();
    await ship(dir, upload, BUSY_SETTINGS);
    const [files] = (await openTraceFolder(dir)).disks;
    if (files === undefined) throw new Error('no disk');
    const disks = [{ stream: streamOf(0), diskSizeBytes: 2 * DISK_BYTES, files }];
    const options = { upload, log: upload.store, traceEndUs: endOf(BUSY), nowUs: () => 0, signal: RUNNING };
    await expect(shipTrace({ disks, stretch: 1, ...options })).rejects.toMatchObject({ code: 'SOURCE_MISMATCH' });
  });

  test.each([
    ['a stretch of 0', { stretch: 0 }],
    ['a stretch of 1.5', { stretch: 1.5 }],
    ['an end at 0', { untilUs: 0 }],
    ['segments of no time', { segmentAgeUs: 0 }],
    ['a start before 1970', { startUs: -1 }],
  ])('%s is wrong usage', async (_, settings) => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    await expect(ship(dir, new WatchedUpload(), settings)).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe('uploads', () => {
  test('another source on the same stream ends in SOURCE_CONFLICT, and nothing is written after its segment', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const other = new WatchedUpload();
    await ship(dir, other, { ...BUSY_SETTINGS, segmentBytes: 20_000 });
    const foreign = await other.store.read(streamOf(0), 4, MIB, RUNNING);
    const upload = new WatchedUpload();
    upload.beforeCommit = async ({ stream, sequence }) => {
      if (stream.disk !== 'disk0' || sequence !== 4 || foreign === undefined) return;
      await (await upload.store.stage(stream, 4, foreign, RUNNING)).commit(RUNNING);
    };
    await expect(ship(dir, upload, BUSY_SETTINGS)).rejects.toMatchObject({ code: 'SOURCE_CONFLICT' });
    expect(await upload.store.lastSequence(streamOf(0), RUNNING)).toBe(4);
    expect(await upload.store.read(streamOf(0), 4, MIB, RUNNING)).toEqual(foreign);
  });

  test('a commit whose answer was lost finds its own bytes and goes on', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const whole = new WatchedUpload();
    await ship(dir, whole, BUSY_SETTINGS);
    const mine = await whole.store.read(streamOf(1), 3, MIB, RUNNING);
    const upload = new WatchedUpload();
    let lost = 0;
    upload.beforeCommit = async ({ stream, sequence }) => {
      if (stream.disk !== 'disk1' || sequence !== 3 || mine === undefined) return;
      lost++;
      await (await upload.store.stage(stream, 3, mine, RUNNING)).commit(RUNNING);
    };
    await ship(dir, upload, BUSY_SETTINGS);
    expect(lost).toBe(1);
    expect(await contentOf(upload.store)).toEqual(await contentOf(whole.store));
  });

  test('a failed commit stops everything behind it, and the next call makes it good', async () => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const whole = new WatchedUpload();
    await ship(dir, whole, BUSY_SETTINGS);
    const upload = new WatchedUpload();
    upload.beforeCommit = ({ stream, sequence }) => {
      if (stream.disk === 'disk0' && sequence === 5) throw new Error('storage is gone');
    };
    await expect(ship(dir, upload, BUSY_SETTINGS)).rejects.toThrow('storage is gone');
    expect(await upload.store.lastSequence(streamOf(0), RUNNING)).toBe(4);
    upload.beforeCommit = () => undefined;
    await ship(dir, upload, BUSY_SETTINGS);
    expect(await contentOf(upload.store)).toEqual(await contentOf(whole.store));
  });

  test.each([1, 4])('at most %i segments are in flight, and they become visible in order', async (inFlight) => {
    const dir = await writeTrace(join(root, String(made++)), BUSY);
    const upload = new WatchedUpload();
    upload.beforeCommit = async () => {
      // The first commit waits until nothing more is staged, which is the whole allowance.
      while (upload.commits.length === 0 && upload.staged < inFlight) await turn();
      for (let turns = 0; upload.commits.length === 0 && turns < 100; turns++) await turn();
    };
    await ship(dir, upload, { ...BUSY_SETTINGS, inFlight });
    expect(upload.mostInFlight).toBe(inFlight);
    for (const disk of [0, 1]) {
      const own = upload.commits.filter(({ stream }) => stream.disk === `disk${disk}`).map(({ sequence }) => sequence);
      expect(own).toEqual(own.map((_, index) => index + 1));
    }
  });
});

test('behind a slow store no more than one segment waits', async () => {
  const upload = new WatchedUpload();
  const uploader = new SegmentUploader({ upload, log: upload.store, inFlight: 2, signal: RUNNING });
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  upload.beforeCommit = () => held;
  const stream = streamOf(0);
  for (let sequence = 1; sequence <= 3; sequence++) {
    await uploader.ready();
    uploader.submit({ stream, sequence, bytes: Buffer.alloc(8), committed: () => undefined });
  }
  let isReady = false;
  const wait = async (): Promise<void> => {
    await uploader.ready();
    isReady = true;
  };
  const ready = wait();
  for (let turns = 0; turns < 100; turns++) await turn();
  expect([upload.staged, isReady]).toEqual([2, false]);
  release();
  await ready;
  await uploader.finish();
  expect(upload.commits.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
});

test('the demo trace, stretched to 38 minutes, replays to its final image', async () => {
  const dir = tracePath('t2-ext4-postgres');
  const trace = await openTraceFolder(dir);
  const { disk_size: sizes, final_sha256: finals } = expectations(dir);
  const diskSizeBytes = sizes[0] ?? 0;
  const upload = new WatchedUpload();
  await shipTrace({
    disks: trace.disks.map((files, disk) => ({ stream: streamOf(disk), diskSizeBytes, files })),
    upload,
    log: upload.store,
    traceEndUs: await traceEndUs(trace.disks, RUNNING),
    nowUs: () => START_US,
    stretch: 60,
    encode: { level: 1 },
    signal: RUNNING,
  });
  const { segments, records } = await readStream(upload.store, streamOf(0), diskSizeBytes);
  const image = Buffer.alloc(diskSizeBytes);
  for (const { record, data } of records) {
    if (record.kind === 'write') data?.copy(image, record.offsetBytes);
    if (record.kind === 'discard') image.fill(0, record.offsetBytes, record.offsetBytes + record.lengthBytes);
  }
  expect(sha256(image)).toBe(finals[0]);
  expect(breaksWatermarkRule(segments)).toBeUndefined();
  expect(segments.at(-1)?.header).toMatchObject({
    endTimeUs: START_US,
    streamStartUs: START_US - 38_430_366 * 60,
  });
  // One segment per 10 s of 38 minutes, and those that are full before.
  expect(segments.length).toBeGreaterThan(230);
  expect(segments.length).toBeLessThan(260);
});
