import { describe, expect, it } from 'vitest';
import { disableGroup, getGroup, pinPoint, unpinPoint } from '../../src/catalog/groups.ts';
import { TidemarkError } from '../../src/errors.ts';
import type { Compute } from '../../src/failover/compute.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';
import { groupStatus } from '../../src/worker/status.ts';
import { expectBytes } from '../contracts/support.ts';
import { expectedImage, GROUP, live, MINUTE_US, newWorker, remains, run, START_US } from '../worker/discard-support.ts';
import {
  BY,
  COMMANDS,
  copiesOf,
  diskNames,
  DISKS,
  failoverWorld,
  GENERATION,
  give,
  inAzure,
  NIC,
  service,
  SIZE_BYTES,
  statesOf,
  succeed,
  type FailoverWorld,
} from './support.ts';

async function points({ storage }: FailoverWorld): Promise<string[]> {
  return (await listPoints(storage.catalog, GROUP, live)).map(({ point }) => point);
}

/** The disks in Azure are the point's, byte for byte. */
function requireBytes(world: FailoverWorld, names: readonly string[], cutUs: number): void {
  expect(names).toHaveLength(DISKS.length);
  for (const [index, name] of names.entries()) {
    const bytes = world.compute.peek(name);
    expectBytes(bytes?.subarray(0, SIZE_BYTES) ?? Buffer.alloc(0), expectedImage(GENERATION, index, SIZE_BYTES, cutUs));
  }
}

const at = (minutes: number): number => START_US + minutes * MINUTE_US;

describe('a test failover', () => {
  it('makes disks and a machine of the point beside replication, and leaves nothing after its cleanup', async () => {
    const world = await failoverWorld();
    const before = await remains(world);
    const job = await succeed(world, COMMANDS.test);
    expect(job.point).toBe('20261123T041000.000000Z-crash');
    requireBytes(world, diskNames(job), at(10));
    expect(job.result).toMatchObject({ machines: [{ machine: 'web', name: 'web-test' }] });
    expect(await copiesOf(world)).toEqual([]);
    expect(await statesOf(world)).toBe('none tested');
    const status = await groupStatus(world.ports, GROUP, live);
    expect(status).toMatchObject({ state: 'protected', testFailover: { state: 'tested', point: job.point } });
    expect(status.advice).toMatch(/^no test failover has succeeded yet/);

    await succeed(world, COMMANDS.cleanup);
    expect(await inAzure(world)).toEqual([]);
    expect(await statesOf(world)).toBe('none none');
    expect(await remains(world)).toEqual(before);
    const after = await groupStatus(world.ports, GROUP, live);
    expect(after).toMatchObject({
      testFailover: null,
      advice: null,
      lastTestFailover: { outcome: 'succeeded', point: job.point, notes: 'it boots' },
    });
  });

  it('holds its point, which no unpinning lets go', async () => {
    const world = await failoverWorld();
    const { catalog } = world.storage;
    const [oldest = ''] = await points(world);
    await succeed(world, { ...COMMANDS.test, point: oldest });
    await unpinPoint(catalog, GROUP, oldest, live);
    const plan = await newWorker(world.ports).prune(GROUP, live);
    expect(plan.keep).toContainEqual({ id: oldest, reason: 'in use by job:job-1: test failover' });
  });

  it('that was not whole is noted as failed', async () => {
    const world = await failoverWorld();
    const commands = service(world);
    await commands.submit(COMMANDS.test, BY, live);
    await succeed(world, COMMANDS.cleanup);
    expect((await commands.job(GROUP, 'job-1', live)).state).toBe('canceled');
    const { lastDrill, lastGoodDrillAt } = await getGroup(world.storage.catalog, GROUP, live);
    expect(lastDrill?.outcome).toBe('failed');
    expect(lastGoodDrillAt).toBeUndefined();
  });
});

describe('a failover', () => {
  it('stops replication, changes its point, and is committed', async () => {
    const world = await failoverWorld();
    const [first = '', second = ''] = await points(world);
    const job = await succeed(world, COMMANDS.failover);
    requireBytes(world, diskNames(job), at(10));
    expect(await statesOf(world)).toBe('failed-over none');

    const changed = await succeed(world, { command: 'change-point', group: GROUP, point: second });
    requireBytes(world, diskNames(changed), at(5));
    expect(await inAzure(world)).toEqual([...diskNames(changed).map((name) => `disk ${name}`), 'machine web'].sort());
    await succeed(world, { command: 'change-point', group: GROUP, point: first });
    expect(await points(world)).toHaveLength(3);

    const { catalog } = world.storage;
    await expect(disableGroup(catalog, GROUP, { keepPoints: false, nowUs: at(0) }, live)).rejects.toMatchObject({
      code: 'FAILOVER_STATE',
    });
    await pinPoint(
      catalog,
      { group: GROUP, point: second, owner: 'ada', reason: 'x', expiresAtUs: null, nowUs: at(0) },
      live,
    );
    await expect(give(world, COMMANDS.commit)).rejects.toMatchObject({ code: 'GROUP_PINNED' });
    await unpinPoint(catalog, GROUP, second, live);
    await succeed(world, COMMANDS.commit);
    expect(await statesOf(world)).toBe('committed none');
    expect(await points(world)).toEqual([]);
    const left = await remains(world);
    expect(left.filter((name) => name.startsWith('seed'))).toEqual(DISKS.map((disk) => `seed web/${disk}`));
    for (const disk of DISKS) {
      const reader = world.storage.seeds.reader({ group: GROUP, machine: 'web', disk });
      expect(await reader.listSnapshots(live)).toEqual([]);
    }

    await disableGroup(catalog, GROUP, { keepPoints: false, nowUs: at(0) }, live);
    await run(world.ports);
    expect(await remains(world)).toEqual([]);
    expect((await groupStatus(world.ports, GROUP, live)).state).toBe('discarded');
  });

  it('that is canceled leaves nothing, and replication goes on', async () => {
    const world = await failoverWorld();
    const before = [await remains(world), await points(world)];
    await succeed(world, COMMANDS.failover);
    await run(world.ports);
    await expect(newWorker(world.ports).prune(GROUP, live)).rejects.toMatchObject({ code: 'FAILOVER_STATE' });
    expect((await groupStatus(world.ports, GROUP, live)).state).toBe('failed-over');
    await succeed(world, COMMANDS.cancel);
    expect(await inAzure(world)).toEqual([]);
    expect(await copiesOf(world)).toEqual([]);
    await run(world.ports);
    expect([await remains(world), await points(world)]).toEqual(before);
    expect((await groupStatus(world.ports, GROUP, live)).state).toBe('protected');
    const jobs = await service(world).jobs(GROUP, live);
    expect(jobs.map(({ command, state }) => `${command} ${state}`)).toEqual(['cancel succeeded', 'failover succeeded']);
  });

  it('to the latest makes a point of what was received', async () => {
    const world = await failoverWorld();
    const job = await succeed(world, { ...COMMANDS.failover, point: 'latest' });
    expect(job.point).toBe('20261123T041100.000000Z-latest');
    requireBytes(world, diskNames(job), at(11));
    const again = await succeed(world, { command: 'change-point', group: GROUP, point: 'latest' });
    expect(again.point).toBe(job.point);
    expect(await points(world)).toHaveLength(4);
  });

  it('fails with what to do, and goes on once it is done', async () => {
    const world = await failoverWorld();
    await strangersMachine(world, 'web');
    const failed = await give(world, COMMANDS.failover);
    expect(failed).toMatchObject({ state: 'failed', error: { code: 'COMPUTE_CONFLICT' } });
    expect(failed.steps.filter(({ state }) => state !== 'done').map(({ name, state }) => `${name} ${state}`)).toEqual([
      'create-machine web failed',
      'finish pending',
    ]);
    expect(await statesOf(world)).toBe('failing-over none');
    await world.compute.deleteMachine('web', STRANGER, resumable, live);
    const again = await service(world).execute(GROUP, failed.job, {}, live);
    expect(again).toMatchObject({ state: 'succeeded', error: null });
    expect(await messages(world)).toEqual(['running', 'failed COMPUTE_CONFLICT', 'running', 'succeeded']);
  });

  it('that failed is canceled, and what is not its own stays', async () => {
    const world = await failoverWorld();
    await strangersMachine(world, 'web');
    const failed = await give(world, COMMANDS.failover);
    await succeed(world, COMMANDS.cancel);
    expect(await inAzure(world)).toEqual(['machine web']);
    expect(await statesOf(world)).toBe('none none');
    expect((await service(world).execute(GROUP, failed.job, {}, live)).state).toBe('canceled');
    expect(await statesOf(world)).toBe('none none');
  });

  it('uploads where an import is refused for a reason of its own', async () => {
    const world = await failoverWorld();
    const refusing = withImport(world, 'StorageAccountNotFound');
    const job = await succeed(refusing, COMMANDS.failover);
    requireBytes(world, diskNames(job), at(10));
    await succeed(world, COMMANDS.cancel);
    const refused = await give(withImport(world, 'QuotaExceeded'), COMMANDS.failover);
    expect(refused).toMatchObject({ state: 'failed', error: { code: 'COMPUTE_REFUSED', message: 'QuotaExceeded' } });
  });

  it('is patient with what may pass, and not for ever', async () => {
    const world = await failoverWorld();
    let calls = 0;
    const unavailable = async (): Promise<void> => {
      if (++calls <= 3) throw new TidemarkError('COMPUTE_UNAVAILABLE', 'busy');
    };
    await succeed(beforeImport(world, unavailable), COMMANDS.failover);
    expect(calls).toBe(3 + DISKS.length);
    await succeed(world, COMMANDS.cancel);
    const never = async (): Promise<void> => {
      throw new TidemarkError('COMPUTE_UNAVAILABLE', 'busy');
    };
    expect(await give(beforeImport(world, never), COMMANDS.failover)).toMatchObject({
      state: 'failed',
      error: { code: 'COMPUTE_UNAVAILABLE' },
    });
  });

  it('takes another point when the first one cannot be used', async () => {
    const world = await failoverWorld();
    const [first = '', second = ''] = await points(world);
    await succeed(world, COMMANDS.failover);
    const manifest = (await listPoints(world.storage.catalog, GROUP, live)).find(({ point }) => point === second);
    const key = { group: GROUP, machine: 'web', disk: 'disk1' };
    const seed = await world.storage.seeds.open(key, SIZE_BYTES, vhdFooter(key, SIZE_BYTES), live);
    await seed.deleteSnapshot(manifest?.disks[1]?.snapshot ?? '', live);
    await seed.close(live);
    const stuck = await give(world, { command: 'change-point', group: GROUP, point: second });
    expect(stuck).toMatchObject({ state: 'failed', error: { code: 'SNAPSHOT_MISSING' } });
    const changed = await succeed(world, { command: 'change-point', group: GROUP, point: first });
    requireBytes(world, diskNames(changed), at(0));
    expect(await inAzure(world)).toEqual([...diskNames(changed).map((name) => `disk ${name}`), 'machine web'].sort());
    expect(await copiesOf(world)).toEqual([]);
    expect((await service(world).job(GROUP, stuck.job, live)).state).toBe('canceled');
  });
});

const STRANGER = { 'tidemark-job': 'stranger' };
const resumable = { token: null, persist: async () => undefined };

async function strangersMachine({ compute }: FailoverWorld, name: string): Promise<void> {
  const spec = {
    name: 'strange',
    sizeBytes: SIZE_BYTES,
    sku: 'Standard_LRS',
    zone: null,
    diskEncryptionSetId: null,
    osType: null,
    hyperVGeneration: null,
    tags: STRANGER,
  } as const;
  const vhd = Buffer.concat([Buffer.alloc(SIZE_BYTES), vhdFooter({ group: 'g', machine: 'm', disk: 'd' }, SIZE_BYTES)]);
  const read = async (offset: number, length: number): Promise<Buffer> => vhd.subarray(offset, offset + length);
  const { id } = await compute.uploadDisk(spec, { ranges: [], read }, resumable, live);
  const osDisk = { id, osType: 'Linux' } as const;
  const machine = { name, size: 'x', zone: null, networkInterfaceIds: [NIC], osDisk, dataDisks: [], tags: STRANGER };
  await compute.createMachine(machine, resumable, live);
}

/** The world with something in front of each import. */
function beforeImport(world: FailoverWorld, before: () => Promise<void>): FailoverWorld {
  const { compute } = world;
  const gated = new Proxy(compute, {
    get: (target, property) => {
      const member: unknown = Reflect.get(target, property, target);
      if (typeof member !== 'function') return member;
      if (property !== 'importDisk') return member.bind(target) as unknown;
      return async (...args: Parameters<Compute['importDisk']>) => {
        await before();
        return target.importDisk(...args);
      };
    },
  });
  return { ...world, failoverPorts: { ...world.failoverPorts, compute: gated } };
}

const withImport = (world: FailoverWorld, code: string): FailoverWorld =>
  beforeImport(world, async () => {
    throw new TidemarkError('COMPUTE_REFUSED', code, { details: { code } });
  });

/** What the messages say of the only job. */
async function messages({ topic }: FailoverWorld): Promise<string[]> {
  const said: string[] = [];
  for await (const { body } of topic.tail(live, { follow: false })) {
    const { type, data } = body as { type: string; data: { to: string; code: string | null } };
    if (type === 'Tidemark.JobChanged') said.push(data.code === null ? data.to : `${data.to} ${data.code}`);
  }
  return said;
}

describe('commands', () => {
  it('are refused where the table says so, with what is allowed', async () => {
    const world = await failoverWorld();
    await expect(give(world, COMMANDS.commit)).rejects.toMatchObject({
      code: 'FAILOVER_STATE',
      message: 'commit of group shop is refused in failover none; allowed now: create-point, test-failover, failover',
    });
    await expect(give(world, { ...COMMANDS.test, point: 'nothing' })).rejects.toMatchObject({
      code: 'POINT_NOT_FOUND',
    });
    await expect(give(world, { ...COMMANDS.test, group: 'none' })).rejects.toMatchObject({ code: 'GROUP_NOT_FOUND' });
    await expect(service(world).job(GROUP, 'job-9', live)).rejects.toMatchObject({ code: 'JOB_NOT_FOUND' });
    await expect(service(world).findJob('job-9', live)).rejects.toMatchObject({ code: 'JOB_NOT_FOUND' });
    expect(await service(world).jobs(GROUP, live)).toEqual([]);
  });

  it('with one key are one job', async () => {
    const world = await failoverWorld();
    const job = await give(world, COMMANDS.test, 'k1');
    expect(await give(world, COMMANDS.test, 'k1')).toEqual(job);
    await expect(give(world, COMMANDS.failover, 'k1')).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    expect(await service(world).findJob(job.job, live)).toEqual(job);
    await expect(give(world, COMMANDS.test, 'k 1')).rejects.toMatchObject({ code: 'USAGE' });
    expect((await service(world).jobs(GROUP, live)).map(({ job: id }) => id)).toEqual([job.job]);
  });

  it('say what they would do, and do nothing', async () => {
    const world = await failoverWorld();
    const plan = await service(world).plan(COMMANDS.test, live);
    expect(plan).toEqual({
      group: GROUP,
      command: 'test-failover',
      point: '20261123T041000.000000Z-crash',
      steps: [
        'claim group',
        'hold point',
        ...DISKS.flatMap((disk) => ['copy', 'import', 'delete-copy'].map((step) => `${step} web/${disk}`)),
        'create-machine web',
        'finish',
      ],
    });
    expect(await statesOf(world)).toBe('none none');
    expect(await service(world).jobs(GROUP, live)).toEqual([]);
  });

  it('create a point', async () => {
    const world = await failoverWorld();
    const job = await succeed(world, { command: 'create-point', group: GROUP, at: 'latest' });
    expect(job.result).toEqual({ point: '20261123T041100.000000Z-latest', created: true });
    const again = await succeed(world, { command: 'create-point', group: GROUP, at: 'latest' });
    expect(again.result).toEqual({ ...job.result, created: false });
    const moment = await give(world, { command: 'create-point', group: GROUP, at: '2026-11-23T04:07:30Z' });
    expect(moment).toMatchObject({ state: 'failed', error: { code: 'POINT_UNREACHABLE' } });
    expect(await statesOf(world)).toBe('none none');
  });
});
