/** Steps that give commands to consistency groups. The key of a step makes its repetition find the same job. */
import { getGroup } from '../catalog/groups.ts';
import type { Command, JobView } from '../commands/commands.ts';
import { assert, ERROR_CATALOGUE, TidemarkError, type ErrorCode } from '../errors.ts';
import { keyedId } from '../failover/service.ts';
import type { RunStep } from './run-document.ts';
import type { StepContext } from './perform.ts';

/** How often a job that somebody else executes is looked at. */
const LOOK_AGAIN_MS = 5000;
const MAX_REQUESTER_CHARS = 200;

/** Of commands, webhooks and scripts: the same whenever this step of this run is tried again. */
export const stepKey = (run: string, step: string): string => `plan:${run}:${step}`;

export async function failOver(context: StepContext, signal: AbortSignal): Promise<void> {
  const { journal, step } = context;
  const { test, points } = journal.document;
  const group = groupOf(step);
  const point = step.point ?? points?.[group];
  assert(point !== undefined, `the common point of ${group} is chosen`);
  const command: Command = { command: test ? 'test-failover' : 'failover', group, point };
  await give(context, { command, key: stepKey(journal.document.run, step.id) }, signal);
}

/** Deletes what the run's own test failover has made; one that is gone, or somebody else's, is left alone. */
export async function cleanUp(context: StepContext, signal: AbortSignal): Promise<void> {
  const { ports, journal, step } = context;
  const group = groupOf(step);
  const { run, steps } = journal.document;
  const failover = steps.find((other) => other.kind === 'failover' && other.group === group);
  assert(failover !== undefined, `the run has a failover of ${group}`);
  const made = await submittedJob(context, { group, id: failover.id }, signal);
  const cleanup = await submittedJob(context, { group, id: step.id }, signal);
  const { drill } = await getGroup(ports.catalog, group, signal);
  const isThere = made !== undefined && drill?.made.includes(made.job) === true;
  // A cleanup that ended the test failover and died before it said so has still to say so.
  if (!isThere && cleanup?.state !== 'running') return;
  const notes = `plan run ${run}`;
  const command: Command = { command: 'cleanup-test-failover', group, notes };
  await give(context, { command, key: stepKey(run, step.id) }, signal);
}

/** The job of a step, noted or not: its id follows from the key. */
async function submittedJob(
  { ports, journal }: StepContext,
  { group, id }: { readonly group: string; readonly id: string },
  signal: AbortSignal,
): Promise<JobView | undefined> {
  const job = keyedId(group, stepKey(journal.document.run, id));
  try {
    return await ports.commands.job(group, job, signal);
  } catch (error) {
    if (error instanceof TidemarkError && error.code === 'JOB_NOT_FOUND') return undefined;
    throw error;
  }
}

const groupOf = ({ id, group }: RunStep): string => {
  assert(group !== null, `step ${id} is about a consistency group`);
  return group;
};

interface Given {
  readonly command: Command;
  readonly key: string;
}

async function give(
  { ports, journal, step }: StepContext,
  { command, key }: Given,
  signal: AbortSignal,
): Promise<void> {
  const { run, requestedBy } = journal.document;
  const asked = { idempotencyKey: key, requestedBy: `${requestedBy}, plan run ${run}`.slice(0, MAX_REQUESTER_CHARS) };
  const { group, job } = await ports.commands.submit(command, asked, signal);
  await journal.note(step, { job });
  const ended = await toItsEnd({ ports, journal, step }, { group, job }, signal);
  await journal.note(step, { usedPoint: ended.point });
  if (ended.state !== 'succeeded') throw failureOf(ended);
}

/** Executes the job; one that somebody else takes over is waited for. */
async function toItsEnd(
  { ports, journal }: StepContext,
  { group, job }: Pick<JobView, 'group' | 'job'>,
  signal: AbortSignal,
): Promise<JobView> {
  try {
    return await ports.commands.execute(group, job, {}, signal);
  } catch (error) {
    const isTaken = error instanceof TidemarkError && error.code === 'OWNERSHIP_LOST';
    if (!isTaken || journal.isLost || signal.aborted) throw error;
  }
  for (;;) {
    const view = await ports.commands.job(group, job, signal);
    if (view.state !== 'running') return view;
    await ports.clock.sleep(LOOK_AGAIN_MS, signal);
  }
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(ERROR_CATALOGUE, code);

function failureOf({ job, state, error }: JobView): TidemarkError {
  if (error === null) return new TidemarkError('PLAN_STEP_FAILED', `job ${job} was ${state}`);
  return new TidemarkError(isErrorCode(error.code) ? error.code : 'UNEXPECTED', `job ${job} failed: ${error.message}`);
}
