import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { extent } from '../support/extent.ts';
import { eventsArb, expectedPoints, streamsOf, type ModelEntry } from '../support/model-log.ts';
import { SHORT_SCENARIO } from './scenarios.ts';
import { CrashingGate } from './gated-ports.ts';
import { World } from './world.ts';

async function requireRight(world: World, streams: readonly (readonly ModelEntry[])[], endUs: number): Promise<void> {
  const expected = expectedPoints(streams, endUs, true);
  const points = await world.points();
  const label = ({ cutUs, kind }: { cutUs: number; kind: string }): string => `${cutUs} ${kind}`;
  // Two marks of one instant make one point.
  expect(new Set(points.map(({ manifest }) => label(manifest)))).toEqual(new Set(expected.map(label)));
  for (const { manifest, images } of points) {
    const candidates = expected.filter((point) => label(point) === label(manifest));
    for (const [disk, image] of images.entries()) {
      expect(
        candidates.some((point) => point.images[disk]?.equals(image) === true),
        `${manifest.point} disk${disk}`,
      ).toBe(true);
    }
  }
  expect(await world.orphans()).toEqual([]);
  const messages = await world.messages();
  expect(new Set(messages.map(({ messageId }) => messageId)).size).toBe(messages.length);
  const created = messages.flatMap(({ body }) => {
    const { type, data } = body as { type: string; data: { point: string } };
    return type === 'Tidemark.PointCreated' ? [data.point] : [];
  });
  expect(created.toSorted()).toEqual(points.map(({ manifest }) => manifest.point).toSorted());
}

/** Kills the worker at its `atCall`-th mutating call; returns whether it came that far. */
async function crashAt(world: World, atCall: number, side: 'before' | 'after'): Promise<boolean> {
  const gate = new CrashingGate(atCall, side);
  await world.worker(gate).runOnce(new AbortController().signal);
  return gate.dead;
}

describe('a worker that dies', () => {
  for (const side of ['before', 'after'] as const) {
    it(`${side} any durable step leaves nothing wrong, lost or half-done`, async () => {
      const { streams, endUs } = streamsOf(SHORT_SCENARIO, 2);
      let atCall = 1;
      // To die after a call is to die before the next one, but for what was under way beside it.
      const stride = side === 'before' ? 1 : extent({ quick: 3, full: 1 });
      for (; ; atCall += stride) {
        const world = await World.create({ diskCount: 2 });
        await world.shipAll(streams, [3, 1, 0, 7], endUs);
        const died = await crashAt(world, atCall, side);
        await world.drain();
        await requireRight(world, streams, endUs);
        if (!died) break;
      }
      expect(atCall).toBeGreaterThan(60);
    });
  }

  it('again and again, on any log, while the log still grows', async () => {
    await fc.assert(
      fc.asyncProperty(
        eventsArb,
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.constantFrom('before' as const, 'after' as const)), {
          maxLength: 6,
        }),
        async (events, diskCount, crashes) => {
          // A mark that straddles a boundary may be skipped; that is the cut planner's test.
          const { streams, endUs } = streamsOf(
            events.map((event) => ({ ...event, skewUs: 0 })),
            diskCount,
          );
          const world = await World.create({ diskCount });
          const half = Math.floor(endUs / 2 + (streams[0]?.[0]?.record.timeUs ?? 0) / 2);
          const shippers = world.shippers();
          for (const [disk, shipper] of shippers.entries()) {
            await shipper.ship(
              (streams[disk] ?? []).filter(({ record }) => record.timeUs < half),
              half,
              world.signal,
            );
          }
          for (const [atCall, side] of crashes.slice(0, 3)) await crashAt(world, atCall, side);
          for (const [disk, shipper] of shippers.entries()) {
            await shipper.ship(
              (streams[disk] ?? []).filter(({ record }) => record.timeUs >= half),
              endUs,
              world.signal,
            );
          }
          for (const [atCall, side] of crashes.slice(3)) await crashAt(world, atCall, side);
          await world.drain();
          await requireRight(world, streams, endUs);
        },
      ),
      { numRuns: extent({ quick: 40, full: 100 }) },
    );
  });
});
