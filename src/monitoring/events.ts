/**
 * Pure. The catalogue of monitoring events: what each says, how bad it is and what it means to the person on call.
 * docs/monitoring.md lists the same types and fields; a test compares the two.
 */
import { z } from 'zod';
import { assert } from '../errors.ts';
import { RUN_STATES, RUN_STEP_STATES } from '../plans/states.ts';
import { MAX_LISTED, MAX_LISTED_TEXT, MAX_TEXT } from './event-limits.ts';

export const SEVERITIES = ['info', 'warning', 'error', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** ASR's health states. `None`: nothing is promised in the group's present state, so there is nothing to judge. */
export const HEALTH_LEVELS = ['None', 'Normal', 'Warning', 'Critical'] as const;
export type HealthLevel = (typeof HEALTH_LEVELS)[number];

/** States of a job; a failed one can go on. */
export const JOB_STATES = ['running', 'succeeded', 'failed', 'canceled'] as const;

const isoTime = z.string().regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/, 'a UTC time with microseconds');
const name = z.string().min(1).max(63);
const text = z.string().max(MAX_TEXT);
const listedText = z.string().max(MAX_LISTED_TEXT);
const bytes = z.int().nonnegative();
const seconds = z.number().nonnegative();
const listOf = <S extends z.ZodType>(item: S) => z.array(item).max(MAX_LISTED).readonly();
/** How many entries of the event's list were left out to keep the message small; absent when none were. */
const omitted = z.int().positive().optional();
const disk = { machine: name, disk: name };
const rpo = {
  rpoSeconds: seconds,
  thresholdMinutes: z.number().positive(),
  watermark: isoTime.nullable(),
  newestCut: isoTime.nullable(),
};

interface EventDefinition<S extends z.ZodObject> {
  /** What it means to an operator, and what to do: one sentence. */
  readonly meaning: string;
  /** The first is the usual one. */
  readonly severities: readonly [Severity, ...Severity[]];
  readonly data: S;
}

const define = <S extends z.ZodObject>(definition: EventDefinition<S>): EventDefinition<S> => definition;

export const EVENT_CATALOGUE = {
  PointCreated: define({
    meaning: 'A recovery point is listed and can be recovered from; nothing to do.',
    severities: ['info'],
    data: z.strictObject({
      point: name,
      kind: z.enum(['crash', 'app', 'latest']),
      cut: isoTime,
      changedBytes: bytes,
      disks: listOf(z.strictObject({ ...disk, sizeBytes: bytes, changedBytes: bytes, snapshot: listedText })),
      previousPoint: name.nullable(),
      omitted,
    }),
  }),
  CrashConsistentPointMissed: define({
    meaning: 'A crash mark could not become a point; later marks go on, so look at the source of the disks named.',
    severities: ['warning'],
    data: z.strictObject({
      reason: z.enum(['mark-missing', 'same-instant']),
      detail: text,
      markId: text.nullable(),
      cut: isoTime.nullable(),
      missingOn: listOf(listedText).optional(),
      omitted,
    }),
  }),
  AppConsistentPointMissed: define({
    meaning:
      'An interval passed without an app-consistent point; crash-consistent points go on, so look at the snapshot scripts of the source.',
    severities: ['warning'],
    data: z.strictObject({
      reason: z.enum(['no-mark', 'mark-missing', 'same-instant']),
      detail: text,
      markId: text.optional(),
      missingOn: listOf(listedText).optional(),
      intervalHours: z.number().positive(),
      omitted,
    }),
  }),
  RpoThresholdExceeded: define({
    meaning:
      'More recent data than the policy allows would be lost now; look at the lag figures for the stage that is behind.',
    severities: ['error'],
    data: z.strictObject(rpo),
  }),
  RpoBackToNormal: define({
    meaning: 'The RPO is well below the threshold again; nothing to do.',
    severities: ['info'],
    data: z.strictObject(rpo),
  }),
  PointsPruned: define({
    meaning: 'Points that the retention policy no longer keeps were removed, each with its reason; nothing to do.',
    severities: ['info'],
    data: z.strictObject({
      removed: listOf(z.strictObject({ point: name, reason: listedText })),
      kept: z.int().nonnegative(),
      omitted,
    }),
  }),
  PointDamaged: define({
    meaning:
      'A point does not hold what its log said; do not recover from it, choose another, and look for the cause in the storage account.',
    severities: ['critical'],
    data: z.strictObject({
      point: name,
      checkedBytes: bytes,
      damaged: listOf(z.strictObject({ ...disk, offsetBytes: bytes, lengthBytes: bytes })),
      omitted,
    }),
  }),
  PointNotRecoverable: define({
    meaning:
      'A disk of a point that was sound before cannot be used as it is; recover from the sound point named, and look at the source: it may be damaged itself.',
    severities: ['critical'],
    data: z.strictObject({
      point: name,
      bytesVerified: z.boolean(),
      disks: listOf(z.strictObject({ ...disk, text: listedText })),
      soundPoint: name.nullable(),
      omitted,
    }),
  }),
  InitialReplicationProgress: define({
    meaning: 'The first full copy of a disk is under way; nothing to do while the figure moves.',
    severities: ['info'],
    data: z.strictObject({ ...disk, appliedBytes: bytes, sizeBytes: bytes, percent: z.number().min(0).max(100) }),
  }),
  InitialReplicationCompleted: define({
    meaning: 'The first full copy of a disk is applied; points begin once all disks of the group have come this far.',
    severities: ['info'],
    data: z.strictObject({ ...disk, appliedBytes: bytes, baseCompleteTime: isoTime }),
  }),
  LagReported: define({
    meaning: 'How far the group is behind its source, in time and in bytes; only the newest figures count.',
    severities: ['info'],
    data: z.strictObject({
      receivedRpoSeconds: seconds.nullable(),
      recoverableRpoSeconds: seconds.nullable(),
      backlogBytes: bytes,
      disks: listOf(
        z.strictObject({ ...disk, watermark: isoTime.nullable(), backlogSegments: bytes, backlogBytes: bytes }),
      ),
      omitted,
    }),
  }),
  HealthChanged: define({
    meaning: 'The health of the group changed; the symptoms say why, and each clears itself when its cause is gone.',
    severities: ['info', 'warning', 'critical'],
    data: z.strictObject({
      from: z.enum(HEALTH_LEVELS),
      to: z.enum(HEALTH_LEVELS),
      symptoms: listOf(
        z.strictObject({ code: listedText, severity: z.enum(['warning', 'critical']), text: listedText }),
      ),
      omitted,
    }),
  }),
  ResyncRequired: define({
    meaning:
      'The log of a disk cannot be trusted from the place named on and replication of the group has stopped there; keep the blob and start a resync.',
    severities: ['critical'],
    data: z.strictObject({ ...disk, blob: text, offset: bytes.nullable(), code: text, reason: text }),
  }),
  StateChanged: define({
    meaning: 'The group, or one disk of it, came into another replication state; expected after a command of yours.',
    severities: ['info', 'warning'],
    data: z.strictObject({
      machine: name.optional(),
      disk: name.optional(),
      from: listedText.nullable(),
      to: listedText,
    }),
  }),
  JobChanged: define({
    meaning:
      'A job that somebody asked for has begun, succeeded, failed or was canceled; a failed one says why, and goes on with `tidemark job resume`.',
    severities: ['info', 'error'],
    data: z.strictObject({
      job: name,
      command: name,
      from: z.enum(JOB_STATES).nullable(),
      to: z.enum(JOB_STATES),
      usedPoint: name.nullable(),
      requestedBy: text,
      code: text.nullable(),
      reason: text.nullable(),
    }),
  }),
  PlanRunChanged: define({
    meaning:
      'A run of a recovery plan has begun, waits for an approval, failed or is over; `tidemark plan status` shows its steps, and `tidemark plan resume` goes on.',
    severities: ['info', 'warning', 'error'],
    data: z.strictObject({
      run: name,
      plan: name,
      test: z.boolean(),
      from: z.enum(RUN_STATES).nullable(),
      to: z.enum(RUN_STATES),
      requestedBy: text,
      code: text.nullable(),
      reason: text.nullable(),
    }),
  }),
  PlanStepChanged: define({
    meaning: 'A step of a run has come into another state; one that waits needs `tidemark plan approve`.',
    severities: ['info', 'warning', 'error'],
    data: z.strictObject({
      run: name,
      plan: name,
      test: z.boolean(),
      step: listedText,
      from: z.enum(RUN_STEP_STATES),
      to: z.enum(RUN_STEP_STATES),
      failoverGroup: name.nullable(),
      failoverJob: name.nullable(),
      code: text.nullable(),
      reason: text.nullable(),
    }),
  }),
} as const;

export type EventType = keyof typeof EVENT_CATALOGUE;
export const EVENT_TYPES = Object.keys(EVENT_CATALOGUE) as readonly EventType[];
/** Part of every event's `dataschema`; raised when a field changes its meaning or goes away. */
export const EVENT_SCHEMA_VERSION = 1;

export type EventData<T extends EventType> = Readonly<z.infer<(typeof EVENT_CATALOGUE)[T]['data']>>;

/** One thing that happened to a group, told apart by `type`. */
export type MonitoringEvent = { [T in EventType]: { readonly type: T; readonly data: EventData<T> } }[EventType];

const HEALTH_SEVERITY: Readonly<Record<HealthLevel, Severity>> = {
  None: 'info',
  Normal: 'info',
  Warning: 'warning',
  Critical: 'critical',
};

/** Of the states of runs and steps that ask for somebody. */
const PLAN_SEVERITY: Readonly<Record<string, Severity>> = {
  waiting: 'warning',
  degraded: 'warning',
  failed: 'error',
  'cleanup-failed': 'error',
};

/** Follows from the event alone, so that no producer can contradict the catalogue. */
export function severityOf(event: MonitoringEvent): Severity {
  if (event.type === 'HealthChanged') return HEALTH_SEVERITY[event.data.to];
  if (event.type === 'StateChanged' && event.data.to === 'resync-required') return 'warning';
  if (event.type === 'JobChanged' && event.data.to === 'failed') return 'error';
  if (event.type === 'PlanRunChanged' || event.type === 'PlanStepChanged')
    return PLAN_SEVERITY[event.data.to] ?? 'info';
  return EVENT_CATALOGUE[event.type].severities[0];
}

/**
 * Events of one key supersede each other: only the newest figures matter. Undefined for facts, each of which counts.
 */
export function progressKey(event: {
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}): string | undefined {
  if (event.type === 'LagReported') return event.type;
  if (event.type === 'InitialReplicationProgress') {
    return `${event.type} ${String(event.data['machine'])}/${String(event.data['disk'])}`;
  }
  if (event.type === 'PlanStepChanged') {
    return `${event.type} ${String(event.data['run'])}/${String(event.data['step'])}`;
  }
  return undefined;
}

const isEventType = (type: string): type is EventType => Object.hasOwn(EVENT_CATALOGUE, type);

/** The event that `type` and `data` make, or undefined when this version does not know such a one. */
export function parseEvent(type: string, data: unknown): MonitoringEvent | undefined {
  if (!isEventType(type)) return undefined;
  const parsed = EVENT_CATALOGUE[type].data.safeParse(data);
  return parsed.success ? ({ type, data: parsed.data } as MonitoringEvent) : undefined;
}

/** @throws TidemarkError ASSERTION when the data does not match the schema of its type. */
export function requireEvent(event: MonitoringEvent): MonitoringEvent {
  assert(isEventType(event.type), `there is no event type ${JSON.stringify(event.type)}`);
  const parsed = EVENT_CATALOGUE[event.type].data.safeParse(event.data);
  assert(parsed.success, `data of ${event.type} does not match its schema: ${parsed.error?.message ?? ''}`);
  return { type: event.type, data: parsed.data } as MonitoringEvent;
}
