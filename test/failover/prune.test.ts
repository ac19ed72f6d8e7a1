/** A prune and a job that want the same point, met at each call of the prune. */
import { expect, it } from 'vitest';
import { setPolicy } from '../../src/catalog/policies.ts';
import { TidemarkError } from '../../src/errors.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { expectBytes } from '../contracts/support.ts';
import { expectedImage, GROUP, hooked, live, newWorker, START_US } from '../worker/discard-support.ts';
import { COMMANDS, diskNames, failoverWorld, GENERATION, give, SIZE_BYTES, succeed } from './support.ts';

const OLDEST = '20261123T040000.000000Z-crash';

it('a point that a job holds is never pruned, and one that is being pruned is not held', async () => {
  let held = 0;
  let refused = 0;
  for (let at = 1; ; at++) {
    const world = await failoverWorld();
    await setPolicy(world.storage.catalog, 'p', { retentionHours: 0, appConsistentHours: 0 }, live);
    let outcome: unknown;
    const ports = hooked(world.ports, async (call) => {
      if (call !== at) return;
      outcome = await give(world, { ...COMMANDS.test, point: OLDEST }).catch((error: unknown) => error);
    });
    const plan = await newWorker(ports).prune(GROUP, live);
    if (outcome === undefined) break;
    const listed = (await listPoints(world.storage.catalog, GROUP, live)).map(({ point }) => point);
    const code =
      outcome instanceof TidemarkError ? outcome.code : (outcome as { error: { code: string } | null }).error?.code;
    if (code === undefined) {
      held++;
      expect(listed, `call ${at}`).toContain(OLDEST);
      const [name = ''] = diskNames(outcome as Parameters<typeof diskNames>[0]);
      const bytes = world.compute.peek(name)?.subarray(0, SIZE_BYTES) ?? Buffer.alloc(0);
      expectBytes(bytes, expectedImage(GENERATION, 0, SIZE_BYTES, START_US));
      await succeed(world, { ...COMMANDS.cleanup });
    } else {
      refused++;
      expect(code, `call ${at}`).toBe('POINT_NOT_FOUND');
      expect(listed, `call ${at}`).not.toContain(OLDEST);
    }
    expect(plan.keep.length + plan.remove.length).toBe(3);
  }
  expect(held).toBeGreaterThan(5);
  expect(refused).toBeGreaterThan(2);
});
