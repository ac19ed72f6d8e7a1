/** A drill and a failover, by the command line, on the local stack: every byte that Azure gets. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ComputeManagementClient } from '@azure/arm-compute';
import { AnonymousCredential, PageBlobClient } from '@azure/storage-blob';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CommandPlan, JobView } from '../../src/commands/commands.ts';
import type { GroupStatus } from '../../src/worker/status.ts';
import { Operator } from '../support/cli.ts';
import { useStack } from '../support/stack.ts';
import { isFullRun } from '../support/extent.ts';
import { RawStorage } from '../support/storage.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { expectedPoints, type ExpectedPoint } from '../support/point-oracle.ts';
import { expectations, traceEnd, tracePath, TraceReplay } from '../support/trace-oracle.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
const START = ['--start', '2026-11-23T04:01:00Z', '--stretch', '20', '--segment-seconds', '40'];
const STARTED = { startUs: 1_795_406_460_000_000, stretch: 20 };
/** A small made trace; the drill of a full run has a recorded disk. */
let made = '';
let drilled = '';
const ship = (group: string, ...more: string[]) =>
  operator.ok('source', 'ship', group, '--trace', made, ...START, ...more);
const NIC = '/subscriptions/s/resourceGroups/r/providers/Microsoft.Network/networkInterfaces';
const TARGET = {
  osDisk: { disk: 'disk0', osType: 'Linux' },
  virtualMachine: { name: 'web', size: 'Standard_D2s_v5', networkInterfaceIds: [`${NIC}/web`] },
};

/** Longer than a loaded machine takes; idle, each part takes a few seconds. */
const LIMIT_MS = 180_000;

let points: readonly ExpectedPoint[];

const fromEnvironment = (name: string): string => stack.environment[name] ?? '';

function arm(): ComputeManagementClient {
  const credential = { getToken: async () => ({ token: 'local', expiresOnTimestamp: Date.now() + 3_600_000 }) };
  return new ComputeManagementClient(credential, fromEnvironment('TIDEMARK_SUBSCRIPTION_ID'), {
    endpoint: fromEnvironment('TIDEMARK_ARM_ENDPOINT'),
    tlsOptions: { ca: readFileSync(fromEnvironment('TIDEMARK_ARM_CA_FILE'), 'utf8') },
  });
}

interface Told {
  readonly data: { readonly job?: string; readonly to: string };
}

interface InAzure {
  readonly disks: readonly string[];
  readonly machines: readonly string[];
}

async function inAzure(): Promise<InAzure> {
  const { disks, virtualMachines } = arm();
  const group = fromEnvironment('TIDEMARK_RESOURCE_GROUP');
  const found = { disks: [] as string[], machines: [] as string[] };
  for await (const { name = '' } of disks.listByResourceGroup(group)) found.disks.push(name);
  for await (const { name = '' } of virtualMachines.list(group)) found.machines.push(name);
  return found;
}

/** SHA-256 of the disk's data, read as Azure lets one read a disk. */
async function hashOfDisk(name: string): Promise<string> {
  const { disks } = arm();
  const group = fromEnvironment('TIDEMARK_RESOURCE_GROUP');
  const pace = { updateIntervalInMs: 5 };
  const { accessSAS = '' } = await disks.grantAccess(group, name, { access: 'Read', durationInSeconds: 600 }, pace);
  const bytes = await new PageBlobClient(accessSAS, new AnonymousCredential()).downloadToBuffer();
  await disks.revokeAccess(group, name, pace);
  return createHash('sha256').update(bytes.subarray(0, -512)).digest('hex');
}

function hashOfPoint(point: string | null, disk: number): string {
  const expected = points.find(({ id }) => id === point);
  const cut = expected?.cuts[disk];
  if (cut === undefined) throw new Error(`the trace has no disk ${disk} of point ${point}`);
  const replay = new TraceReplay(drilled, disk);
  replay.advance(cut);
  return replay.sha256();
}

const madeBy = (job: JobView): readonly { disk: string; name: string }[] =>
  (job.result?.['disks'] ?? []) as { disk: string; name: string }[];
const disksOf = (job: JobView): readonly string[] =>
  madeBy(job)
    .map(({ name }) => name)
    .toSorted();
const diskOf = (job: JobView): string => disksOf(job)[0] ?? '';

const give = (...argv: string[]): Promise<JobView> => operator.json<JobView>('failover', ...argv);
const status = (group: string): Promise<GroupStatus> => operator.json<GroupStatus>('status', group);

beforeAll(async () => {
  made = await writeSyntheticTrace(join(stack.home, 'trace'));
  await operator.ok('policy', 'set', 'p', '--retention-hours', '24', '--app-consistent-hours', '1');
  drilled = isFullRun ? tracePath('t1-ext4-sqlite') : made;
  const sizes = expectations(drilled).disk_size;
  const protect = ['--policy', 'p', '--machine', 'web'];
  const disks = sizes.flatMap((bytes, disk) => ['--disk', `disk${disk}=${bytes}`]);
  await operator.ok('group', 'protect', 'drill', ...protect, ...disks);
  await operator.ok('source', 'ship', 'drill', '--trace', drilled, ...START, '--until', '20');
  for (const group of ['shop', 'other']) {
    await operator.ok('group', 'protect', group, ...protect, '--disk', 'disk0=2MiB', '--disk', 'disk1=2MiB');
    await ship(group, '--until', '20');
  }
  await operator.ok('worker', 'run', '--once');
  const replays = sizes.map((_, disk) => new TraceReplay(drilled, disk));
  points = expectedPoints({ ...STARTED, dir: drilled, untilUs: 20_000_000 }, replays, 'boundaries');
}, LIMIT_MS);

describe('a test failover', () => {
  it(
    'makes a disk with exactly the bytes of its point, and leaves nothing when it is cleaned up',
    async () => {
      const plan = await operator.json<CommandPlan & { dryRun: boolean }>('failover', 'test', 'drill', '--dry-run');
      const job = await give('test', 'drill', '--key', 'drill-1');
      expect(plan).toMatchObject({ dryRun: true, point: job.point });
      expect(plan.steps).toEqual(job.steps.map(({ name }) => name));
      expect(await inAzure()).toEqual({ disks: disksOf(job), machines: [] });
      expect(madeBy(job)).toHaveLength(expectations(drilled).disk_size.length);
      for (const [index, { disk, name }] of madeBy(job).entries()) {
        expect(disk).toBe(`disk${index}`);
        expect(await hashOfDisk(name)).toBe(hashOfPoint(job.point, index));
      }
      expect(await give('test', 'drill', '--key', 'drill-1')).toEqual(job);
      expect(await status('drill')).toMatchObject({ state: 'protected', testFailover: { state: 'tested' } });
      const { stdout } = await operator.ok('prune', 'drill', '--dry-run');
      expect(stdout).toContain(`in use by job:${job.job}: test failover`);

      await give('cleanup', 'drill', '--notes', 'it boots');
      expect(await inAzure()).toEqual({ disks: [], machines: [] });
      const after = await status('drill');
      expect(after).toMatchObject({ testFailover: null, advice: null });
      expect(after.lastTestFailover).toMatchObject({ outcome: 'succeeded', point: job.point, notes: 'it boots' });
      const storage = new RawStorage(stack.environment);
      const copies: string[] = [];
      for await (const { name } of storage.failover.listBlobsFlat()) copies.push(name);
      expect(copies).toEqual([]);
    },
    LIMIT_MS,
  );
});

describe('a failover', () => {
  it(
    'stops only its own group, changes its point, is canceled, and replication goes on',
    async () => {
      const file = join(stack.home, 'target.json');
      await writeFile(file, JSON.stringify(TARGET));
      await operator.ok('group', 'target', 'shop', '--machine', 'web', '--file', file);
      const journalled = await give('start', 'shop', '--no-wait');
      expect(journalled.state).toBe('running');
      expect((await status('shop')).state).toBe('failing-over');
      const job = await operator.json<JobView>('job', 'run', journalled.job);
      expect(job.state).toBe('succeeded');
      expect(await inAzure()).toEqual({ disks: disksOf(job), machines: ['web'] });
      const disk = await arm().disks.get(fromEnvironment('TIDEMARK_RESOURCE_GROUP'), diskOf(job));
      expect(disk.tags).toEqual({
        'tidemark-group': 'shop',
        'tidemark-job': job.job,
        'tidemark-machine': 'web',
        'tidemark-disk': 'disk0',
        'tidemark-point': job.point,
      });

      for (const group of ['shop', 'other']) await ship(group);
      const before = await status('shop');
      await operator.ok('worker', 'run', '--once');
      expect(await status('shop')).toMatchObject({ state: 'failed-over', health: 'None', points: before.points });
      expect((await status('other')).points).toBeGreaterThan(before.points);
      const refused = await operator.run('prune', 'shop', '--yes');
      expect(refused.stderr).toMatch(/^error\[FAILOVER_STATE\]/);

      const [first] = await operator.json<{ id: string }[]>('point', 'list', 'shop');
      const changed = await give('change-point', 'shop', '--point', first?.id ?? '', '--yes');
      expect(await inAzure()).toEqual({ disks: disksOf(changed), machines: ['web'] });

      const unasked = await operator.run('failover', 'cancel', 'shop');
      expect(unasked.stderr).toMatch(/^error\[CONFIRMATION_REQUIRED\]/);
      await give('cancel', 'shop', '--yes');
      expect(await inAzure()).toEqual({ disks: [], machines: [] });
      await operator.ok('worker', 'run', '--once');
      expect((await operator.json<{ id: string }[]>('point', 'list', 'shop')).map(({ id }) => id)).toEqual(
        (await operator.json<{ id: string }[]>('point', 'list', 'other')).map(({ id }) => id),
      );
    },
    LIMIT_MS,
  );

  it(
    'to the latest holds everything that was received; a commit deletes the points',
    async () => {
      const job = await give('start', 'shop', '--point', 'latest');
      await arm().virtualMachines.beginDeleteAndWait(fromEnvironment('TIDEMARK_RESOURCE_GROUP'), 'web', {
        updateIntervalInMs: 5,
      });
      for (const [index, { disk, name }] of madeBy(job).entries()) {
        expect(disk).toBe(`disk${index}`);
        const replay = new TraceReplay(made, index);
        // A cut holds what was written before it; this one lies at the end of what was received.
        replay.advance({ ...STARTED, beforeUs: STARTED.startUs + traceEnd(made) * STARTED.stretch });
        expect(await hashOfDisk(name)).toBe(replay.sha256());
      }
      const early = await operator.run('group', 'disable', 'shop', '--yes');
      expect(early.stderr).toMatch(/^error\[FAILOVER_STATE\]/);
      await give('commit', 'shop', '--yes');
      expect(await status('shop')).toMatchObject({ state: 'committed', points: 0 });
      expect((await inAzure()).disks).toEqual(disksOf(job));
      const jobs = await operator.json<JobView[]>('job', 'list', 'shop');
      expect(jobs.map(({ command, state }) => `${command} ${state}`)).toEqual([
        'commit succeeded',
        'failover succeeded',
        'cancel succeeded',
        'change-point succeeded',
        'failover succeeded',
      ]);
      const told = await operator.jsonLines<Told>('monitor', 'tail', '--group', 'shop', '--no-follow');
      const ofCommit = told.filter(({ data }) => data.job === jobs[0]?.job);
      expect(ofCommit.map(({ data }) => data.to)).toEqual(['running', 'succeeded']);

      await operator.ok('group', 'disable', 'shop', '--yes');
      await operator.ok('worker', 'run', '--once');
      expect((await status('shop')).state).toBe('discarded');
    },
    LIMIT_MS,
  );
});
