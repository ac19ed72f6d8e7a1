/** Each bundled trace, whole or its beginning, to its exported points, while a worker drains what is already shipped. */
import { expect, it } from 'vitest';
import { Operator } from '../support/cli.ts';
import { extent, isFullRun } from '../support/extent.ts';
import { endUsOf, expectedPoints, isoOf, usOf, type Shipment } from '../support/point-oracle.ts';
import { useStack } from '../support/stack.ts';
import { RawStorage } from '../support/storage.ts';
import { expectations, traceEnd, type TraceName, tracePath, TraceReplay } from '../support/trace-oracle.ts';
import { exportSome, verifyPoints } from './verify-points.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
const BOUNDARY_US = usOf('2026-11-20T04:00:00Z');
const STRETCH = 40;

interface Case {
  readonly trace: TraceName;
  readonly where: string;
  /** Source time of the trace's beginning. */
  readonly start: (dir: string, endUs: number) => number;
  /** Trace seconds at which the source stops for a moment; the worker is started anew each time. */
  readonly steps: readonly string[];
  /** Trace seconds before which all is shipped; to the trace's end in the full run, and when left out. */
  readonly until?: number;
}

/** Trace time of the first write to disk 0 at or after entry `from`. */
function writeTimeUs(dir: string, from: number): number {
  const replay = new TraceReplay(dir, 0);
  for (let entries = from; ; entries++) {
    replay.advance({ entries });
    replay.takeTouched();
    replay.advance({ entries: entries + 1 });
    const timeUs = replay.times[entries];
    if (timeUs !== undefined && replay.takeTouched().includes(1)) return timeUs;
  }
}

const CASES: readonly Case[] = [
  {
    trace: 't1-ext4-sqlite',
    where: 'so that a write falls on a boundary',
    start: (dir) => BOUNDARY_US - writeTimeUs(dir, 2000) * STRETCH,
    steps: extent({ quick: ['3.25', '19.999999'], full: ['3.25', '19.999999', '33'] }),
  },
  {
    trace: 't2-ext4-postgres',
    where: 'on a boundary',
    start: () => BOUNDARY_US,
    steps: extent({ quick: ['12.5'], full: ['12.5', '25'] }),
    until: 16,
  },
  {
    trace: 't3-xfs-churn',
    where: 'a microsecond before a boundary',
    start: () => BOUNDARY_US - 1,
    steps: extent({ quick: ['5.000001'], full: ['5.000001', '27'] }),
    until: 24,
  },
  {
    trace: 't4-two-disks',
    where: 'a microsecond after a boundary',
    start: () => BOUNDARY_US + 1,
    steps: extent({ quick: ['9'], full: ['20'] }),
    until: 20,
  },
  {
    trace: 't5-btrfs-churn',
    where: 'so that it ends on a boundary',
    start: (_dir, endUs) => BOUNDARY_US - endUs * STRETCH,
    steps: extent({ quick: ['10'], full: ['10', '30'] }),
    until: 24,
  },
];

it.each(CASES.map((one) => [one.trace, one.where, one] as const))(
  '%s, begun %s: every point is the replay up to its cut',
  async (trace, _where, { start, steps, until }) => {
    const dir = tracePath(trace);
    const group = trace.slice(0, 2);
    const untilUs = isFullRun || until === undefined ? undefined : until * 1e6;
    const shipment: Shipment = {
      dir,
      startUs: start(dir, untilUs ?? traceEnd(dir)),
      stretch: STRETCH,
      ...(untilUs !== undefined && { untilUs }),
    };
    const sizes = expectations(dir).disk_size;
    const disks = sizes.map((sizeBytes, disk) => `disk${disk}=${sizeBytes}`).flatMap((disk) => ['--disk', disk]);
    const hours = ['--retention-hours', '24', '--app-consistent-hours', '1'];
    await operator.ok('policy', 'set', 'daily', ...hours);
    await operator.ok('group', 'protect', group, '--policy', 'daily', '--machine', 'web', ...disks);

    const times = ['--start', isoOf(shipment.startUs), '--stretch', `${STRETCH}`];
    const ship = ['source', 'ship', group, '--trace', dir, ...times, '--segment-seconds', '40'];
    const work = ['worker', 'run', '--once', '--group', group];
    for (const step of steps) {
      await Promise.all([operator.ok(...ship, '--until', step), operator.ok(...work)]);
    }
    const rest = untilUs === undefined ? ship : [...ship, '--until', `${until}`];
    const [shipped] = await Promise.all([operator.json<{ end: string }>(...rest), operator.ok(...work)]);
    expect(shipped.end).toBe(isoOf(endUsOf(shipment)));
    await operator.ok(...work);

    const replays = sizes.map((_, disk) => new TraceReplay(dir, disk));
    await verifyPoints({
      operator,
      storage: new RawStorage(stack.environment),
      group,
      disks: replays.map((replay, disk) => ({ machine: 'web', disk: `disk${disk}`, replay })),
      expected: expectedPoints(shipment, replays, 'boundaries'),
      ...(!isFullRun && { depthOf: exportSome }),
      folder: stack.home,
    });
  },
  180_000,
);
