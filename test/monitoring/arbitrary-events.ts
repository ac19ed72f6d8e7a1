import * as fc from 'fast-check';
import { isoFromUs } from '../../src/model/time.ts';
import { RUN_STATES, RUN_STEP_STATES } from '../../src/plans/states.ts';
import type { EventType, MonitoringEvent } from '../../src/monitoring/events.ts';

/** 2026-11-23T04:30:00Z */
export const T0_US = 1_795_408_200_000_000;

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}[a-z0-9]$/);
const bytes = fc.nat(2 ** 40);
const seconds = fc.nat(100_000);
const text = fc.string({ minLength: 1, maxLength: 1500, unit: 'binary' });
const iso = fc.nat(10 ** 12).map((us) => isoFromUs(T0_US + us));
const disk = { machine: name, disk: name };
const listOf = <T>(item: fc.Arbitrary<T>) => fc.array(item, { maxLength: 5 });
const rpo = fc.record({
  rpoSeconds: seconds,
  thresholdMinutes: fc.integer({ min: 1, max: 600 }),
  watermark: fc.option(iso),
  newestCut: fc.option(iso),
});
const health = fc.constantFrom('None' as const, 'Normal' as const, 'Warning' as const, 'Critical' as const);

/** Valid data of every type, with texts and lists that may be beyond the limits. */
const dataOf: { readonly [T in EventType]: fc.Arbitrary<Extract<MonitoringEvent, { type: T }>['data']> } = {
  PointCreated: fc.record({
    point: name,
    kind: fc.constantFrom('crash' as const, 'app' as const, 'latest' as const),
    cut: iso,
    changedBytes: bytes,
    disks: listOf(fc.record({ ...disk, sizeBytes: bytes, changedBytes: bytes, snapshot: iso })),
    previousPoint: fc.option(name),
  }),
  CrashConsistentPointMissed: fc.record(
    {
      reason: fc.constantFrom('mark-missing' as const, 'same-instant' as const),
      detail: text,
      markId: fc.option(text),
      cut: fc.option(iso),
      missingOn: listOf(text),
    },
    { requiredKeys: ['reason', 'detail', 'markId', 'cut'] },
  ),
  AppConsistentPointMissed: fc.record(
    {
      reason: fc.constantFrom('no-mark' as const, 'mark-missing' as const, 'same-instant' as const),
      detail: text,
      markId: text,
      missingOn: listOf(text),
      intervalHours: fc.integer({ min: 1, max: 12 }),
    },
    { requiredKeys: ['reason', 'detail', 'intervalHours'] },
  ),
  RpoThresholdExceeded: rpo,
  RpoBackToNormal: rpo,
  PointDamaged: fc.record({
    point: name,
    checkedBytes: bytes,
    damaged: fc.array(fc.record({ machine: name, disk: name, offsetBytes: bytes, lengthBytes: bytes }), {
      maxLength: 3,
    }),
  }),
  PointNotRecoverable: fc.record({
    point: name,
    bytesVerified: fc.boolean(),
    disks: listOf(fc.record({ ...disk, text })),
    soundPoint: fc.option(name),
  }),
  PointsPruned: fc.record({ removed: listOf(fc.record({ point: name, reason: text })), kept: fc.nat(1000) }),
  InitialReplicationProgress: fc.record({
    ...disk,
    appliedBytes: bytes,
    sizeBytes: bytes,
    percent: fc.double({ min: 0, max: 100, noNaN: true }),
  }),
  InitialReplicationCompleted: fc.record({ ...disk, appliedBytes: bytes, baseCompleteTime: iso }),
  LagReported: fc.record({
    receivedRpoSeconds: fc.option(seconds),
    recoverableRpoSeconds: fc.option(seconds),
    backlogBytes: bytes,
    disks: listOf(fc.record({ ...disk, watermark: fc.option(iso), backlogSegments: bytes, backlogBytes: bytes })),
  }),
  HealthChanged: fc.record({
    from: health,
    to: health,
    symptoms: listOf(
      fc.record({ code: name, severity: fc.constantFrom('warning' as const, 'critical' as const), text }),
    ),
  }),
  ResyncRequired: fc.record({ ...disk, blob: text, offset: fc.option(bytes), code: name, reason: text }),
  StateChanged: fc.record(
    { ...disk, from: fc.option(name), to: fc.constantFrom('protected', 'resync-required', 'paused') },
    { requiredKeys: ['from', 'to'] },
  ),
  JobChanged: fc.record({
    job: name,
    command: name,
    from: fc.option(fc.constantFrom('running' as const, 'failed' as const)),
    to: fc.constantFrom('running' as const, 'succeeded' as const, 'failed' as const, 'canceled' as const),
    usedPoint: fc.option(name),
    requestedBy: text,
    code: fc.option(name),
    reason: fc.option(text),
  }),
  PlanRunChanged: fc.record({
    run: name,
    plan: name,
    test: fc.boolean(),
    from: fc.option(fc.constantFrom(...RUN_STATES)),
    to: fc.constantFrom(...RUN_STATES),
    requestedBy: text,
    code: fc.option(name),
    reason: fc.option(text),
  }),
  PlanStepChanged: fc.record({
    run: name,
    plan: name,
    test: fc.boolean(),
    step: name.map((text) => `group-1/failover/${text}`),
    from: fc.constantFrom(...RUN_STEP_STATES),
    to: fc.constantFrom(...RUN_STEP_STATES),
    failoverGroup: fc.option(name),
    failoverJob: fc.option(name),
    code: fc.option(name),
    reason: fc.option(text),
  }),
};

export const arbitraryEvent: fc.Arbitrary<MonitoringEvent> = fc.oneof(
  ...Object.entries(dataOf).map(([type, data]) =>
    (data as fc.Arbitrary<MonitoringEvent['data']>).map((value) => ({ type, data: value }) as MonitoringEvent),
  ),
);

/** A progress event that the next of its disk supersedes. */
export const progressOf = (disk: string, appliedBytes: number): MonitoringEvent => ({
  type: 'InitialReplicationProgress',
  data: { machine: 'web', disk, appliedBytes, sizeBytes: 100, percent: appliedBytes },
});

/** A fact, told apart by its point's name. */
export const pointCreated = (point: string): MonitoringEvent => ({
  type: 'PointCreated',
  data: {
    point,
    kind: 'crash',
    cut: isoFromUs(T0_US),
    changedBytes: 4096,
    disks: [
      { machine: 'web', disk: 'os', sizeBytes: 2 ** 26, changedBytes: 4096, snapshot: '2026-11-23T04:30:01.0000001Z' },
    ],
    previousPoint: null,
  },
});
