import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { updateDocument } from '../../src/catalog/documents.ts';
import {
  disableGroup,
  groupDocumentSchema,
  pauseGroup,
  pinPoint,
  resumeGroup,
  setGroupPolicy,
} from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { TidemarkError } from '../../src/errors.ts';
import { FAILOVER_STATES, type FailoverState } from '../../src/failover/states.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import { catalogName } from '../../src/model/names.ts';
import { MIB } from '../../src/model/sizes.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { DISK_STATES } from '../../src/worker/progress.ts';
import { groupStatus } from '../../src/worker/status.ts';
import {
  GROUP,
  live,
  MINUTE_US,
  newWorker,
  newWorld,
  protect,
  run,
  ship,
  START_US,
  type World,
} from '../worker/discard-support.ts';

const page = readFileSync(new URL('../../docs/states.md', import.meta.url), 'utf8');

/** Where the log of {@link shipAll} ends. */
const END_US = START_US + 11 * MINUTE_US;

/** First column to `event: cell`, of the table below a heading. */
function tableOf(
  heading: string,
): readonly { readonly state: string; readonly event: string; readonly cell: string }[] {
  const section = page.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const lines = section.split('\n').filter((line) => line.startsWith('| '));
  const [head = [], ...rows] = lines.map((line) => line.slice(2, -2).split(' | '));
  return rows.flatMap(([state = '', ...cells]) =>
    cells.map((cell, index) => ({ state, event: head[index + 1] ?? '', cell: /`([^`]+)`/.exec(cell)?.[1] ?? '' })),
  );
}

const disable = (world: World, keepPoints: boolean) =>
  disableGroup(world.storage.catalog, GROUP, { keepPoints, nowUs: START_US }, live);

/** The segment after the next one, of a chain that does not exist. */
async function shipDefect({ storage }: World): Promise<void> {
  const stream = { group: GROUP, machine: 'web', disk: 'disk0', epoch: 1 };
  const sequence = (await storage.logUpload.lastSequence(stream, live)) + 2;
  const times = { streamStartUs: START_US, firstTimeUs: END_US, endTimeUs: END_US + MINUTE_US };
  const chain = { previousDigest: Buffer.alloc(32, 7), recordsBefore: 99 };
  const { bytes } = encodeSegment({ stream, diskSizeBytes: MIB, sequence, ...times, ...chain }, []);
  await (await storage.logUpload.stage(stream, sequence, bytes, live)).commit(live);
}

const shipAll = (world: World) => ship(world, { startUs: START_US, seed: 1 });

async function protectedWorld(): Promise<World> {
  const world = await newWorld();
  await protect(world, ['disk0'], MIB);
  await shipAll(world);
  await run(world.ports);
  return world;
}

const changed = async (change: (world: World) => Promise<unknown>): Promise<World> => {
  const world = await protectedWorld();
  await change(world);
  return world;
};

const WORLDS: Readonly<Record<string, () => Promise<World>>> = {
  '(no such group)': () => newWorld(),
  'initial-replication': async () => {
    const world = await newWorld();
    await protect(world, ['disk0'], MIB);
    await run(world.ports);
    return world;
  },
  protected: protectedWorld,
  'resync-required': () =>
    changed(async (world) => {
      await shipDefect(world);
      await newWorker(world.ports).runOnce(live);
    }),
  paused: () => changed((world) => pauseGroup(world.storage.catalog, GROUP, live)),
  'disabled, points kept': () => changed((world) => disable(world, true)),
  'disabled, given up': () => changed((world) => disable(world, false)),
  discarded: () =>
    changed(async (world) => {
      await disable(world, false);
      await run(world.ports);
    }),
  ...Object.fromEntries(
    FAILOVER_STATES.filter((state) => state !== 'none').map((state) => [
      state,
      () => changed((world) => putFailover(world, state)),
    ]),
  ),
};

/** As a job leaves the group that has brought its failover so far. */
async function putFailover({ storage }: World, state: FailoverState): Promise<void> {
  const [point = null] = (await listPoints(storage.catalog, GROUP, live)).map(({ point }) => point);
  const failover = { state, job: 'j', point, made: ['j'], since: '2026-11-23T04:00:00Z' };
  const name = catalogName.group(GROUP);
  await updateDocument(storage.catalog, name, groupDocumentSchema, (group) => ({ ...group, failover }), live);
}

const EVENTS: Readonly<Record<string, (world: World) => Promise<unknown>>> = {
  protect: (world) => protect(world, ['disk0'], MIB),
  pause: ({ storage }) => pauseGroup(storage.catalog, GROUP, live),
  resume: ({ storage }) => resumeGroup(storage.catalog, GROUP, live),
  'set-policy': async ({ storage }) => {
    await setPolicy(storage.catalog, 'other', {}, live);
    await setGroupPolicy(storage.catalog, GROUP, 'other', live);
  },
  'disable --keep-points': (world) => disable(world, true),
  disable: (world) => disable(world, false),
  prune: ({ ports }) => newWorker(ports).prune(GROUP, live),
  pin: ({ storage }) =>
    pinPoint(
      storage.catalog,
      { group: GROUP, point: 'p', owner: 'ada', reason: 'why not', expiresAtUs: null, nowUs: START_US },
      live,
    ),
  'nothing new': ({ ports }) => newWorker(ports).runOnce(live),
  'more of a sound log': async (world) => {
    // Worlds that have a log have all of it; more of it must not matter either.
    if ((await world.storage.logStore.listStreams(GROUP, live)).length === 0) await shipAll(world);
    return newWorker(world.ports).runOnce(live);
  },
  'a bad segment': async (world) => {
    await shipDefect(world);
    return newWorker(world.ports).runOnce(live);
  },
};

/** The state after the event, or the code that it was refused with. */
async function outcomeOf(world: World, event: string): Promise<string> {
  try {
    await EVENTS[event]?.(world);
  } catch (error) {
    if (error instanceof TidemarkError) return error.code;
    throw error;
  }
  return (await groupStatus(world.ports, GROUP, live)).state;
}

describe('docs/states.md', () => {
  const cells = [...tableOf('Commands'), ...tableOf('The worker')];

  it('has a row for each state and a column for each event', () => {
    expect(new Set(tableOf('Commands').map(({ state }) => state))).toEqual(new Set(Object.keys(WORLDS)));
    expect(new Set(tableOf('The worker').map(({ state }) => state))).toEqual(
      new Set(Object.keys(WORLDS).filter((state) => state !== '(no such group)')),
    );
    expect([...new Set(cells.map(({ event }) => event))]).toEqual(Object.keys(EVENTS));
  });

  it('names the states that the code has', () => {
    const named = [...page.matchAll(/^\| `([a-z-]+)` \| (?!`)/gm)].map(([, state]) => state);
    const failover = FAILOVER_STATES.filter((state) => state !== 'none');
    expect(named.slice(0, 12)).toEqual([...DISK_STATES, 'paused', 'disabled', 'discarded', ...failover]);
  });

  it.each(cells)('$state, $event: $cell', async ({ state, event, cell }) => {
    const world = await WORLDS[state]?.();
    if (world === undefined) throw new Error(`no world in state ${state}`);
    expect(await outcomeOf(world, event)).toBe(cell);
  });
});
