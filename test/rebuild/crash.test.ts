import { describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { disableGroup } from '../../src/catalog/groups.ts';
import type { MemoryStorage } from '../../src/memory/memory-storage.ts';
import { catalogName } from '../../src/model/names.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { executeRebuild } from '../../src/rebuild/execute.ts';
import { DISKS, GROUP, MACHINE, signal, type World } from '../simulation/world.ts';
import { START_US } from '../support/model-log.ts';
import { documents, essence, look, loseCatalog, madeWorld, plan, portsOf, rebuild } from './support.ts';

/** A catalog of a process that dies at its n-th write: before storage hears of it, or with the answer lost. */
function dyingCatalog(catalog: Catalog, at: number, moment: 'before' | 'after'): Catalog {
  let writes = 0;
  const dead = new Error('this process is dead');
  return {
    read: (name, either) => catalog.read(name, either),
    list: (prefix, either) => catalog.list(prefix, either),
    takeLease: (name, either) => catalog.takeLease(name, either),
    replace: (name, bytes, etag, lease, either) => catalog.replace(name, bytes, etag, lease, either),
    delete: (name, etag, either) => catalog.delete(name, etag, either),
    create: async (name, bytes, either) => {
      writes++;
      if (writes === at && moment === 'before') throw dead;
      const etag = await catalog.create(name, bytes, either);
      if (writes === at) throw dead;
      return etag;
    },
  };
}

async function snapshots({ seeds }: MemoryStorage): Promise<string[]> {
  const all = await Promise.all(
    DISKS.slice(0, 2).map((disk) => seeds.reader({ group: GROUP, machine: MACHINE, disk }).listSnapshots(signal)),
  );
  return all.flat().map(({ snapshot }) => snapshot);
}

/** Every group that a worker finds, once; this one is asked for by its name too. */
async function work(world: World): Promise<void> {
  const [outcome] = await world.worker().runOnce(signal);
  const code = (outcome?.error as { code?: string } | undefined)?.code;
  expect([undefined, 'GROUP_NOT_FOUND']).toContain(code);
}

describe.each(['before', 'after'] as const)('a rebuild that dies %s any of its writes', (moment) => {
  it('is completed by the next one, and a worker in between touches nothing', async () => {
    const model = await madeWorld();
    await loseCatalog(model.storage);
    const { written } = await rebuild(model.storage);
    const wanted = await documents(model.storage);
    expect(written).toHaveLength(7); // policy, four points, progress, group
    expect(written.at(-1)).toBe(catalogName.group(GROUP));
    for (let at = 1; at <= written.length; at++) {
      const world = await madeWorld();
      await loseCatalog(world.storage);
      const there = await snapshots(world.storage);
      const ports = { ...portsOf(world.storage), catalog: dyingCatalog(world.storage.catalog, at, moment) };
      await expect(rebuild(world.storage, ports)).rejects.toThrow('this process is dead');
      expect(await world.storage.catalog.list('', signal)).toHaveLength(moment === 'before' ? at - 1 : at);
      await work(world);
      expect(await snapshots(world.storage)).toEqual(there);
      await rebuild(world.storage);
      expect(await documents(world.storage)).toEqual(wanted);
      await work(world);
      expect(await documents(world.storage)).toEqual(wanted);
      expect(await snapshots(world.storage)).toEqual(there);
      expect((await rebuild(world.storage)).written).toEqual([]);
    }
  });
});

describe('of a catalog that is lost in part', () => {
  it('any one document comes back, and what is there stays', async () => {
    const model = await madeWorld();
    await disableGroup(model.storage.catalog, GROUP, { keepPoints: true, nowUs: START_US }, signal);
    const names = await model.storage.catalog.list('', signal);
    const before = await listPoints(model.storage.catalog, GROUP, signal);
    for (const name of names.filter((one) => one.endsWith('.json'))) {
      const world = await madeWorld();
      await disableGroup(world.storage.catalog, GROUP, { keepPoints: true, nowUs: START_US }, signal);
      const others = (await documents(world.storage)).filter((text) => !text.startsWith(`${name} `));
      await world.storage.catalog.delete(name, undefined, signal);
      expect((await rebuild(world.storage)).written).toEqual([name]);
      expect((await listPoints(world.storage.catalog, GROUP, signal)).map(essence)).toEqual(before.map(essence));
      expect((await documents(world.storage)).filter((text) => !text.startsWith(`${name} `))).toEqual(others);
      // The lists of checksums have survived, and count again.
      const [result] = await world.worker().verify(GROUP, [before[1]?.point ?? ''], signal);
      expect(result).toMatchObject({ ok: true, bytes: true, checkedBytes: 4 * 512 * 2 });
    }
  });

  it('a list of another point, or no list, is not taken for the checksums of this one', async () => {
    const world = await madeWorld();
    const { catalog } = world.storage;
    const [first, second] = await listPoints(world.storage.catalog, GROUP, signal);
    const bytes = (await catalog.read(catalogName.changes(GROUP, first?.point ?? ''), signal))?.bytes;
    await loseCatalog(world.storage);
    await catalog.create(catalogName.changes(GROUP, second?.point ?? ''), bytes ?? Buffer.alloc(0), signal);
    await catalog.create(catalogName.changes(GROUP, first?.point ?? ''), Buffer.from('no list'), signal);
    await rebuild(world.storage);
    const results = await world.worker().verify(GROUP, [], signal);
    expect(results.map(({ ok, bytes: hasBytes, checkedBytes }) => [ok, hasBytes, checkedBytes])).toEqual(
      results.map(() => [true, false, 0]),
    );
  });

  it('a group that a worker takes, or somebody protects, in the middle is left to them', async () => {
    const world = await madeWorld();
    await disableGroup(world.storage.catalog, GROUP, { keepPoints: true, nowUs: START_US }, signal);
    const [first] = await listPoints(world.storage.catalog, GROUP, signal);
    await world.storage.catalog.delete(catalogName.manifest(GROUP, first?.point ?? ''), undefined, signal);
    const planned = plan(await look(world.storage));
    const options = { ports: portsOf(world.storage), signal };
    const lease = await world.storage.catalog.takeLease(catalogName.progress(GROUP), signal);
    await expect(executeRebuild(planned, options)).rejects.toMatchObject({ code: 'CONFLICT' });
    await lease.release(signal);
    await world.storage.catalog.delete(catalogName.group(GROUP), undefined, signal);
    await expect(executeRebuild(planned, options)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await listPoints(world.storage.catalog, GROUP, signal)).toHaveLength(3);
  });
});
