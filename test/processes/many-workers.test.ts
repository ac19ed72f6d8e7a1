/** Four worker processes that share groups, one of them killed, one stopped for longer than its locks last. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { extent } from '../support/extent.ts';
import './child.ts';
import { figuresOf, Fleet } from './fleet.ts';
import { Services } from './services.ts';

const SEED = Number(process.env['TIDEMARK_FLEET_SEED'] ?? Date.now() % 2 ** 31);
const GROUPS = extent({ quick: 16, full: 32 });
let services: Services;
beforeAll(async () => {
  services = await Services.start({ lockDuration: 'PT5S' });
});
afterAll(() => services.stop());

it(`share the groups, whatever happens to some of them, seed ${SEED}`, async () => {
  const fleet = await Fleet.create(services, { count: GROUPS, seed: SEED });
  await fleet.ship();
  const scheduler = fleet.scheduler();
  const [killed, stopped, ...others] = [fleet.worker(), fleet.worker(), fleet.worker(), fleet.worker()];
  if (killed === undefined || stopped === undefined) throw new Error('four workers');
  await fleet.untilOpened(8);
  killed.kill('SIGKILL');
  stopped.kill('SIGSTOP');
  await fleet.ship();
  await fleet.ship();
  await fleet.untilMade(60_000);
  stopped.kill('SIGCONT');
  expect(await fleet.requireAllRight()).toBeGreaterThan(GROUPS);
  const figures = await Promise.all([stopped, ...others].map(figuresOf));
  expect(figures.every(({ turns }) => turns > 0)).toBe(true);
  expect((await killed.ended).signal).toBe('SIGKILL');
  scheduler.kill('SIGTERM');
  expect((await scheduler.ended).code).toBe(0);
  await fleet.close();
}, 120_000);
