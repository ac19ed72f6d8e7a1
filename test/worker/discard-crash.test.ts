/** The end of a group, cut off or taken over at each of its calls. */
import { describe, expect, it } from 'vitest';
import { disableGroup } from '../../src/catalog/groups.ts';
import { TidemarkError } from '../../src/errors.ts';
import { MIB } from '../../src/model/sizes.ts';
import {
  checkedCuts,
  cycle,
  dump,
  dying,
  GROUP,
  hooked,
  live,
  MINUTE_US,
  newWorld,
  protect,
  remains,
  run,
  sentMessages,
  ship,
  START_US,
  type World,
} from './discard-support.ts';

const OLD = { startUs: START_US, seed: 1 };
/** The same source times: its points have the names of the old ones. */
const NEW = { startUs: START_US, seed: 2 };
const CUTS = [0, 5, 10].map((minutes) => START_US + minutes * MINUTE_US);
const OLD_BYTES = MIB;
const NEW_BYTES = 2 * MIB;

/** A group with points that has just been disabled for good. */
async function doomedWorld(): Promise<World> {
  const world = await newWorld();
  await protect(world, ['disk0', 'disk1'], OLD_BYTES);
  await ship(world, OLD);
  await run(world.ports);
  await disableGroup(world.storage.catalog, GROUP, { keepPoints: false, nowUs: START_US }, live);
  return world;
}

async function protectAgain(world: World): Promise<void> {
  await protect(world, ['disk0', 'disk2'], NEW_BYTES);
  await ship(world, NEW);
}

/** Names of the calls of a cycle that nothing disturbs. */
async function callsOf(world: World): Promise<readonly string[]> {
  const calls: string[] = [];
  await run(hooked(world.ports, async (_, name) => void calls.push(name)));
  return calls;
}

const moments = ['before', 'after'] as const;

describe('a worker that dies', () => {
  it.each(moments)('%s any call of the end: the next one comes to the same', async (moment) => {
    const whole = await doomedWorld();
    const calls = (await callsOf(whole)).length;
    expect(calls).toBeGreaterThan(30);
    const expected = await dump(whole);
    expect(await remains(whole)).toEqual([]);
    const messages = await sentMessages(whole);
    for (let at = 1; at <= calls; at++) {
      const world = await doomedWorld();
      const process = dying(world.ports, at, moment);
      await cycle(process.ports);
      expect(process.died(), `call ${at}`).toBe(true);
      await run(world.ports);
      expect(await dump(world), `${moment} call ${at}`).toEqual(expected);
      expect(await sentMessages(world), `${moment} call ${at}`).toEqual(messages);
    }
  });

  it('after any call until the new epoch has begun: its points are right', async () => {
    const whole = await doomedWorld();
    await protectAgain(whole);
    const calls = (await callsOf(whole)).indexOf('putPages');
    expect(calls).toBeGreaterThan(40);
    expect(await checkedCuts(whole, { 2: NEW })).toEqual(CUTS);
    const expected = await remains(whole);
    for (let at = 1; at <= calls; at++) {
      const world = await doomedWorld();
      await protectAgain(world);
      const process = dying(world.ports, at, 'after');
      await cycle(process.ports);
      expect(process.died(), `call ${at}`).toBe(true);
      await run(world.ports);
      expect(await checkedCuts(world, { 2: NEW }), `call ${at}`).toEqual(CUTS);
      expect(await remains(world), `call ${at}`).toEqual(expected);
    }
  });

  it('again and again, a call later each time, and still comes to the end', async () => {
    const whole = await doomedWorld();
    await callsOf(whole);
    const expected = await dump(whole);
    const world = await doomedWorld();
    let deaths = 0;
    for (let at = 1; ; at++) {
      const process = dying(world.ports, at, 'after');
      await cycle(process.ports);
      if (!process.died()) break;
      deaths++;
    }
    expect(deaths).toBeGreaterThan(10);
    await run(world.ports);
    expect(await dump(world)).toEqual(expected);
  });
});

/** @returns whether the worker was thrown out */
async function requireSound(world: World, failure: unknown, label: string): Promise<boolean> {
  if (failure !== undefined) {
    expect(failure, label).toBeInstanceOf(TidemarkError);
    const { class: kind, message } = failure as TidemarkError;
    expect(kind, `${label}: ${message}`).toBe('retry');
  }
  expect(await checkedCuts(world, { 2: NEW }), label).toEqual(CUTS);
  await run(world.ports);
  expect(await checkedCuts(world, { 2: NEW }), label).toEqual(CUTS);
  expect(await world.storage.seeds.list(GROUP, live)).toHaveLength(2);
  return failure !== undefined;
}

describe('a worker that stalls', () => {
  it('at any call, while another ends the group and begins anew: it deletes nothing of the new epoch', async () => {
    const calls = (await callsOf(await doomedWorld())).length;
    let thrownOut = 0;
    for (let at = 1; at <= calls; at++) {
      const world = await doomedWorld();
      const stalled = hooked(world.ports, async (call) => {
        if (call !== at) return;
        await run(world.ports);
        await protectAgain(world);
        await run(world.ports);
      });
      if (await requireSound(world, await cycle(stalled), `call ${at}`)) thrownOut++;
    }
    expect(thrownOut).toBeGreaterThan(calls / 2);
  });

  it('at any call before it begins anew, while another has done so: it deletes nothing of the new epoch', async () => {
    const whole = await doomedWorld();
    await protectAgain(whole);
    const calls = (await callsOf(whole)).lastIndexOf('deleteStream') + 1;
    let thrownOut = 0;
    for (let at = 1; at <= calls; at += 2) {
      const world = await doomedWorld();
      await protectAgain(world);
      const stalled = hooked(world.ports, async (call) => {
        if (call === at) await run(world.ports);
      });
      if (await requireSound(world, await cycle(stalled), `call ${at}`)) thrownOut++;
    }
    expect(thrownOut).toBeGreaterThan(calls / 4);
  });
});
