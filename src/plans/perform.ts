/** What each kind of step does. Every one is safe to repeat; what it asks of the outside carries the same key each time. */
import { assert, TidemarkError } from '../errors.ts';
import { usFromIso } from '../model/time.ts';
import { findDecision } from './approvals.ts';
import { cleanUp, failOver, stepKey } from './failover-step.ts';
import type { Action } from './plan-file.ts';
import type { PlanStepKind } from './plan-run.ts';
import { chooseCommonPoints, pointsText, releasePoints } from './points-step.ts';
import type { PlanPorts } from './ports.ts';
import { MAX_OUTPUT_CHARS, stepOf, type RunDocument, type RunStep } from './run-document.ts';
import type { RunJournal } from './run-journal.ts';
import { ScriptFailure } from './script.ts';
import { within } from './time-limit.ts';

export interface StepContext {
  readonly ports: PlanPorts;
  readonly journal: RunJournal;
  /** As it was when the executor came to it. */
  readonly step: RunStep;
}

/** Brings a step as far as it goes now: to its end, or to where it waits for somebody. @throws what the step fails with */
export async function performStep(context: StepContext, signal: AbortSignal): Promise<void> {
  const { ports, journal, step } = context;
  if (step.isSkipped) return journal.move(step, 'skip');
  if (step.state === 'waiting' || step.action?.type === 'manual') {
    const goesOn = await awaitDecision(context, signal);
    if (!goesOn) return;
  }
  if (await asksFirst(context)) return;
  await journal.move(step, 'start');
  const ms = step.kind === 'manual' ? null : step.timeoutMs; // that of a manual action is the time of its wait
  await within({ clock: ports.clock, ms, what: step.id }, signal, (either) => STEPS[step.kind](context, either));
  await journal.move(step, 'done');
}

const STEPS: Readonly<Record<PlanStepKind, (context: StepContext, signal: AbortSignal) => Promise<void>>> = {
  'choose-points': choosePoints,
  'release-points': ({ ports, journal }, signal) => releasePoints(ports, journal.document, signal),
  webhook: callHook,
  script: runProgram,
  manual: async () => undefined, // somebody has approved it
  failover: failOver,
  shared: requireShared,
  cleanup: cleanUp,
};

/** @returns whether the step goes on now; false: it waits, or its wait has ended it */
async function awaitDecision(context: StepContext, signal: AbortSignal): Promise<boolean> {
  const { ports, journal, step } = context;
  if (step.state === 'running' || step.state === 'approved') return true;
  if (step.state === 'pending') {
    assert(step.action?.type === 'manual', `${step.id} asks for approval`);
    await journal.move(step, 'wait', { waits: step.waits + 1, output: step.action.instructions });
  }
  const waiting = stepOf(journal.document, step.id);
  const approval = await findDecision(ports, journal.document.run, waiting, signal);
  if (approval === undefined) return timedOut(context);
  const note = approval.note === null ? '' : `: ${approval.note}`;
  if (approval.decision === 'reject') {
    await journal.note(step, { approval });
    throw new TidemarkError('PLAN_STEP_FAILED', `${approval.by} has rejected ${step.id}${note}`);
  }
  await journal.move(step, 'approve', { approval, ...(step.kind === 'script' && { startedAt: null }) });
  return true;
}

async function timedOut({ ports, journal, step }: StepContext): Promise<boolean> {
  const { startedAt, timeoutMs, kind } = stepOf(journal.document, step.id);
  if (timeoutMs === null || kind !== 'manual' || startedAt === null) return false;
  if (ports.clock.nowUs() - usFromIso(startedAt) < timeoutMs * 1000) return false;
  const what = `nobody has approved ${step.id} within ${timeoutMs / 60_000} min`;
  if (actionOf(step, 'manual').onTimeout === 'fail') throw new TidemarkError('PLAN_STEP_TIMEOUT', what);
  await journal.move(step, 'done', { output: `${what}; the plan goes on without` });
  return false;
}

/** A script that was under way when its executor died, and that must not run again unasked. */
async function asksFirst({ journal, step }: StepContext): Promise<boolean> {
  if (step.action?.type !== 'script' || step.action.afterCrash !== 'askFirst' || step.state !== 'running') return false;
  const why = 'its executor died while the script ran; look what it has done, then approve that it runs again';
  await journal.move(step, 'wait', { waits: step.waits + 1, output: why });
  return true;
}

async function choosePoints({ ports, journal, step }: StepContext, signal: AbortSignal): Promise<void> {
  const points = await chooseCommonPoints(ports, journal.document, signal);
  await journal.save((document) => ({ ...document, points }));
  await journal.note(step, { output: pointsText(points, ports.clock.nowUs()) });
}

/** The points in use: those that jobs have taken, and the common ones. */
function pointsOf({ points, steps }: RunDocument): Readonly<Record<string, string>> {
  const used = steps.flatMap(({ kind, group, usedPoint, state }) =>
    kind === 'failover' && state === 'done' && group !== null && usedPoint !== null ? [[group, usedPoint]] : [],
  );
  return { ...points, ...Object.fromEntries(used) };
}

function factsOf({ journal, step }: StepContext): Readonly<Record<string, unknown>> {
  const { run, plan, test } = journal.document;
  return {
    run,
    plan,
    step: step.id,
    group: step.planGroup,
    phase: step.phase,
    test,
    points: pointsOf(journal.document),
  };
}

function actionOf<T extends Action['type']>(step: RunStep, type: T): Extract<Action, { type: T }> {
  assert(step.action?.type === type, `${step.id} is a ${type}`);
  return step.action as Extract<Action, { type: T }>;
}

async function callHook(context: StepContext, signal: AbortSignal): Promise<void> {
  const { ports, journal, step } = context;
  const action = actionOf(step, 'webhook');
  const call = {
    url: typeof action.url === 'string' ? action.url : await ports.secret(action.url),
    secret: await ports.secret(action.secret),
    body: JSON.stringify(factsOf(context)),
    idempotencyKey: stepKey(journal.document.run, step.id),
    timeoutMs: Math.round(action.timeoutSeconds * 1000),
    attempts: action.attempts,
  };
  const answer = await ports.actions.webhook(call, signal);
  await journal.note(step, { output: answer.slice(0, MAX_OUTPUT_CHARS) });
}

/** Values that everybody may see. */
const PLAIN: ReadonlySet<string> = new Set(['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'LC_ALL', 'TZ', 'PWD']);

async function runProgram(context: StepContext, signal: AbortSignal): Promise<void> {
  const { ports, journal, step } = context;
  const { command, cwd, env } = actionOf(step, 'script');
  const allowed = env.flatMap((name): [string, string][] => {
    const value = ports.environment[name];
    return value === undefined ? [] : [[name, value]];
  });
  const call = {
    command,
    ...(cwd !== undefined && { cwd }),
    environment: { ...Object.fromEntries(allowed), ...factVariables(context) },
    secrets: new Map(allowed.filter(([name]) => !PLAIN.has(name))),
    tailChars: MAX_OUTPUT_CHARS,
  };
  try {
    const output = await ports.actions.script(call, signal);
    await journal.note(step, { output });
  } catch (error) {
    if (error instanceof ScriptFailure) await journal.note(step, { output: error.output });
    throw error;
  }
}

/** The facts that a webhook gets, and the key, as variables: RUN, PLAN, STEP, GROUP and so on behind the product's prefix. */
function factVariables(context: StepContext): Readonly<Record<string, string>> {
  const facts = { ...factsOf(context), idempotency_key: stepKey(context.journal.document.run, context.step.id) };
  const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [`TIDEMARK_${name.toUpperCase()}`, text(value)]),
  );
}

async function requireShared({ journal, step }: StepContext): Promise<void> {
  assert(step.sharedWith !== null, `${step.id} names the step that fails its group over`);
  const first = stepOf(journal.document, step.sharedWith);
  if (first.state === 'done') return journal.note(step, { job: first.job });
  throw new TidemarkError('PLAN_STEP_FAILED', `${first.id}, on which ${step.id} depends, is ${first.state}`);
}
