/** A catalog that is deleted whole, and what an operator gets back of it from the command line. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Operator } from '../support/cli.ts';
import { isoOf, usOf } from '../support/point-oracle.ts';
import { useStack } from '../support/stack.ts';
import { RawStorage } from '../support/storage.ts';
import { SYNTHETIC_DISK_BYTES, writeSyntheticTrace } from '../support/synthetic-trace.ts';
import type { ListedPoint } from './verify-points.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
const GROUP = 'shop';
const START_US = usOf('2026-11-20T04:00:30Z');
const DISKS = ['disk0', 'disk1'];
const work = ['worker', 'run', '--once'];
const protect = [
  'group',
  'protect',
  GROUP,
  '--policy',
  'daily',
  '--machine',
  'web',
  ...DISKS.flatMap((disk) => ['--disk', `${disk}=${SYNTHETIC_DISK_BYTES}`]),
];

interface Rebuilt {
  readonly executed: boolean;
  readonly groups: readonly {
    readonly group: string;
    readonly refusal: string | null;
    readonly policy: string | null;
    readonly points: readonly { readonly id: string; readonly action: string }[];
    readonly leftOut: readonly unknown[];
    readonly documents: number;
  }[];
}

const list = (): Promise<ListedPoint[]> => operator.json<ListedPoint[]>('point', 'list', GROUP);

/** SHA-256 of every disk of the points, by export. */
async function hashes(points: readonly ListedPoint[]): Promise<string[]> {
  const file = join(stack.home, 'exported.img');
  const found: string[] = [];
  for (const { id } of points) {
    for (const disk of DISKS) {
      await operator.ok('point', 'export', GROUP, id, '--disk', disk, '--out', file);
      found.push(
        `${id} ${disk} ${createHash('sha256')
          .update(await readFile(file))
          .digest('hex')}`,
      );
    }
  }
  return found;
}

it('comes back with every point, byte for byte, and replication goes on in a new epoch', async () => {
  const trace = await writeSyntheticTrace(await mkdtemp(join(stack.home, 'trace-')));
  const times = ['--stretch', '40', '--segment-seconds', '80'];
  const ship = (start: string, ...more: string[]) =>
    operator.ok('source', 'ship', GROUP, '--trace', trace, '--start', start, ...times, ...more);
  await operator.ok('policy', 'set', 'daily', '--retention-hours', '30', '--log-retention-hours', '24');
  await operator.ok(...protect);
  await ship(isoOf(START_US), '--until', '20');
  await operator.ok(...work);
  await operator.ok('point', 'create', GROUP, '--at', isoOf(START_US + 500 * 1e6));
  await operator.ok('point', 'verify', GROUP, '20261120T040500.000000Z-crash');
  const before = await list();
  expect(before).toHaveLength(5); // two boundaries, two marks, one built
  const bytes = await hashes(before);

  const storage = new RawStorage(stack.environment);
  await storage.catalog.delete();
  expect(await operator.json('group', 'list')).toEqual([]);
  expect((await operator.run('catalog', 'rebuild')).stderr).toContain('CONFIRMATION_REQUIRED');
  const dry = await operator.json<Rebuilt>('catalog', 'rebuild', '--dry-run');
  expect(dry.groups[0]?.points.map(({ id, action }) => [id, action])).toEqual(before.map(({ id }) => [id, 'create']));
  expect(await storage.catalog.exists()).toBe(false);

  const done = await operator.json<Rebuilt>('catalog', 'rebuild', '--yes');
  expect(done).toMatchObject({
    executed: true,
    groups: [{ group: GROUP, refusal: null, policy: 'daily', leftOut: [], documents: before.length + 3 }],
  });
  const after = await list();
  const asRebuilt = before.map((point) => ({ ...point, created: '', verified: null }));
  expect(after.map((point) => ({ ...point, created: '' }))).toEqual(asRebuilt);
  expect(await hashes(after)).toEqual(bytes);
  expect((await operator.json<Rebuilt>('catalog', 'rebuild', '--yes')).groups[0]?.documents).toBe(0);
  expect(await operator.json('policy', 'list')).toMatchObject([{ policy: 'daily', retentionHours: 30 }]);

  // Nothing replicates, and a worker leaves the group alone; its points serve.
  await operator.ok(...work);
  expect(await operator.json('status', GROUP)).toMatchObject({ state: 'disabled', points: before.length });
  expect(await operator.json('point', 'verify', GROUP, before[0]?.id ?? '')).toMatchObject([
    { ok: true, bytes: false },
  ]);
  await operator.ok('failover', 'test', GROUP, '--point', before[1]?.id ?? '', '--yes');
  await operator.ok('failover', 'cleanup', GROUP, '--yes');

  await operator.ok(...protect);
  await ship(isoOf(START_US + 3600 * 1e6), '--until', '8');
  await operator.ok(...work);
  const later = await list();
  expect(later.length).toBeGreaterThan(before.length);
  expect(later.slice(0, before.length).map(({ id }) => id)).toEqual(before.map(({ id }) => id));
  expect(await hashes(later.slice(0, 1))).toEqual(bytes.slice(0, DISKS.length));
  const active = await operator.run('catalog', 'rebuild', '--yes', '--group', GROUP);
  expect(active).toMatchObject({ exitCode: 3 });
  expect(active.stdout).toContain('--keep-points');
}, 180_000);
