/** Points on demand against the plain replay: every moment of a log, in the presence of regular points before and after it. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Manifest } from '../../src/points/manifest.ts';
import { extent } from '../support/extent.ts';
import {
  eventsArb,
  expectedPoints,
  replay,
  START_US,
  streamsOf,
  type ModelEntry,
  type ModelEvent,
} from '../support/model-log.ts';
import { CrashingGate, type Gate } from './gated-ports.ts';
import { SHORT_SCENARIO } from './scenarios.ts';
import { GROUP, segmentsOf, signal, World } from './world.ts';

type Streams = readonly (readonly ModelEntry[])[];

/** What every disk held just before `timeUs`. */
const imagesBefore = (streams: Streams, timeUs: number): Buffer[] =>
  streams.map((entries) => replay(entries.filter(({ record }) => record.timeUs < timeUs)));

async function requireImages(world: World, point: string, images: readonly Buffer[]): Promise<Manifest> {
  const found = (await world.points()).find(({ manifest }) => manifest.point === point);
  expect(found, `${point} is listed`).toBeDefined();
  expect(found?.images.map((image, disk) => image.equals(images[disk] ?? Buffer.alloc(0)))).toEqual(
    images.map(() => true),
  );
  if (found === undefined) throw new Error('expected above');
  return found.manifest;
}

/** The points that follow from the log are what they would have been without anybody asking for others. */
async function requireRegular(world: World, streams: Streams, endUs: number): Promise<void> {
  const regular = (await world.points()).filter(
    ({ manifest }) => manifest.kind !== 'latest' && manifest.disks.every(({ copy }) => copy === null),
  );
  const expected = expectedPoints(streams, endUs, true);
  const label = ({ cutUs, kind }: { cutUs: number; kind: string }): string => `${cutUs} ${kind}`;
  expect(new Set(regular.map(({ manifest }) => label(manifest)))).toEqual(new Set(expected.map(label)));
  for (const { manifest, images } of regular) {
    const candidates = expected.filter((point) => label(point) === label(manifest));
    for (const [disk, image] of images.entries()) {
      const isRight = candidates.some((point) => point.images[disk]?.equals(image) === true);
      expect(isRight, `${manifest.point} disk${disk}`).toBe(true);
    }
  }
  expect(await world.orphans()).toEqual([]);
  const verified = await world.worker().verify(GROUP, [], signal);
  expect(verified.filter(({ ok }) => !ok)).toEqual([]);
  await requireReports(world);
}

/** Each point was reported, under one message. */
async function requireReports(world: World): Promise<void> {
  const created = (await world.messages()).flatMap(({ body }) => {
    const { type, data } = body as { type: string; data: { point: string } };
    return type === 'Tidemark.PointCreated' ? [data.point] : [];
  });
  expect(created.toSorted()).toEqual((await world.points()).map(({ manifest }) => manifest.point).toSorted());
}

const create = (world: World, at: 'latest' | number, gate?: Gate) => world.worker(gate).createPoint(GROUP, at, signal);

/** All log through `throughUs` is shipped, one watermark per disk, and the rest when it is asked for. */
async function shippedThrough(
  streams: Streams,
  throughUs: readonly number[],
  endUs: number,
): Promise<{ world: World; shipRest: () => Promise<void> }> {
  const world = await World.create({ diskCount: streams.length, policy: POLICY });
  const shippers = world.shippers();
  for (const [disk, shipper] of shippers.entries()) {
    const us = throughUs[disk] ?? 0;
    const part = (streams[disk] ?? []).filter(({ record }) => record.timeUs < us || record.timeUs === START_US);
    for (const segment of segmentsOf(part, [3, 1, 0, 7], us)) {
      await shipper.ship(segment.entries, Math.min(segment.endUs, us), signal);
    }
  }
  const shipRest = async (): Promise<void> => {
    for (const [disk, shipper] of shippers.entries()) {
      const us = throughUs[disk] ?? 0;
      const rest = (streams[disk] ?? []).filter(({ record }) => record.timeUs >= us && record.timeUs !== START_US);
      for (const segment of segmentsOf(rest, [2, 5], endUs)) await shipper.ship(segment.entries, segment.endUs, signal);
    }
  };
  return { world, shipRest };
}

const POLICY = { retentionHours: 360, appConsistentHours: 1, logRetentionHours: 24 };
/** Marks of one moment on all disks; what straddles a boundary is another test's. */
const streamsIn = (events: readonly ModelEvent[], diskCount: number): ReturnType<typeof streamsOf> =>
  streamsOf(
    events.map((event) => ({ ...event, skewUs: 0 })),
    diskCount,
  );
const diskCountArb = fc.integer({ min: 1, max: 3 });

describe('a point of everything received', () => {
  it('holds exactly the writes before the group watermark, and changes no other point', async () => {
    await fc.assert(
      fc.asyncProperty(
        eventsArb,
        diskCountArb,
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 3, maxLength: 3 }),
        async (events, diskCount, shares) => {
          const { streams, endUs } = streamsIn(events, diskCount);
          const through = streams.map(
            (_, disk) => START_US + 1 + Math.floor((endUs - START_US - 1) * (shares[disk] ?? 0)),
          );
          const { world, shipRest } = await shippedThrough(streams, through, endUs);
          const watermarkUs = Math.min(...through);
          const before = await world.drain().then(() => world.points());
          const result = await create(world, 'latest').catch((error: unknown) => error);
          if (result instanceof Error) {
            // Some disk is ahead, and there is no point yet to build on.
            expect(result).toMatchObject({ code: 'POINT_UNREACHABLE' });
            expect(before).toEqual([]);
          } else {
            const { point, created } = result as Awaited<ReturnType<typeof create>>;
            const newest = before.at(-1)?.manifest;
            expect(created).toBe(newest === undefined || newest.cutUs < watermarkUs);
            if (created) {
              expect(point.cutUs).toBe(watermarkUs);
              await requireImages(world, point.point, imagesBefore(streams, point.cutUs));
              expect(point.previousPoint).toBe(newest?.point ?? null);
            } else expect(point.point).toBe(newest?.point);
            expect(await create(world, 'latest')).toEqual({ point, created: false });
          }
          await shipRest();
          await world.drain();
          await requireRegular(world, streams, endUs);
        },
      ),
      { numRuns: extent({ quick: 25, full: 60 }) },
    );
  });

  it('is made on the seeds where the disks end together, and beside them where one is ahead', async () => {
    const { streams, endUs } = streamsOf(SHORT_SCENARIO, 2);
    const middleUs = START_US + 1_000_000_000;
    const together = await shippedThrough(streams, [middleUs, middleUs], endUs);
    const { point } = await create(together.world, 'latest');
    expect(point).toMatchObject({ kind: 'latest', cutUs: middleUs });
    expect(point.disks.map(({ copy }) => copy)).toEqual([null, null]);

    const lastUs = Math.max(
      ...(streams[0] ?? [])
        .filter(({ record }) => record.timeUs < middleUs && record.kind === 'write')
        .map(({ record }) => record.timeUs),
    );
    const ahead = await shippedThrough(streams, [middleUs, lastUs], endUs);
    const built = await create(ahead.world, 'latest');
    expect(built.point).toMatchObject({ kind: 'latest', cutUs: lastUs });
    expect(built.point.disks.every(({ copy }) => copy !== null)).toBe(true);
    await requireImages(ahead.world, built.point.point, imagesBefore(streams, lastUs));
  });

  it('is not made of what a dead owner applied beyond what its successor is shown', async () => {
    const { streams, endUs } = streamsOf(SHORT_SCENARIO, 1);
    const [entries = []] = streams;
    const world = await World.create({ diskCount: 1, policy: POLICY });
    const [shipper] = world.shippers();
    const segments = segmentsOf(entries, [1], endUs);
    const writes = segments.findIndex(
      (segment, index) => index > 4 && segment.entries.some(({ record }) => record.kind === 'write'),
    );
    for (const segment of segments.slice(0, writes))
      await shipper?.ship(segment.entries, segment.entries[0]?.record.timeUs ?? segment.endUs, signal);
    await world.drain();
    const [next] = segments.slice(writes);
    await shipper?.ship(next?.entries ?? [], next?.entries[0]?.record.timeUs ?? 0, signal);
    // Dies with the write on the seed, before it is noted.
    let isDead = false;
    await world
      .worker({
        before: () => {
          if (isDead) throw new Error('dead');
        },
        after: ({ name }) => {
          if (name === 'seed.putPages') isDead = true;
          if (isDead) throw new Error('dead');
        },
      })
      .runOnce(signal);
    expect(isDead).toBe(true);
    // Its successor is shown a log without the last segment.
    const blind = world.worker(undefined, undefined, (ports) => ({
      ...ports,
      logStore: new Proxy(ports.logStore, {
        get: (target, key) => {
          if (key === 'list') {
            return async (...args: Parameters<typeof target.list>) =>
              (await target.list(...args)).filter(({ sequence }) => sequence <= writes);
          }
          const member: unknown = Reflect.get(target, key);
          return typeof member === 'function' ? member.bind(target) : member;
        },
      }),
    }));
    const { point } = await blind.createPoint(GROUP, 'latest', signal);
    await requireImages(world, point.point, imagesBefore(streams, point.cutUs));
  });

  it('is not made before the group is protected', async () => {
    const { streams, endUs } = streamsOf(SHORT_SCENARIO, 1);
    const world = await World.create({ diskCount: 1 });
    await world.shippers()[0]?.ship((streams[0] ?? []).slice(0, 2), endUs, signal);
    await expect(create(world, 'latest')).rejects.toMatchObject({ code: 'POINT_UNREACHABLE' });
    await expect(create(world, endUs)).rejects.toMatchObject({ code: 'POINT_UNREACHABLE' });
    expect(await world.points()).toEqual([]);
  });
});

describe('a point at a moment', () => {
  it('holds the same bytes as if a cut had been there, at any moment', async () => {
    await fc.assert(
      fc.asyncProperty(
        eventsArb,
        diskCountArb,
        fc.nat(),
        fc.constantFrom(-1, 0, 1),
        fc.boolean(),
        async (events, diskCount, pick, aside, isBoundary) => {
          const { streams, endUs } = streamsIn(events, diskCount);
          const world = await World.create({ diskCount: streams.length, policy: POLICY });
          await world.shipAll(streams, [3, 1, 0, 7], endUs);
          await world.drain();
          const before = await world.points();
          const all = streams.flat();
          const eventUs = all[pick % all.length]?.record.timeUs ?? 0;
          const atUs = (isBoundary ? Math.ceil(eventUs / 300_000_000) * 300_000_000 : eventUs) + aside;
          const result = await create(world, atUs).catch((error: unknown) => error);
          if (result instanceof Error) {
            expect(result).toMatchObject({ code: 'POINT_UNREACHABLE' });
            const hasBase = before.some(
              ({ manifest }) => manifest.cutUs < atUs || (manifest.cutUs === atUs && manifest.mark === null),
            );
            expect(hasBase && atUs <= endUs).toBe(false);
          } else {
            const { point, created } = result as Awaited<ReturnType<typeof create>>;
            expect(point.cutUs).toBe(atUs);
            expect(created).toBe(!before.some(({ manifest }) => manifest.cutUs === atUs && manifest.mark === null));
            await requireImages(world, point.point, imagesBefore(streams, atUs));
            expect(await create(world, atUs)).toEqual({ point, created: false });
          }
          await requireRegular(world, streams, endUs);
        },
      ),
      { numRuns: extent({ quick: 25, full: 60 }) },
    );
  });

  it('is refused before the first point, behind what was received, and where the log is deleted', async () => {
    const { streams, endUs } = streamsOf(SHORT_SCENARIO, 2);
    const world = await World.create({ diskCount: 2, policy: { ...POLICY, logRetentionHours: 0 } });
    await world.shipAll(streams, [1], endUs);
    await world.drain();
    const points = await world.points();
    for (const atUs of [START_US + 1, endUs + 1, (points[0]?.manifest.cutUs ?? 0) + 1]) {
      await expect(create(world, atUs)).rejects.toMatchObject({ code: 'POINT_UNREACHABLE' });
    }
    await requireRegular(world, streams, endUs);
  });
});

/** Dies at every durable step in turn; whoever comes next, and asks again, finds nothing wrong, lost or half-done. */
async function dieEverywhere(
  at: 'latest' | number,
  side: 'before' | 'after',
  throughUs: readonly number[],
  atLeast: number,
): Promise<void> {
  const { streams, endUs } = streamsOf(SHORT_SCENARIO.slice(0, 15), 2);
  let atCall = 1;
  for (; ; atCall++) {
    const { world, shipRest } = await shippedThrough(streams, throughUs, endUs);
    await world.drain();
    const gate = new CrashingGate(atCall, side);
    await create(world, at, gate).catch(() => undefined);
    if (atCall % 2 === 0) await world.drain(); // a worker comes first, or whoever asks again
    const { point } = await create(world, at);
    await requireImages(world, point.point, imagesBefore(streams, point.cutUs));
    await shipRest();
    await world.drain();
    await requireRegular(world, streams, endUs);
    if (!gate.dead) break;
  }
  expect(atCall).toBeGreaterThan(atLeast);
}

describe('a worker that dies while it makes a point on demand', () => {
  const MIDDLE_US = START_US + 1_000_000_000;
  for (const side of ['before', 'after'] as const) {
    it(`${side} any durable step of one on the seeds`, () => dieEverywhere('latest', side, [MIDDLE_US, MIDDLE_US], 10));
    it(`${side} any durable step of one beside them`, () =>
      dieEverywhere(MIDDLE_US - 123_456_789, side, [MIDDLE_US, MIDDLE_US], 25));
    it(`${side} any durable step of one with a disk ahead`, () =>
      dieEverywhere('latest', side, [MIDDLE_US, MIDDLE_US - 140_000_000], 10));
  }
});
