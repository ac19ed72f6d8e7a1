import { expect, it } from 'vitest';
import { streamsOf } from '../support/model-log.ts';
import { SHORT_SCENARIO } from './scenarios.ts';
import { DISKS, GROUP, MACHINE, signal, World } from './world.ts';

it('verification passes what is right, and finds one damaged sector of one snapshot', async () => {
  const { streams, endUs } = streamsOf(SHORT_SCENARIO, 2);
  const world = await World.create({ diskCount: 2 });
  await world.shipAll(streams, [5], endUs);
  await world.drain();
  const results = await world.worker().verify(GROUP, [], signal);
  const points = await world.points();
  expect(results.map(({ point, ok }) => [point, ok])).toEqual(points.map(({ manifest }) => [manifest.point, true]));
  expect(results.reduce((sum, { checkedBytes }) => sum + checkedBytes, 0)).toBeGreaterThan(0);
  expect(points.every(({ manifest }) => manifest.verified?.ok === true)).toBe(true);

  // The first point of all changed everything that the base copy wrote: its last sector among them.
  const [first] = points;
  const cut = first?.manifest.disks[0];
  world.storage.seeds.damage({ group: GROUP, machine: MACHINE, disk: DISKS[0] }, cut?.snapshot ?? '', 8192 - 512);
  const [damaged] = await world.worker().verify(GROUP, [first?.manifest.point ?? ''], signal);
  expect(damaged?.ok).toBe(false);
  expect(damaged?.damaged).toHaveLength(1);
  expect(damaged?.damaged[0]).toMatchObject({ machine: MACHINE, disk: DISKS[0], offsetBytes: 0 });
  expect((await world.points())[0]?.manifest.verified?.ok).toBe(false);
  const reported = (await world.messages()).filter(({ subject, body }) =>
    `${subject} ${JSON.stringify(body)}`.includes('PointDamaged'),
  );
  expect(reported).toHaveLength(1);
});

it('refuses a point that does not exist', async () => {
  const world = await World.create({ diskCount: 1 });
  await expect(world.worker().verify(GROUP, ['nothing'], signal)).rejects.toMatchObject({ code: 'POINT_NOT_FOUND' });
});
