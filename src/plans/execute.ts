/** Executes a run from where its journal stands: to its end, or to where it waits for somebody. */
import { mapAll } from '../map-all.ts';
import { performStep } from './perform.ts';
import type { PlanPorts } from './ports.ts';
import {
  activeSteps,
  endOf,
  nextSteps,
  resumed,
  runTo,
  stepError,
  type RunDocument,
  type RunStep,
} from './run-document.ts';
import { readRun, RunJournal } from './run-journal.ts';
import { isRunOver } from './states.ts';

/** Consistency groups that are failed over at once; each works on several disks at once. */
const STEPS_IN_FLIGHT = 4;
/** How often somebody's decision is looked for while the executor waits for it. */
export const LOOK_FOR_DECISION_MS = 5000;

export interface ExecuteOptions {
  /** Stay until somebody has decided, rather than leave the run waiting. */
  readonly wait: boolean;
  readonly onProgress: (run: RunDocument) => void;
}

/**
 * A failed run goes on where it failed. One that is over stays as it is; only messages of it that wait are sent.
 *
 * @returns the run as it is then
 * @throws TidemarkError PLAN_RUN_NOT_FOUND; OWNERSHIP_LOST when another executor has taken it over; the signal's reason, with the run
 * still to be executed
 */
export async function executeRun(
  ports: PlanPorts,
  run: string,
  options: ExecuteOptions,
  signal: AbortSignal,
): Promise<RunDocument> {
  const stored = await readRun(ports, run, signal);
  if (isRunOver(stored.state) && stored.outbox.queued.length === 0) return stored;
  const journal = await RunJournal.take(ports, run, signal);
  try {
    if (!isRunOver(journal.document.state)) await toItsEnd({ ports, journal, options });
    await journal.flush({ isLast: true });
    return journal.document;
  } finally {
    await journal.close();
  }
}

interface Executor {
  readonly ports: PlanPorts;
  readonly journal: RunJournal;
  readonly options: ExecuteOptions;
}

async function toItsEnd(executor: Executor): Promise<void> {
  const { ports, journal, options } = executor;
  const tell = (): void => options.onProgress(journal.document);
  await journal.save(resumed);
  tell();
  for (;;) {
    const steps = nextSteps(journal.document);
    if (steps.length === 0) break;
    await mapAll(steps, STEPS_IN_FLIGHT, journal.signal, (step, either) => attempt(executor, step, either));
    const isWaiting = activeSteps(journal.document).some(({ state }) => state === 'waiting');
    await journal.save((document, nowUs) => waitingOr(document, isWaiting, nowUs));
    tell();
    await journal.flush({ isLast: false });
    if (isWaiting && !options.wait) return;
    if (isWaiting) await ports.clock.sleep(LOOK_FOR_DECISION_MS, journal.signal);
  }
  await journal.save((document, nowUs) => runTo(document, endOf(document), nowUs));
  tell();
}

function waitingOr(document: RunDocument, isWaiting: boolean, nowUs: number): RunDocument {
  if (isWaiting && document.state === 'running') return runTo(document, 'wait', nowUs);
  return !isWaiting && document.state === 'waiting' ? runTo(document, 'resume', nowUs) : document;
}

/** A failure is the step's outcome, unless it is the executor's own end. */
async function attempt({ ports, journal, options }: Executor, step: RunStep, signal: AbortSignal): Promise<void> {
  try {
    await performStep({ ports, journal, step }, signal);
  } catch (error) {
    if (journal.isLost || signal.aborted) throw error;
    await journal.move(step, 'fail', { error: stepError(error) });
  }
  options.onProgress(journal.document);
}
