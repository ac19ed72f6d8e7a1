/** Pure. The journal of a run: its steps, how far each has come, and the run's own outbox. Only its executor writes it, under a lease. */
import { z } from 'zod';
import { pointSelectorSchema } from '../commands/commands.ts';
import { assert, TidemarkError } from '../errors.ts';
import { isoFromUs } from '../model/time.ts';
import type { MonitoringEvent } from '../monitoring/events.ts';
import { enqueue, newOutbox, outboxSchema } from '../monitoring/outbox.ts';
import { redactSecrets } from '../telemetry/redact.ts';
import { actionSchema, MAX_ACTIONS, MAX_PLAN_GROUPS, MAX_PLAN_MACHINES } from './plan-file.ts';
import { PLAN_STEP_KINDS, type PlannedRunStep } from './plan-run.ts';
import { RUN_STATES, RUN_STEP_STATES, runAfter, stepAfter, type RunEvent, type StepEvent } from './states.ts';

/** Actions around each group, failovers, their cleanups, and the choice and release of common points. */
const MAX_RUN_STEPS = 2 * MAX_ACTIONS * MAX_PLAN_GROUPS + 2 * MAX_PLAN_MACHINES + 2;
/** Our choice: the last lines of a script say why it failed. */
export const MAX_OUTPUT_CHARS = 4096;
const MAX_ERROR_CHARS = 2000;

const time = z.iso.datetime();
const id = z.string().min(1).max(100);
const name = z.string().min(1).max(63);
const line = z.string().min(1).max(200);

const approvalSchema = z.strictObject({
  decision: z.enum(['approve', 'reject']),
  by: line,
  at: time,
  note: line.nullable(),
});

export type Approval = Readonly<z.infer<typeof approvalSchema>>;

const errorSchema = z.strictObject({ code: z.string(), message: z.string().max(MAX_ERROR_CHARS), hint: z.string() });

const runStepSchema = z.strictObject({
  id,
  kind: z.enum(PLAN_STEP_KINDS),
  planGroup: name.nullable(),
  phase: z.enum(['points', 'pre', 'failover', 'post', 'cleanup']),
  group: name.nullable(),
  point: pointSelectorSchema.nullable(),
  sharedWith: id.nullable(),
  action: actionSchema.nullable(),
  after: z.array(id).max(MAX_PLAN_MACHINES).readonly(),
  onFailure: z.enum(['stop', 'continue']),
  timeoutMs: z.int().positive().nullable(),
  isSkipped: z.boolean(),
  state: z.enum(RUN_STEP_STATES),
  /** When it began, or began to wait; of a repetition, that of the first try. */
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  /** How often it has waited for somebody: each wait has a decision of its own. */
  waits: z.int().nonnegative(),
  approval: approvalSchema.nullable(),
  /** The failover job. */
  job: name.nullable(),
  /** The point that it has used. */
  usedPoint: name.nullable(),
  /** Last lines of a script, or what a webhook answered, or why a step waits; secrets taken out. */
  output: z.string().max(MAX_OUTPUT_CHARS).nullable(),
  error: errorSchema.nullable(),
});

export const runSchema = z.strictObject({
  version: z.literal(1),
  run: name,
  plan: name,
  /** SHA-256 of the plan and the options, for runs that are asked for again with the same key. */
  planSha256: z.string().length(64),
  test: z.boolean(),
  point: pointSelectorSchema,
  requestedBy: line,
  createdAt: time,
  endedAt: time.nullable(),
  state: z.enum(RUN_STATES),
  /** Consistency group to the id of its common point; null until they are chosen, and without `common`. */
  points: z.record(name, name).nullable(),
  steps: z.array(runStepSchema).max(MAX_RUN_STEPS).readonly(),
  outbox: outboxSchema,
});

export type RunDocument = Readonly<z.infer<typeof runSchema>>;
export type RunStep = Readonly<z.infer<typeof runStepSchema>>;
type StepError = NonNullable<RunStep['error']>;

export interface NewRun extends Pick<RunDocument, 'run' | 'plan' | 'planSha256' | 'test' | 'point' | 'requestedBy'> {
  readonly steps: readonly PlannedRunStep[];
  readonly nowUs: number;
}

/** With the message of its begin queued. */
export function newRun({ nowUs, steps, ...rest }: NewRun): RunDocument {
  const document: RunDocument = {
    ...rest,
    version: 1,
    createdAt: isoFromUs(nowUs),
    endedAt: null,
    state: 'running',
    points: null,
    steps: steps.map(newStep),
    outbox: newOutbox(nowUs),
  };
  return withRunMessage(document, null, nowUs);
}

const newStep = (step: PlannedRunStep): RunStep => ({
  ...step,
  state: 'pending',
  startedAt: null,
  endedAt: null,
  waits: 0,
  approval: null,
  job: null,
  usedPoint: null,
  output: null,
  error: null,
});

export function stepOf({ run, steps }: RunDocument, id: string): RunStep {
  const step = steps.find((other) => other.id === id);
  assert(step !== undefined, `run ${run} has the step ${id}`);
  return step;
}

/** The journal after the event, with the message that says so: one write. Asserts that the table allows it. */
export function runTo(document: RunDocument, event: RunEvent, nowUs: number): RunDocument {
  const state = runAfter(document.state, event);
  assert(state !== undefined, `run ${document.run} is ${document.state}, which ${event} does not follow`);
  if (state === document.state) return document;
  const goesOn = state === 'running' || state === 'waiting' || state === 'cleaning-up';
  const next = { ...document, state, endedAt: goesOn ? null : isoFromUs(nowUs) };
  return withRunMessage(next, document.state, nowUs);
}

type StepChange = Partial<Pick<RunStep, 'approval' | 'job' | 'output' | 'error' | 'waits' | 'startedAt'>>;

/** As {@link runTo}, of one step. */
export function stepTo(
  document: RunDocument,
  { id, event, nowUs, change = {} }: { id: string; event: StepEvent; nowUs: number; change?: StepChange },
): RunDocument {
  const before = stepOf(document, id);
  const state = stepAfter(before.state, event);
  assert(state !== undefined, `step ${id} is ${before.state}, which ${event} does not follow`);
  const isOver = state === 'done' || state === 'failed' || state === 'skipped';
  const now = isoFromUs(nowUs);
  const step: RunStep = {
    ...before,
    ...change,
    state,
    startedAt:
      state === 'pending' ? null : change.startedAt === undefined ? (before.startedAt ?? now) : change.startedAt,
    endedAt: isOver ? now : null,
  };
  const changed = noted(document, id, step);
  return state === before.state ? changed : withStepMessage(changed, step, before.state, nowUs);
}

/** The journal with more about a step. */
export const noted = (document: RunDocument, id: string, change: Partial<RunStep>): RunDocument => ({
  ...document,
  steps: document.steps.map((step) => (step.id === id ? { ...step, ...change } : step)),
});

/** Steps whose failure stopped the run are pending again; the run goes on. */
export function resumed(document: RunDocument, nowUs: number): RunDocument {
  const stopped = activeSteps(document).filter(stops);
  const retried = stopped.reduce(
    (current, { id }) => stepTo(current, { id, event: 'retry', nowUs, change: { error: null, approval: null } }),
    document,
  );
  return document.state === 'failed' || document.state === 'cleanup-failed' ? runTo(retried, 'resume', nowUs) : retried;
}

/** The journal with what is to be deleted; what the run had still to do, it does no more. */
export function cleaning(document: RunDocument, steps: readonly PlannedRunStep[], nowUs: number): RunDocument {
  const known = new Set(document.steps.map(({ id }) => id));
  const fresh = steps.filter((step) => !known.has(step.id)).map(newStep);
  return runTo({ ...document, steps: [...document.steps, ...fresh] }, 'clean-up', nowUs);
}

const stops = ({ state, onFailure }: RunStep): boolean => state === 'failed' && onFailure === 'stop';

const isSettled = (step: RunStep): boolean =>
  step.state === 'done' || step.state === 'skipped' || (step.state === 'failed' && step.onFailure === 'continue');

/** Steps of the part of the journal that is executed now. */
export const activeSteps = ({ state, steps }: RunDocument): readonly RunStep[] => {
  const isCleanup = state === 'cleaning-up' || state === 'cleanup-failed';
  return steps.filter(({ phase }) => (phase === 'cleanup') === isCleanup);
};

/** Steps that can be executed now; none when all are over, or when one stopped the run. */
export function nextSteps(document: RunDocument): readonly RunStep[] {
  const steps = activeSteps(document);
  if (steps.some(stops)) return [];
  const settled = new Set(steps.filter(isSettled).map(({ id }) => id));
  return steps.filter(({ id, after }) => !settled.has(id) && after.every((before) => settled.has(before)));
}

/** How the run ends once there is nothing more to execute. */
export function endOf(document: RunDocument): RunEvent {
  const steps = activeSteps(document);
  if (steps.some(stops)) return 'fail';
  if (document.state === 'cleaning-up') return 'clean';
  return steps.some(({ state }) => state === 'failed') ? 'degrade' : 'succeed';
}

/** The first error that stopped the run. */
export const errorOf = (document: RunDocument): StepError | null => activeSteps(document).find(stops)?.error ?? null;

export function stepError(error: unknown): StepError {
  const known =
    error instanceof TidemarkError
      ? error
      : new TidemarkError('UNEXPECTED', error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  const message = redactSecrets(known.message).slice(0, MAX_ERROR_CHARS).toWellFormed();
  return { code: known.code, message, hint: known.hint };
}

function withRunMessage(document: RunDocument, from: RunDocument['state'] | null, nowUs: number): RunDocument {
  const { run, plan, test, state, requestedBy } = document;
  const error = state === 'failed' || state === 'cleanup-failed' ? errorOf(document) : null;
  const data = {
    run,
    plan,
    test,
    from,
    to: state,
    requestedBy,
    code: error?.code ?? null,
    reason: error?.message ?? null,
  };
  return queued(document, { type: 'PlanRunChanged', data }, nowUs);
}

function withStepMessage(document: RunDocument, step: RunStep, from: RunStep['state'], nowUs: number): RunDocument {
  const { run, plan, test } = document;
  const { id, state, group, job, error } = step;
  const about = { run, plan, test, step: id, from, to: state, failoverGroup: group, failoverJob: job };
  const data = { ...about, code: error?.code ?? null, reason: error?.message ?? null };
  return queued(document, { type: 'PlanStepChanged', data }, nowUs);
}

const queued = (document: RunDocument, event: MonitoringEvent, nowUs: number): RunDocument => ({
  ...document,
  outbox: enqueue(document.outbox, [event], nowUs),
});
