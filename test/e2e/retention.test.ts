/** Five hours of a machine, or seven and a half, under a retention of two: what is kept, what is gone from storage, and what was reported. */
import { ServiceBusClient } from '@azure/service-bus';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { planPrune } from '../../src/retention/plan.ts';
import { POLICY_DEFAULTS } from '../../src/retention/policy.ts';
import { Operator } from '../support/cli.ts';
import { extent, isFullRun } from '../support/extent.ts';
import { expectedPoints, type ExpectedPoint, isoOf, usOf } from '../support/point-oracle.ts';
import { useStack } from '../support/stack.ts';
import { RawStorage, segmentPath } from '../support/storage.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { expectations, tracePath, TraceReplay } from '../support/trace-oracle.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
let storage: RawStorage;

const GROUP = 'long';
const DISK = `${GROUP}/web/disk0`;
const START_US = usOf('2026-11-20T00:02:00Z');
const STRETCH = extent({ quick: 450, full: 600 });
const times = ['--start', isoOf(START_US), '--stretch', `${STRETCH}`];
const age = ['--segment-seconds', extent({ quick: '240', full: '120' })];
/** Of the first disk of the trace; set with its folder. */
let ship: readonly string[];
const work = ['worker', 'run', '--once'];

interface Event {
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly time: string;
  readonly severity: string;
  readonly data: Record<string, unknown>;
}
interface ShippedDisk {
  readonly segments: number;
}
interface Listed {
  readonly id: string;
}

/** Ids of the points that snapshots were made for; ids sort by cut. */
const pointsOf = (snapshots: readonly { metadata: Record<string, string> }[]): string[] =>
  snapshots.map(({ metadata }) => metadata['point'] ?? '').toSorted((a, b) => (a < b ? -1 : 1));

/** Every point that was ever due, oldest first. */
let all: readonly ExpectedPoint[];
let keptIds: readonly string[];
let removedIds: readonly string[];
let segmentsShipped = 0;
let events: readonly Event[];

beforeAll(async () => {
  storage = new RawStorage(stack.environment);
  await operator.ok('policy', 'set', 'short', '--retention-hours', '2', '--app-consistent-hours', '1');
  const dir = isFullRun ? tracePath('t1-ext4-sqlite') : await writeSyntheticTrace(join(stack.home, 'trace'));
  const machine = ['--machine', 'web', '--disk', `disk0=${expectations(dir).disk_size[0]}`];
  ship = ['source', 'ship', GROUP, '--trace', dir, '--machine', 'web', '--disk', 'disk0=disk0', ...times, ...age];
  await operator.ok('group', 'protect', GROUP, '--policy', 'short', ...machine);
  for (const more of [['--until', '16'], ['--until', '30.5'], []]) {
    const { disks } = await operator.json<{ disks: ShippedDisk[] }>(...ship, ...more);
    segmentsShipped += disks[0]?.segments ?? 0;
    await operator.ok(...work);
  }
  events = await operator.jsonLines<Event>('monitor', 'tail', '--no-follow');

  const replay = new TraceReplay(dir, 0);
  all = expectedPoints({ dir, startUs: START_US, stretch: STRETCH }, [replay], 'boundaries');
  const policy = { ...POLICY_DEFAULTS, retentionHours: 2, appConsistentHours: 1 };
  const plan = planPrune(all, policy, { holds: [], nowUs: 0 });
  keptIds = plan.keep.map(({ id }) => id);
  removedIds = plan.remove.map(({ id }) => id);
}, 120_000);

describe('retention', () => {
  it('leaves the points that one late prune of all of them would leave', async () => {
    expect(all.length).toBe(extent({ quick: 60 + 4, full: 92 + 6 }));
    expect(removedIds.length).toBeGreaterThan(extent({ quick: 30, full: 60 }));
    expect((await operator.json<Listed[]>('point', 'list', GROUP)).map(({ id }) => id)).toEqual(keptIds);
    const left: string[] = [];
    for await (const { name } of storage.catalog.listBlobsFlat({ prefix: `points/${GROUP}/` })) left.push(name);
    expect(left).toEqual(keptIds.flatMap((id) => [`points/${GROUP}/${id}.changes`, `points/${GROUP}/${id}.json`]));
  });

  it('has nothing left to do, and says why it keeps each point', async () => {
    type Plan = { executed: boolean; keep: { id: string; reason: string }[]; remove: unknown[] };
    const plan = await operator.json<Plan>('prune', GROUP, '--dry-run');
    expect(plan).toMatchObject({ executed: false, remove: [] });
    expect(plan.keep.map(({ id }) => id)).toEqual(keptIds);
    for (const { reason } of plan.keep) expect(reason).not.toBe('');
  });

  it('leaves exactly the snapshots that those points use: each has one of the only disk', async () => {
    const snapshots = await storage.snapshots(DISK);
    expect(pointsOf(snapshots)).toEqual(keptIds);
    for (const { metadata } of snapshots) {
      const point = all.find(({ id }) => id === metadata['point']);
      expect(metadata).toMatchObject({ group: GROUP, machine: 'web', disk: 'disk0' });
      expect(metadata).toMatchObject({ kind: point?.kind, cut: String(point?.cutUs) });
      expect(metadata['digest']).toMatch(/^[0-9a-f]{64}$/);
    }
  });

  it('keeps a pinned point, and lets it go when it is unpinned', async () => {
    const [oldest = '', next = ''] = keptIds;
    await operator.ok('point', 'pin', GROUP, oldest, '--reason', 'before the upgrade', '--for', '7d');
    await operator.ok('policy', 'set', 'short', '--retention-hours', '0', '--app-consistent-hours', '0');
    type Plan = { keep: { id: string; reason: string }[]; remove: { id: string }[] };
    const plan = await operator.json<Plan>('prune', GROUP, '--dry-run');
    const newest = keptIds.at(-1) ?? '';
    const newestApp = keptIds.findLast((id) => id.endsWith('-app')) ?? '';
    expect(plan.keep.map(({ id }) => id)).toEqual([...new Set([oldest, newestApp, newest])].sort());
    expect(plan.keep[0]?.reason).toMatch(/^pinned by .+: before the upgrade$/);
    expect(plan.remove.map(({ id }) => id)).toContain(next);
    expect(await operator.run('prune', GROUP)).toMatchObject({ exitCode: 1 });
    expect(await operator.json<Listed[]>('point', 'list', GROUP)).toHaveLength(keptIds.length);
    const listed = await operator.json<{ id: string; pinned: boolean }[]>('point', 'list', GROUP);
    expect(listed.filter(({ pinned }) => pinned).map(({ id }) => id)).toEqual([oldest]);
    await operator.ok('point', 'unpin', GROUP, oldest);
    await operator.ok('prune', GROUP, '--yes');
    const left = (await operator.json<Listed[]>('point', 'list', GROUP)).map(({ id }) => id);
    expect(left).toEqual([...new Set([newestApp, newest])].sort());
    expect(pointsOf(await storage.snapshots(DISK))).toEqual(left);
  });
});

describe('the log', () => {
  it('is trimmed behind the newest point; the newest segment that the point holds stays for the source', async () => {
    const newest = keptIds.at(-1) ?? '';
    type Shown = { manifest: { disks: { sequence: number }[] } };
    const { manifest } = await operator.json<Shown>('point', 'show', GROUP, newest);
    const first = (manifest.disks[0]?.sequence ?? 0) - 1;
    expect(first).toBeGreaterThan(extent({ quick: 50, full: 200 }));
    const count = segmentsShipped - first + 1;
    const expected = Array.from({ length: count }, (_, index) => segmentPath(DISK, first + index));
    expect(await storage.segments(DISK)).toEqual(expected);
  });

  it('lets a restarted source find that everything is shipped', async () => {
    const { disks } = await operator.json<{ disks: ShippedDisk[] }>(...ship);
    expect(disks[0]?.segments).toBe(0);
  });
});

describe('monitoring', () => {
  const of = (type: string) => events.filter((event) => event.type === `Tidemark.${type}`);

  it('has one PointCreated per point, in the order of their cuts', () => {
    const created = of('PointCreated').map(({ data }) => data);
    expect(created.map(({ point }) => point)).toEqual(all.map(({ id }) => id));
    const previous = [null, ...all.map(({ id }) => id)].slice(0, -1);
    expect(created.map(({ previousPoint }) => previousPoint)).toEqual(previous);
    expect(created.map(({ cut }) => cut)).toEqual(all.map(({ cutUs }) => isoOf(cutUs)));
  });

  it('tells of the initial replication and of the state that followed', () => {
    expect(of('InitialReplicationCompleted').map(({ data }) => data)).toEqual([
      expect.objectContaining({ machine: 'web', disk: 'disk0', baseCompleteTime: isoOf(START_US) }),
    ]);
    expect(of('StateChanged').map(({ data }) => data)).toEqual([{ from: 'initial-replication', to: 'protected' }]);
  });

  it('names every pruned point once, with a reason', () => {
    type Removed = { point: string; reason: string }[];
    const removed = of('PointsPruned').flatMap(({ data }) => data['removed'] as Removed);
    expect(removed.map(({ point }) => point).sort()).toEqual([...removedIds].sort());
    for (const { reason } of removed) expect(reason).not.toBe('');
  });

  it('reports lag and RPO against the clock on the wall', () => {
    expect(of('LagReported').length).toBeGreaterThan(0);
    expect(of('RpoThresholdExceeded')).toHaveLength(1);
    expect(of('HealthChanged').map(({ data }) => data['to'])).toEqual(['Critical']);
  });

  it('gives each message an id of its own that ascends with its group', () => {
    const numbers = events.map(({ id }) => Number(new RegExp(`^${GROUP}:(\\d+)$`).exec(id)?.[1]));
    expect(numbers.every((number, index) => number > (numbers[index - 1] ?? 0))).toBe(true);
    expect(events.every(({ source }) => source === `/tidemark/groups/${GROUP}`)).toBe(true);
  });

  it('carries properties that subscriptions can filter by', async () => {
    const client = new ServiceBusClient(stack.environment['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] ?? '');
    try {
      const peek = (subscription: string) =>
        client.createReceiver('monitoring', subscription).peekMessages(events.length + 100);
      const messages = (await peek('all')).slice(0, events.length);
      expect(messages.map(({ messageId }) => messageId)).toEqual(events.map(({ id }) => id));
      expect(messages.map(({ body }) => body as unknown)).toEqual(events);
      expect(messages.map(({ applicationProperties }) => applicationProperties)).toEqual(
        events.map(({ type, severity }) => ({ type: type.replace('Tidemark.', ''), group: GROUP, severity })),
      );
      const alerts = (await peek('alerts')).map(({ messageId }) => messageId);
      const severe = events.filter(({ severity }) => ['error', 'critical'].includes(severity)).map(({ id }) => id);
      expect(severe.length).toBeGreaterThan(0);
      expect(alerts.slice(0, severe.length)).toEqual(severe);
    } finally {
      await client.close();
    }
  });

  it('is shown by group, from a time on, and up to a number', async () => {
    const tail = (...more: string[]) => operator.jsonLines<Event>('monitor', 'tail', '--no-follow', ...more);
    expect(await tail('--limit', '3')).toEqual(events.slice(0, 3));
    expect(await tail('--group', 'other')).toEqual([]);
    const since = events[5]?.time ?? '';
    expect((await tail('--since', since)).slice(0, 4)).toEqual(events.filter(({ time }) => time >= since).slice(0, 4));
    const { stdout } = await operator.ok('monitor', 'tail', '--no-follow', '--limit', '2');
    expect(stdout.split('\n').map((line) => line.split('  ').length > 3)).toEqual([true, true, false]);
  });
});
