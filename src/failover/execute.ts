/** Executes a job from where its journal stands: phase after phase, the lanes of a phase beside each other. */
import { getGroup } from '../catalog/groups.ts';
import type { JobView } from '../commands/commands.ts';
import { TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { isoFromUs } from '../model/time.ts';
import { backoffMs } from '../retry.ts';
import { operationOf, requireClaim } from './claims.ts';
import { errorRecord, inState, isOver, viewOf, type JobDocument, type JobStepRecord } from './job-document.ts';
import { JobRun, readJob, type JobName } from './job-run.ts';
import type { FailoverPorts } from './ports.ts';
import { noteStep } from './step-context.ts';
import { performStep } from './steps.ts';

/** Disks or machines worked on at once. */
const LANES_IN_FLIGHT = 4;
/** About a minute and a half of patience with what may pass; then the job fails, and can go on later. */
export const STEP_RETRY = { attempts: 7, firstDelayMs: 1000, maxDelayMs: 30_000 } as const;

export type Progress = (job: JobView) => void;

class StepFailure extends Error {
  override readonly name = 'StepFailure';
  readonly step: string;

  constructor(step: string, cause: unknown) {
    super(step, { cause });
    this.step = step;
  }
}

/**
 * A failed job goes on where it failed. One that is over stays as it is; only messages of it that wait are sent.
 *
 * @returns the job as it is then: succeeded, failed or canceled
 * @throws TidemarkError JOB_NOT_FOUND; OWNERSHIP_LOST when another executor has taken it over; the signal's reason, with the job still to
 * be executed
 */
export async function executeJob(
  ports: FailoverPorts,
  name: JobName,
  onProgress: Progress,
  signal: AbortSignal,
): Promise<JobView> {
  const stored = await readJob(ports, name, signal);
  if (isOver(stored) && stored.outbox.queued.length === 0) return viewOf(stored);
  const run = await JobRun.take(ports, name, signal);
  try {
    if (!isOver(run.document)) await toItsEnd(ports, run, onProgress);
    await run.flushOutbox();
    return viewOf(run.document);
  } catch (error) {
    // Thrown out by the next job, which found everything of this one done: then it is done.
    const now = signal.aborted ? undefined : await readJob(ports, name, signal).catch(() => undefined);
    if (now?.state === 'succeeded') return viewOf(now);
    throw error;
  } finally {
    await run.close();
  }
}

async function toItsEnd(ports: FailoverPorts, run: JobRun, onProgress: Progress): Promise<void> {
  const tell = (): void => onProgress(viewOf(run.document));
  try {
    await run.save((document) => inState(document, { state: 'running', error: null }, ports.clock.nowUs()));
    tell();
    await requireOwnClaim(ports, run);
    await runPhases({ ports, run, tell });
    await run.save((document) =>
      inState(document, { state: 'succeeded', error: null, result: resultOf(document) }, ports.clock.nowUs()),
    );
  } catch (failure) {
    const error = failure instanceof StepFailure ? failure.cause : failure;
    if (run.isLost) throw run.signal.aborted ? run.signal.reason : error;
    if (failure instanceof StepFailure) await noteStep(run, failure.step, { state: 'failed' });
    await run.save((document) =>
      inState(document, { state: 'failed', error: errorRecord(error) }, ports.clock.nowUs()),
    );
  }
  tell();
}

/** A job whose claim another one has taken over does nothing more, even before that one has come to say so. */
async function requireOwnClaim({ catalog }: FailoverPorts, run: JobRun): Promise<void> {
  const { job, group, command, steps } = run.document;
  if (steps.some(({ kind, state }) => kind === 'claim' && state !== 'done')) return;
  const document = await getGroup(catalog, group, run.signal);
  if (operationOf(document, command.command) !== undefined) requireClaim(document, { job, command });
}

interface Executor {
  readonly ports: FailoverPorts;
  readonly run: JobRun;
  readonly tell: () => void;
}

async function runPhases(executor: Executor): Promise<void> {
  const { run } = executor;
  for (;;) {
    const left = run.document.steps.filter(({ state }) => state !== 'done');
    const phase = Math.min(...left.map((step) => step.phase));
    const lanes = Map.groupBy(
      left.filter((step) => step.phase === phase),
      ({ lane }) => lane,
    );
    if (lanes.size === 0) return;
    await mapAll(lanes.values(), LANES_IN_FLIGHT, run.signal, async (steps, either) => {
      for (const step of steps) await runStep(executor, step, either);
    });
  }
}

async function runStep({ ports, run, tell }: Executor, step: JobStepRecord, signal: AbortSignal): Promise<void> {
  await noteStep(run, step.name, { state: 'running', startedAt: isoFromUs(ports.clock.nowUs()) });
  tell();
  const outcome = await withPatience(ports, run, step, signal).catch((error: unknown) => {
    throw signal.aborted ? error : new StepFailure(step.name, error);
  });
  await noteStep(run, step.name, { ...outcome, state: 'done', token: null, endedAt: isoFromUs(ports.clock.nowUs()) });
  tell();
}

/** Repeats a step while its errors may pass, and while the job is still this executor's. */
async function withPatience(
  ports: FailoverPorts,
  run: JobRun,
  step: JobStepRecord,
  signal: AbortSignal,
): ReturnType<typeof performStep> {
  const { clock } = ports;
  const policy = { ...STEP_RETRY, random: () => ports.random() };
  for (let attempt = 1; ; attempt++) {
    try {
      return await performStep({ ports, run, step, signal });
    } catch (error) {
      const mayPass = error instanceof TidemarkError && error.class === 'retry' && !run.isLost && !signal.aborted;
      if (!mayPass || attempt === STEP_RETRY.attempts) throw error;
    }
    await clock.sleep(backoffMs(policy, attempt), signal);
  }
}

/** What was made, by name and id; of a point that was created, the point. */
function resultOf({ steps, point, result }: JobDocument): JobDocument['result'] {
  if (result !== null) return result;
  const made = (kind: JobStepRecord['kind']) => steps.filter((step) => step.kind === kind && step.id !== null);
  return {
    point,
    disks: made('import').map(({ machine, disk, resource, id }) => ({ machine, disk, name: resource, id })),
    machines: made('create-machine').map(({ machine, resource, id }) => ({ machine, name: resource, id })),
  };
}
