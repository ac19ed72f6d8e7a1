import { describe, expect, it } from 'vitest';
import { readDocument } from '../../src/catalog/documents.ts';
import { deletePolicy } from '../../src/catalog/policies.ts';
import { disableGroup, getGroup } from '../../src/catalog/groups.ts';
import { TidemarkError } from '../../src/errors.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { catalogName } from '../../src/model/names.ts';
import { MIB } from '../../src/model/sizes.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { endGroup } from '../../src/worker/discard.ts';
import { progressSchema, type ProgressDocument } from '../../src/worker/progress.ts';
import { groupStatus } from '../../src/worker/status.ts';
import { expectCode } from '../contracts/support.ts';
import {
  checkedCuts,
  cycle,
  dump,
  GROUP,
  hooked,
  live,
  MINUTE_US,
  newWorker,
  newWorld,
  protect,
  remains,
  run,
  sentMessages,
  ship,
  START_US,
  type World,
} from './discard-support.ts';

const FIRST = { startUs: START_US, seed: 1 };
const SECOND = { startUs: START_US + 30 * MINUTE_US, seed: 2 };
const cutsOf = ({ startUs }: { startUs: number }): number[] => [0, 5, 10].map((at) => startUs + at * MINUTE_US);

/** A group of two disks with three points. */
async function drainedWorld(): Promise<World> {
  const world = await newWorld();
  await protect(world, ['disk0', 'disk1'], 2 * MIB);
  await ship(world, FIRST);
  await run(world.ports);
  return world;
}

const disable = (world: World, keepPoints: boolean) =>
  disableGroup(world.storage.catalog, GROUP, { keepPoints, nowUs: START_US }, live);

async function progressOf(world: World): Promise<ProgressDocument | undefined> {
  return (await readDocument(world.storage.catalog, catalogName.progress(GROUP), progressSchema, live))?.value;
}

async function stateOf(world: World): Promise<string> {
  return (await groupStatus(world.ports, GROUP, live)).state;
}

describe('disabled with kept points', () => {
  it('deletes nothing, applies nothing and prunes nothing; the points stay readable', async () => {
    const world = await drainedWorld();
    await disable(world, true);
    const before = await remains(world);
    const progressBefore = await progressOf(world);
    const names: string[] = [];
    await run(hooked(world.ports, async (_, name) => void names.push(name)));
    expect(names.filter((name) => /put|clear|snapshot|delete|remove|open|create$/i.test(name))).toEqual(['create']);
    expect(await remains(world)).toEqual(before);
    expect(await checkedCuts(world, { 1: FIRST })).toEqual(cutsOf(FIRST));
    expect((await progressOf(world))?.disks).toEqual(progressBefore?.disks);
    await expectCode(newWorker(world.ports).prune(GROUP, live), 'GROUP_DISABLED');
    expect(await remains(world)).toEqual(before);
  });

  it('says once that it is disabled, whoever looks', async () => {
    const world = await drainedWorld();
    await disable(world, true);
    const before = (await sentMessages(world)).length;
    expect(await stateOf(world)).toBe('disabled');
    for (let round = 0; round < 3; round++) await run(world.ports);
    const sent = (await sentMessages(world)).slice(before);
    expect(sent).toEqual(['StateChanged disabled', 'HealthChanged None']);
    expect(await stateOf(world)).toBe('disabled');
  });

  it('is protected again with right points of both generations', async () => {
    const world = await drainedWorld();
    await disable(world, true);
    await run(world.ports);
    const document = await protect(world, ['disk0', 'disk1'], 2 * MIB);
    expect(document.machines[0]?.disks.map(({ epoch }) => epoch)).toEqual([2, 2]);
    await run(world.ports);
    expect(await checkedCuts(world, { 1: FIRST })).toEqual(cutsOf(FIRST));
    await ship(world, SECOND);
    await run(world.ports);
    expect(await checkedCuts(world, { 1: FIRST, 2: SECOND })).toEqual([...cutsOf(FIRST), ...cutsOf(SECOND)]);
    expect(await stateOf(world)).toBe('protected');
  });

  it('needs no policy any more, and neither does its status', async () => {
    const world = await drainedWorld();
    await disable(world, true);
    await deletePolicy(world.storage.catalog, 'p', live);
    await run(world.ports);
    expect(await stateOf(world)).toBe('disabled');
    await disable(world, false);
    await run(world.ports);
    expect(await remains(world)).toEqual([]);
  });
});

describe('disabled for good', () => {
  it('deletes everything, says so once, and begins anew with another size', async () => {
    const world = await drainedWorld();
    await disable(world, false);
    expect(await stateOf(world)).toBe('disabled');
    const before = (await sentMessages(world)).length;
    const told: string[] = [];
    const worker = newWorker(world.ports, (events) => told.push(...events.map(({ type }) => type)));
    for (let round = 0; round < 2; round++) await worker.runOnce(live);
    expect(told).toEqual(['StateChanged', 'HealthChanged', 'StateChanged']);
    await run(world.ports);
    expect(await remains(world)).toEqual([]);
    expect((await sentMessages(world)).slice(before)).toEqual([
      'StateChanged disabled',
      'HealthChanged None',
      'StateChanged discarded',
    ]);
    expect(await stateOf(world)).toBe('discarded');
    expect((await groupStatus(world.ports, GROUP, live)).disks).toEqual([]);
    expect(await progressOf(world)).toMatchObject({
      disks: [],
      newestPoint: null,
      discardedBeforeEpoch: 2,
      outbox: { queued: [] },
    });

    await protect(world, ['disk0', 'disk2'], 3 * MIB);
    await ship(world, { ...FIRST, seed: 5 }); // the same source times, so the same names of points
    await run(world.ports);
    expect(await checkedCuts(world, { 2: { ...FIRST, seed: 5 } })).toEqual(cutsOf(FIRST));
    expect((await world.storage.seeds.list(GROUP, live)).map(({ disk }) => disk)).toEqual(['disk0', 'disk2']);
    expect(await stateOf(world)).toBe('protected');
    await run(world.ports);
    expect(await checkedCuts(world, { 2: { ...FIRST, seed: 5 } })).toEqual(cutsOf(FIRST));
  });

  it('unlists before it deletes: manifests, changes lists, seed disks, segments', async () => {
    const world = await drainedWorld();
    await disable(world, false);
    const seen: string[] = [];
    let before = '';
    const stages = async (): Promise<void> => {
      const left = await remains(world);
      const has = (test: (name: string) => boolean): string => (left.some(test) ? '1' : '0');
      const stage = [
        has((name) => name.endsWith('.json')),
        has((name) => name.endsWith('.changes')),
        has((name) => name.startsWith('seed')),
        has((name) => name.startsWith('log')),
      ].join('');
      if (stage !== before) seen.push(stage);
      before = stage;
    };
    await run(hooked(world.ports, stages, stages));
    expect(seen).toEqual(['1111', '0111', '0011', '0001', '0000']);
  });

  it('gives up points that were kept, those of disks that were left behind too', async () => {
    const world = await drainedWorld();
    await disable(world, true);
    await protect(world, ['disk0'], 2 * MIB);
    await ship(world, SECOND);
    await run(world.ports);
    expect((await listPoints(world.storage.catalog, GROUP, live)).map(({ disks }) => disks.length)).toEqual([
      2, 2, 2, 1, 1, 1,
    ]);
    await disable(world, false);
    await run(world.ports);
    expect(await remains(world)).toEqual([]);
  });

  it('deletes before the new epoch begins when it is protected again at once', async () => {
    const world = await drainedWorld();
    await disable(world, false);
    await protect(world, ['disk0'], 4 * MIB);
    const generation = { ...FIRST, seed: 7 };
    await ship(world, generation);
    const names: string[] = [];
    await run(hooked(world.ports, async (_, name) => void names.push(name)));
    expect(names.lastIndexOf('deleteStream')).toBeGreaterThan(names.lastIndexOf('remove'));
    expect(names.indexOf('open')).toBeGreaterThan(names.lastIndexOf('deleteStream'));
    expect(await checkedCuts(world, { 2: generation })).toEqual(cutsOf(FIRST));
    expect((await remains(world)).filter((name) => !name.startsWith('points/'))).toEqual([
      'seed web/disk0',
      'log web/disk0 2',
    ]);
    const sent = await sentMessages(world);
    expect(sent.filter((message) => message.startsWith('StateChanged'))).toEqual([
      'StateChanged protected',
      'StateChanged disabled',
      'StateChanged discarded',
      'StateChanged protected',
    ]);
  });

  it('never deletes twice: a later generation with kept points stays', async () => {
    const world = await drainedWorld();
    await disable(world, false);
    await run(world.ports);
    await protect(world, ['disk0', 'disk1'], 2 * MIB);
    await ship(world, FIRST);
    await run(world.ports);
    await disable(world, true);
    for (let round = 0; round < 2; round++) await run(world.ports);
    expect(await checkedCuts(world, { 2: FIRST })).toEqual(cutsOf(FIRST));
    await protect(world, ['disk0', 'disk1'], 2 * MIB);
    await ship(world, SECOND);
    await run(world.ports);
    expect(await checkedCuts(world, { 2: FIRST, 3: SECOND })).toEqual([...cutsOf(FIRST), ...cutsOf(SECOND)]);
  });

  it('deletes what no worker has ever seen', async () => {
    const world = await newWorld();
    await protect(world, ['disk0'], 2 * MIB);
    await ship(world, FIRST);
    await disable(world, false);
    await run(world.ports);
    expect(await remains(world)).toEqual([]);
    expect(await sentMessages(world)).toEqual(['StateChanged discarded']);
  });

  it('finds what a late source and a thrown-out owner have left behind', async () => {
    const world = await drainedWorld();
    const [manifest] = await world.storage.catalog.list(catalogName.points(GROUP), live);
    const stored = await world.storage.catalog.read(manifest ?? '', live);
    await disable(world, false);
    const worker = newWorker(world.ports);
    await worker.runOnce(live);
    await ship(world, SECOND);
    await world.storage.catalog.create(manifest ?? '', stored?.bytes ?? Buffer.alloc(0), live);
    expect(await remains(world)).toHaveLength(3);
    const before = (await sentMessages(world)).length;
    await worker.runOnce(live);
    expect(await remains(world)).toHaveLength(3); // it has looked already
    await run(world.ports);
    expect(await remains(world)).toEqual([]);
    expect(await sentMessages(world)).toHaveLength(before);
  });

  it('leaves other groups alone', async () => {
    const world = await drainedWorld();
    const { seeds, catalog, logUpload } = world.storage;
    const other = { group: `${GROUP}2`, machine: 'web', disk: 'disk0' };
    await seeds.open(other, 2 * MIB, Buffer.alloc(512), live);
    await catalog.create(`points/${GROUP}2/x.json`, Buffer.from('{}'), live);
    await (await logUpload.stage({ ...other, epoch: 1 }, 1, Buffer.alloc(8), live)).commit(live);
    await disable(world, false);
    await run(world.ports);
    expect(await remains(world)).toEqual([`points/${GROUP}2/x.json`]);
    expect(await seeds.list(`${GROUP}2`, live)).toEqual([other]);
    expect(await world.storage.logStore.listStreams(`${GROUP}2`, live)).toEqual([{ ...other, epoch: 1 }]);
  });

  it('deletes first and reports when messages flow again', async () => {
    const world = await drainedWorld();
    await disable(world, false);
    const before = await sentMessages(world);
    const closed = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
    await closed.close();
    const failure = await cycle({ ...world.ports, topic: closed });
    expect(failure).toBeInstanceOf(TidemarkError);
    expect((failure as TidemarkError).code).toBe('MESSAGING_UNAVAILABLE');
    expect(await remains(world)).toEqual([]);
    expect((await progressOf(world))?.outbox.queued).toHaveLength(3);
    await run(world.ports);
    expect((await sentMessages(world)).slice(before.length)).toEqual([
      'StateChanged disabled',
      'HealthChanged None',
      'StateChanged discarded',
    ]);
  });
});

describe('what it refuses', () => {
  it('a manifest that it cannot date', async () => {
    const world = await drainedWorld();
    await world.storage.catalog.create(`${catalogName.points(GROUP)}x.json`, Buffer.from('{}'), live);
    const before = await remains(world);
    await disable(world, false);
    expect((await cycle(world.ports)) as TidemarkError).toMatchObject({ code: 'DOCUMENT_INVALID' });
    expect(await remains(world)).toEqual(before);
  });

  it('points of an epoch that is not discarded, as after a lost progress document', async () => {
    const world = await drainedWorld();
    await disable(world, false);
    await run(world.ports);
    await protect(world, ['disk0'], 2 * MIB);
    await ship(world, FIRST);
    await run(world.ports);
    const before = await remains(world);
    await world.storage.catalog.delete(catalogName.progress(GROUP), undefined, live);
    expect((await cycle(world.ports)) as TidemarkError).toMatchObject({ code: 'ASSERTION' });
    expect(await remains(world)).toEqual(before);
  });

  it('disks that are in an epoch that is not discarded', async () => {
    const world = await drainedWorld();
    await disable(world, false);
    const stored = await readDocument(world.storage.catalog, catalogName.progress(GROUP), progressSchema, live);
    const disks = stored?.value.disks.map((disk) => ({ ...disk, epoch: 2 }));
    const bytes = Buffer.from(JSON.stringify({ ...stored?.value, disks }));
    await world.storage.catalog.replace(catalogName.progress(GROUP), bytes, stored?.etag ?? '', undefined, live);
    const before = await remains(world);
    expect((await cycle(world.ports)) as TidemarkError).toMatchObject({ code: 'ASSERTION' });
    expect(await remains(world)).toEqual(before);
  });

  it('a group that is wanted', async () => {
    const world = await drainedWorld();
    const document = await getGroup(world.storage.catalog, GROUP, live);
    const before = await dump(world);
    await expectCode(endGroup({ document, ports: world.ports, signal: live }), 'ASSERTION');
    expect(await dump(world)).toEqual(before);
  });
});
