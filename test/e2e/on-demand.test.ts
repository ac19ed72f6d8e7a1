/** Points on demand of a trace of two disks, from the command line: each one is the replay of the trace before its moment. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Operator } from '../support/cli.ts';
import { isFullRun } from '../support/extent.ts';
import { isoOf, usOf } from '../support/point-oracle.ts';
import { useStack } from '../support/stack.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { expectations, tracePath, TraceReplay } from '../support/trace-oracle.ts';
import type { ListedPoint } from './verify-points.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
const GROUP = 'shop';
const START_US = usOf('2026-11-20T04:00:30Z');
const STRETCH = 40;

interface Created extends ListedPoint {
  readonly isNew: boolean;
}

const create = (...when: string[]): Promise<Created> => operator.json<Created>('point', 'create', GROUP, ...when);

/** Exports every disk of the point, and compares it with what the trace had written before its cut; asked in rising order. */
async function expectReplay({ id, cut, disks }: ListedPoint, replays: readonly TraceReplay[]): Promise<void> {
  for (const [index, { disk }] of disks.entries()) {
    const file = join(stack.home, `${id}-${disk}.img`);
    await operator.ok('point', 'export', GROUP, id, '--disk', disk, '--out', file);
    replays[index]?.advance({ beforeUs: usOf(cut), startUs: START_US, stretch: STRETCH });
    const wanted = replays[index]?.image ?? Buffer.alloc(0);
    expect({ id, disk, isRight: readFileSync(file).equals(wanted) }).toEqual({ id, disk, isRight: true });
    rmSync(file);
  }
}

it('makes points of everything received and of past moments, byte for byte, and leaves the others alone', async () => {
  const dir = isFullRun ? tracePath('t4-two-disks') : await writeSyntheticTrace(join(stack.home, 'trace'));
  const sizes = expectations(dir).disk_size;
  const replays = sizes.map((_, disk) => new TraceReplay(dir, disk));
  const disks = sizes.flatMap((sizeBytes, disk) => ['--disk', `disk${disk}=${sizeBytes}`]);
  const hours = ['--app-consistent-hours', '0', '--log-retention-hours', '24'];
  await operator.ok('policy', 'set', 'daily', ...hours);
  await operator.ok('group', 'protect', GROUP, '--policy', 'daily', '--machine', 'web', ...disks);
  const times = ['--start', isoOf(START_US), '--stretch', `${STRETCH}`, '--segment-seconds', '40'];
  const ship = ['source', 'ship', GROUP, '--trace', dir, ...times];
  const work = ['worker', 'run', '--once', '--group', GROUP];
  await operator.ok(...ship, '--until', '20');
  await operator.ok(...work);

  const latest = await create('--latest');
  expect(latest).toMatchObject({ isNew: true, kind: 'latest', cut: isoOf(START_US + 20 * 1e6 * STRETCH) });
  expect(await create('--latest')).toEqual({ ...latest, isNew: false });

  // The very moment of a write, and a microsecond later: only the second one holds it.
  const writtenUs = START_US + (new TraceReplay(dir, 0).times.find((timeUs) => timeUs > 12e6) ?? 0) * STRETCH;
  for (const atUs of [writtenUs, writtenUs + 1]) {
    const point = await create('--at', isoOf(atUs));
    expect(point).toMatchObject({ isNew: true, kind: 'crash', cut: isoOf(atUs) });
    expect(point.id.endsWith('-at')).toBe(true);
    await expectReplay(point, replays);
  }
  await expectReplay(latest, replays);
  const [first] = await operator.json<ListedPoint[]>('point', 'list', GROUP);
  expect(await create('--at', first?.cut ?? '')).toMatchObject({ isNew: false, id: first?.id });

  await operator.ok(...ship);
  await operator.ok(...work);
  const listed = await operator.json<ListedPoint[]>('point', 'list', GROUP);
  expect(listed.filter(({ id }) => id.endsWith('-at'))).toHaveLength(2);
  expect(listed.some(({ cut }) => cut > latest.cut)).toBe(true);
  for (const point of listed.filter(({ id, kind }) => kind === 'crash' && !id.endsWith('-at')).slice(-1)) {
    await expectReplay(point, replays);
  }
  const verified = await operator.json<{ ok: boolean }[]>('point', 'verify', GROUP, '--all');
  expect(verified.map(({ ok }) => ok)).toEqual(listed.map(() => true));

  const beyond = await operator.run('point', 'create', GROUP, '--at', '2030-01-01T00:00:00Z');
  expect(beyond).toMatchObject({ exitCode: 1 });
  expect(beyond.stderr).toContain('POINT_UNREACHABLE');
  await operator.ok('group', 'disable', GROUP, '--yes');
  await operator.ok(...work);
  expect(await operator.json('point', 'list', GROUP)).toEqual([]);
}, 180_000);
