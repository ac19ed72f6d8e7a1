import { expect, it } from 'vitest';
import { segmentName, type LogStream } from '../../src/model/names.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';
import { DISKS, GROUP, MACHINE, signal, World } from '../simulation/world.ts';
import { START_US, type ModelEntry } from '../support/model-log.ts';

const STREAM: LogStream = { group: GROUP, machine: MACHINE, disk: DISKS[0], epoch: 1 };

function write(timeUs: number, offsetBytes: number, fill: number): ModelEntry {
  return { record: { kind: 'write', timeUs, offsetBytes, lengthBytes: 4096 }, data: Buffer.alloc(4096, fill) };
}

/** Flips one bit of a segment that was shipped and read already. */
async function damage(world: World, sequence: number): Promise<void> {
  const { logStore } = world.storage;
  const bytes = await logStore.read(STREAM, sequence, 16 * 1024 * 1024, signal);
  expect(bytes, segmentName(STREAM, sequence)).toBeDefined();
  const damaged = Buffer.from(bytes ?? []);
  damaged.writeUInt8(damaged.readUInt8(40) ^ 1, 40);
  await logStore.delete(STREAM, sequence, signal);
  await (await logStore.stage(STREAM, sequence, damaged, signal)).commit(signal);
}

it('makes no point of what was applied from a segment that has become unreadable', async () => {
  const world = await World.create({ diskCount: 2 });
  const [first, second] = world.shippers();
  const boundaryUs = Math.ceil(START_US / FIVE_MINUTES_US) * FIVE_MINUTES_US;
  const nextUs = boundaryUs + FIVE_MINUTES_US;
  const base: ModelEntry[] = [write(START_US, 0, 1), { record: { kind: 'base-complete', timeUs: START_US } }];
  await first?.ship(base, boundaryUs + 1, signal);
  await second?.ship(base, boundaryUs + 1, signal);
  await world.drain();
  expect(await world.points()).toHaveLength(1);

  // The first disk has come to the next boundary, and waits there for the second one.
  await first?.ship([write(boundaryUs + 2, 8192, 2)], nextUs, signal);
  await world.drain();
  expect(await world.points()).toHaveLength(1);
  await damage(world, 2);
  await second?.ship([], nextUs, signal);

  const outcome = await world.drain();
  expect(outcome.needsResync).toBe(true);
  expect(await world.points()).toHaveLength(1);
  const reported = (await world.messages()).filter(({ body }) =>
    JSON.stringify(body).includes('Tidemark.ResyncRequired'),
  );
  expect(reported).toHaveLength(1);
  expect(JSON.stringify(reported[0]?.body)).toContain(segmentName(STREAM, 2));
});
