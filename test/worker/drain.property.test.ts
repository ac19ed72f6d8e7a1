import * as fc from 'fast-check';
import { crc32 } from 'node:zlib';
import { expect, it } from 'vitest';
import { totalBytes, type ChangedExtent } from '../../src/coalesce/change-list.ts';
import { catalogName } from '../../src/model/names.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';
import { decodeChanges } from '../../src/points/changes-file.ts';
import type { Manifest } from '../../src/points/manifest.ts';
import { GROUP, segmentsOf, signal, World } from '../simulation/world.ts';
import { DISK_BYTES, eventsArb, expectedPoints, streamsOf, type ModelPoint } from '../support/model-log.ts';

/** What a worker made of a point, as far as it has to equal the model. */
interface MadePoint {
  readonly manifest: Manifest;
  readonly images: readonly Buffer[];
  /** Per disk: the extents of the changes list. */
  readonly changes: readonly (readonly ChangedExtent[])[];
}

const label = ({ cutUs, kind }: { readonly cutUs: number; readonly kind: string }): string => `${cutUs} ${kind}`;

async function madePoints(world: World): Promise<MadePoint[]> {
  const points = await world.points();
  return Promise.all(points.map(async (point) => ({ ...point, changes: await changesOf(world, point.manifest) })));
}

async function changesOf(world: World, { point, disks }: Manifest): Promise<ChangedExtent[][]> {
  const blob = await world.storage.catalog.read(catalogName.changes(GROUP, point), signal);
  const lists = decodeChanges(blob?.bytes ?? Buffer.alloc(0));
  return disks.map(({ disk, changedBytes }) => {
    const extents = lists.find((list) => list.disk === disk)?.extents ?? [];
    expect(totalBytes(extents)).toBe(changedBytes);
    return [...extents];
  });
}

/** Outside the extents nothing changed; inside, the checksums are those of the point. */
function requireChanges(extents: readonly ChangedExtent[], before: Buffer, after: Buffer): void {
  const rebuilt = Buffer.from(before);
  for (const { offsetBytes, lengthBytes, checksum } of extents) {
    const bytes = after.subarray(offsetBytes, offsetBytes + lengthBytes);
    if (checksum === 'zero') expect(bytes.every((byte) => byte === 0)).toBe(true);
    else expect(checksum).toBe(crc32(bytes));
    bytes.copy(rebuilt, offsetBytes);
  }
  expect(rebuilt.equals(after)).toBe(true);
}

/** The points are those of the model, in number, bytes and changes, and a quiet disk names the snapshot before, unless all are quiet. */
function requirePoints(points: readonly MadePoint[], expected: readonly ModelPoint[]): void {
  const kinds = (kind: string) => (p: { readonly kind: string; readonly cutUs: number }) =>
    // An app mark that straddles a boundary may be skipped; that is the cut planner's test.
    p.kind === kind && (kind === 'crash' || p.cutUs % FIVE_MINUTES_US >= 1000);
  for (const kind of ['crash', 'app']) {
    const made = points.map(({ manifest }) => manifest).filter(kinds(kind));
    expect(made.map(label)).toEqual(expected.filter(kinds(kind)).map(label));
  }
  const byLabel = new Map(expected.map((point) => [label(point), point]));
  let previous: MadePoint | undefined;
  let before: ModelPoint | undefined;
  for (const point of points) {
    const want = byLabel.get(label(point.manifest));
    expect(want, `no such cut: ${label(point.manifest)}`).toBeDefined();
    const isQuiet = (disk: number): boolean => before !== undefined && want?.changes[disk] === before.changes[disk];
    const areAllQuiet = point.images.every((_, disk) => isQuiet(disk));
    for (const [disk, image] of point.images.entries()) {
      expect(image.equals(want?.images[disk] ?? Buffer.alloc(0)), `${label(point.manifest)} disk${disk}`).toBe(true);
      requireChanges(point.changes[disk] ?? [], previous?.images[disk] ?? Buffer.alloc(DISK_BYTES), image);
      const reuses = point.manifest.disks[disk]?.snapshot === previous?.manifest.disks[disk]?.snapshot;
      expect(reuses, `${label(point.manifest)} disk${disk} names the snapshot before`).toBe(
        isQuiet(disk) && !(areAllQuiet && disk === 0), // a point leaves at least one snapshot of its own
      );
    }
    previous = point;
    before = want;
  }
}

it('points are a pure function of the log: however it is split, whenever it is read, whoever restarts', async () => {
  await fc.assert(
    fc.asyncProperty(
      eventsArb,
      fc.integer({ min: 1, max: 3 }),
      fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 5 }).filter((l) => l.some((n) => n > 0)),
      fc.infiniteStream(fc.nat(9)),
      fc.constantFrom(256 * 1024, 64 * 1024 * 1024),
      async (events, diskCount, lengths, dice, budget) => {
        const { streams, endUs } = streamsOf(events, diskCount);
        const world = await World.create({ diskCount });
        const lanes = world.shippers().map((shipper, disk) => ({
          shipper,
          segments: segmentsOf(streams[disk] ?? [], lengths, endUs),
        }));
        let worker = world.worker(undefined, budget);
        while (lanes.some(({ segments }) => segments.length > 0)) {
          const roll = dice.next().value ?? 0;
          const lane = lanes[roll % diskCount];
          const segment = lane?.segments.shift();
          if (segment !== undefined) await lane?.shipper.ship(segment.entries, segment.endUs, signal);
          if (roll >= 7) await worker.runOnce(signal);
          if (roll === 9) worker = world.worker(undefined, budget);
        }
        await world.drain();
        requirePoints(await madePoints(world), expectedPoints(streams, endUs, true));
      },
    ),
    { numRuns: 60 },
  );
});
