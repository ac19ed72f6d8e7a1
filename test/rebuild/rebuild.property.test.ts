import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { protectGroup } from '../../src/catalog/groups.ts';
import { pointDisk, type Manifest } from '../../src/points/manifest.ts';
import { pointReader } from '../../src/copies/copy-store.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';
import { DISKS, GROUP, MACHINE, segmentsOf, signal, World } from '../simulation/world.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';
import { DISK_BYTES, eventsArb, expectedPoints, ModelShipper, START_US, streamsOf } from '../support/model-log.ts';
import { essence, loseCatalog, look, plan, rebuild } from './support.ts';

const lengthsArb = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 5 });

/** The disks of each point from the storage that holds them. */
async function images(world: World, manifest: Manifest): Promise<Buffer[]> {
  return Promise.all(
    manifest.disks.map((disk) =>
      pointReader(world.storage, pointDisk(manifest, disk)).read(disk.snapshot, 0, DISK_BYTES, signal),
    ),
  );
}

it('gives the points that were there: ids, cuts, kinds, marks, disks, snapshots, built ones too', async () => {
  await fc.assert(
    fc.asyncProperty(
      eventsArb,
      fc.integer({ min: 1, max: 3 }),
      lengthsArb,
      fc.array(fc.nat(1000), { maxLength: 2 }),
      async (events, diskCount, lengths, moments) => {
        const { streams, endUs } = streamsOf(events, diskCount);
        const world = await World.create({ diskCount, policy: { retentionHours: 360, logRetentionHours: 72 } });
        const lanes = world.shippers().map((shipper, disk) => ({
          shipper,
          segments: segmentsOf(streams[disk] ?? [], lengths, endUs),
        }));
        // A restart between two segments must not show: each worker lives for a few.
        while (lanes.some(({ segments }) => segments.length > 0)) {
          for (const { shipper, segments } of lanes) {
            for (const segment of segments.splice(0, 3)) await shipper.ship(segment.entries, segment.endUs, signal);
          }
          await world.drain();
        }
        for (const at of moments) {
          const atUs = START_US + Math.floor(((endUs - START_US) * at) / 1000);
          await world
            .worker()
            .createPoint(GROUP, atUs, signal)
            .catch(() => undefined); // none from before the first point
        }
        const before = await listPoints(world.storage.catalog, GROUP, signal);
        await loseCatalog(world.storage);

        const { planned } = await rebuild(world.storage);
        const after = await listPoints(world.storage.catalog, GROUP, signal);
        expect(after.map(essence)).toEqual(before.map(essence));
        expect(planned.leftOut).toEqual([]);
        expect(planned.pruned).toEqual([]);
        expect(after.map(({ verified, changesSha256 }) => [verified, changesSha256])).toEqual(
          after.map(() => [null, null]),
        );
        // Once more: nothing is missing.
        expect((await rebuild(world.storage)).written).toEqual([]);
      },
    ),
    { numRuns: 40 },
  );
});

it('lists no point with a wrong sector, whatever was pruned or deleted by hand before', async () => {
  await fc.assert(
    fc.asyncProperty(
      eventsArb,
      fc.integer({ min: 2, max: 3 }),
      lengthsArb,
      fc.infiniteStream(fc.nat(99)),
      async (events, diskCount, lengths, dice) => {
        const { streams, endUs } = streamsOf(events, diskCount);
        const world = await World.create({ diskCount, policy: { retentionHours: 1, appConsistentHours: 0 } });
        await world.shipAll(streams, lengths, endUs);
        await world.drain();
        const before = await listPoints(world.storage.catalog, GROUP, signal);
        const gone = new Set<string>();
        for (const disk of DISKS.slice(0, diskCount)) {
          const key = { group: GROUP, machine: MACHINE, disk };
          for (const { snapshot } of await world.storage.seeds.reader(key).listSnapshots(signal)) {
            if ((dice.next().value ?? 0) >= 15) continue;
            const seed = await world.storage.seeds.open(key, DISK_BYTES, vhdFooter(key, DISK_BYTES), signal);
            await seed.deleteSnapshot(snapshot, signal);
            await seed.close(signal);
            gone.add(`${disk}@${snapshot}`);
          }
        }
        await loseCatalog(world.storage);
        await rebuild(world.storage);
        const after = await listPoints(world.storage.catalog, GROUP, signal);
        const model = new Map(expectedPoints(streams, endUs, false).map((point) => [point.cutUs, point]));
        for (const manifest of after) {
          for (const [disk, image] of (await images(world, manifest)).entries()) {
            expect(image.equals(model.get(manifest.cutUs)?.images[disk] ?? Buffer.alloc(0)), manifest.point).toBe(true);
          }
        }
        const isWhole = ({ disks }: Manifest): boolean =>
          disks.every(({ disk, snapshot }) => !gone.has(`${disk}@${snapshot}`));
        const ids = new Set(after.map(({ point }) => point));
        for (const manifest of before.filter(isWhole)) expect(ids).toContain(manifest.point);
      },
    ),
    { numRuns: 40 },
  );
});

it('goes on in a new epoch behind the points that came back, and keeps them', async () => {
  const events = [1, 2, 3, 4].map((sector) => ({
    gapUs: 'boundary' as const,
    what: 'write' as const,
    sector,
    sectors: 3,
    fill: 7,
    disk: sector,
    lostOn: null,
    skewUs: 0,
    markKind: 'app' as const,
  }));
  const { streams, endUs } = streamsOf(events, 2);
  const world = await World.create({ diskCount: 2, policy: { retentionHours: 360, appConsistentHours: 0 } });
  await world.shipAll(streams, [3], endUs);
  await world.drain();
  const before = await listPoints(world.storage.catalog, GROUP, signal);
  await loseCatalog(world.storage);
  const { planned } = await rebuild(world.storage);
  expect(planned.document).toMatchObject({ wanted: 'disabled', policy: 'p' });
  expect(planned.policy).toEqual({
    policy: 'p',
    retentionHours: 360,
    appConsistentHours: 0,
    rpoThresholdMinutes: 15,
    logRetentionHours: 0,
  });
  expect(plan(await look(world.storage)).points.map(({ action }) => action)).toEqual(before.map(() => 'exists'));

  const disks = DISKS.slice(0, 2).map((disk) => ({ disk, sizeBytes: DISK_BYTES }));
  const request = { group: GROUP, policy: 'p', machines: [{ machine: MACHINE, disks }], nowUs: START_US };
  const document = await protectGroup(world.storage.catalog, request, signal);
  expect(document.machines[0]?.disks.map(({ epoch }) => epoch)).toEqual([2, 2]);
  // A source that begins with the very same times: its points come behind those that are there.
  const untilUs = endUs + 2 * FIVE_MINUTES_US;
  for (const [index, { disk }] of disks.entries()) {
    const shipper = new ModelShipper({ group: GROUP, machine: MACHINE, disk, epoch: 2 }, world.storage.logUpload);
    await shipper.ship(streams[index] ?? [], untilUs, signal);
  }
  await world.drain();
  const after = await listPoints(world.storage.catalog, GROUP, signal);
  expect(after.slice(0, before.length).map(essence)).toEqual(before.map(essence));
  const model = expectedPoints(streams, untilUs, false);
  expect(after.map(({ cutUs }) => cutUs)).toEqual(model.map(({ cutUs }) => cutUs));
  expect(after.map(({ disks: [disk] }) => disk?.epoch)).toEqual(
    after.map((_, index) => (index < before.length ? 1 : 2)),
  );
  for (const [index, manifest] of after.entries()) {
    for (const [disk, image] of (await images(world, manifest)).entries()) {
      expect(image.equals(model[index]?.images[disk] ?? Buffer.alloc(0)), manifest.point).toBe(true);
    }
  }
});
