/** The end of a group and its new beginning, on the storage emulator. */
import { afterAll, expect, it } from 'vitest';
import { connect, type Storage } from '../../src/azure/connect.ts';
import { disableGroup } from '../../src/catalog/groups.ts';
import { MIB } from '../../src/model/sizes.ts';
import { useAccounts } from '../azure/accounts.ts';
import {
  checkedCuts,
  GROUP,
  live,
  MINUTE_US,
  newWorld,
  protect,
  remains,
  run,
  ship,
  START_US,
} from './discard-support.ts';

const accounts = useAccounts();
let storage: Storage | undefined;
afterAll(() => storage?.close());

it('keeps, protects again, deletes everything, and protects again with another size', async () => {
  storage = connect({
    cache: accounts().access('cache'),
    replica: accounts().access('replica'),
  });
  const world = await newWorld(storage);
  const disable = (keepPoints: boolean) =>
    disableGroup(world.storage.catalog, GROUP, { keepPoints, nowUs: START_US }, live);
  const cutsOf = (startUs: number): number[] => [0, 5, 10].map((minutes) => startUs + minutes * MINUTE_US);
  const first = { startUs: START_US, seed: 1 };
  const second = { startUs: START_US + 30 * MINUTE_US, seed: 2 };
  const third = { startUs: START_US, seed: 3 };

  await protect(world, ['disk0', 'disk1'], 2 * MIB);
  await ship(world, first);
  await run(world.ports);
  await disable(true);
  await run(world.ports);
  await protect(world, ['disk0', 'disk1'], 2 * MIB);
  await ship(world, second);
  await run(world.ports);
  expect(await checkedCuts(world, { 1: first, 2: second })).toEqual([
    ...cutsOf(first.startUs),
    ...cutsOf(second.startUs),
  ]);

  await disable(false);
  await run(world.ports);
  expect(await remains(world)).toEqual([]);

  await protect(world, ['disk0'], 3 * MIB);
  await ship(world, third);
  await run(world.ports);
  expect(await checkedCuts(world, { 3: third })).toEqual(cutsOf(third.startUs));
});
