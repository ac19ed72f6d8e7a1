/** Recovery plans for whichever door asks: journals runs, executes them, and takes decisions about them. */
import { createHash } from 'node:crypto';
import { createDocument, documentNames, readDocument } from '../catalog/documents.ts';
import { findGroup, type GroupDocument } from '../catalog/groups.ts';
import { idempotencyKeySchema } from '../commands/commands.ts';
import { TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName } from '../model/names.ts';
import { decide, type Decision } from './approvals.ts';
import { executeRun, type ExecuteOptions } from './execute.ts';
import { groupsOf, cleanupSteps, planRun, type PlannedRunStep, type RunOptions } from './plan-run.ts';
import { MAX_PLAN_MACHINES, planInvalid, type PlanFile } from './plan-file.ts';
import type { PlanPorts } from './ports.ts';
import { cleaning, newRun, runSchema, type Approval, type RunDocument } from './run-document.ts';
import { readRun, RunJournal } from './run-journal.ts';
import { runAfter } from './states.ts';

const RUN_ID_CHARS = 8;
const KEYED_ID_DIGITS = 32;
/** Ids are short, for people who type them at night; each further try means that one was there already. */
const MAX_ID_TRIES = 5;
const READS_IN_FLIGHT = 8;

export interface StartOptions extends RunOptions {
  readonly requestedBy: string;
  /** The same key for the same plan and options gives the same run. */
  readonly idempotencyKey?: string;
}

/** A step that would be taken, and why its failover would be refused now. */
export interface PreviewStep {
  readonly step: PlannedRunStep;
  readonly refusal: string | null;
}

export interface PlanService {
  /** Changes nothing. @throws TidemarkError PLAN_INVALID, PLAN_SECRET_MISSING */
  preview(plan: PlanFile, options: RunOptions, signal: AbortSignal): Promise<readonly PreviewStep[]>;
  /**
   * Journals the run, after which it survives any crash; executes nothing yet.
   * @throws TidemarkError PLAN_INVALID; PLAN_SECRET_MISSING; USAGE; IDEMPOTENCY_CONFLICT when the key is another run's
   */
  start(plan: PlanFile, options: StartOptions, signal: AbortSignal): Promise<RunDocument>;
  /** @throws TidemarkError as {@link executeRun}. A failure of a step is its outcome. */
  execute(run: string, options: ExecuteOptions, signal: AbortSignal): Promise<RunDocument>;
  /** @throws TidemarkError PLAN_RUN_NOT_FOUND */
  status(run: string, signal: AbortSignal): Promise<RunDocument>;
  /** Newest first. */
  list(signal: AbortSignal): Promise<readonly RunDocument[]>;
  /** @throws TidemarkError as {@link decide} */
  decide(decision: Decision, signal: AbortSignal): Promise<Approval>;
  /**
   * From here on the run does nothing but delete what its test failovers have made, once it is executed. Throws its executor out.
   * @throws TidemarkError PLAN_RUN_NOT_FOUND; PLAN_STATE for a run that is no test, or that is cleaned up
   */
  cleanUp(run: string, signal: AbortSignal): Promise<RunDocument>;
}

export function createPlanService(ports: PlanPorts): PlanService {
  return {
    preview: (plan, options, signal) => preview(ports, plan, options, signal),
    start: (plan, options, signal) => start(ports, plan, options, signal),
    execute: (run, options, signal) => executeRun(ports, run, options, signal),
    status: (run, signal) => readRun(ports, run, signal),
    list: (signal) => list(ports, signal),
    decide: (decision, signal) => decide(ports, decision, signal),
    cleanUp: (run, signal) => cleanUp(ports, run, signal),
  };
}

/** What is wrong is better known now than in the middle of the run. */
async function planned(
  ports: PlanPorts,
  plan: PlanFile,
  options: RunOptions,
  signal: AbortSignal,
): Promise<readonly PlannedRunStep[]> {
  const steps = planRun(plan, options);
  const groups = await mapAll(groupsOf(plan), READS_IN_FLIGHT, signal, async (group, either) => ({
    group,
    document: await findGroup(ports.catalog, group, either),
  }));
  const problems = groups.flatMap(({ group, document }) => problemOf(group, document) ?? []);
  const machines = groups.reduce((sum, { document }) => sum + (document?.machines.length ?? 0), 0);
  if (machines > MAX_PLAN_MACHINES) {
    problems.push(`groups: ${machines} machines; a plan has at most ${MAX_PLAN_MACHINES}`);
  }
  if (problems.length > 0) throw planInvalid(problems);
  for (const { action, isSkipped } of steps) {
    if (action?.type !== 'webhook' || isSkipped) continue;
    await ports.secret(action.secret);
    if (typeof action.url !== 'string') await ports.secret(action.url);
  }
  return steps;
}

function problemOf(group: string, document: GroupDocument | undefined): string | undefined {
  if (document === undefined) return `there is no consistency group ${group}`;
  return document.wanted === 'disabled' ? `consistency group ${group} is disabled` : undefined;
}

async function preview(
  ports: PlanPorts,
  plan: PlanFile,
  options: RunOptions,
  signal: AbortSignal,
): Promise<readonly PreviewStep[]> {
  const steps = await planned(ports, plan, options, signal);
  return mapAll(steps, READS_IN_FLIGHT, signal, async (step, either) => {
    if (step.kind !== 'failover' || step.group === null) return { step, refusal: null };
    const command = options.test ? ('test-failover' as const) : ('failover' as const);
    try {
      await ports.commands.plan({ command, group: step.group, point: step.point ?? 'latest-processed' }, either);
      return { step, refusal: null };
    } catch (error) {
      if (error instanceof TidemarkError && error.class === 'operator') return { step, refusal: error.message };
      throw error;
    }
  });
}

async function start(
  ports: PlanPorts,
  plan: PlanFile,
  options: StartOptions,
  signal: AbortSignal,
): Promise<RunDocument> {
  const { test, point, requestedBy, idempotencyKey } = options;
  if (!/^\P{Cc}{1,200}$/u.test(requestedBy)) {
    throw new TidemarkError('USAGE', 'who asks is one line of 1 to 200 characters');
  }
  const planSha256 = createHash('sha256')
    .update(JSON.stringify([plan, test, point ?? null]))
    .digest('hex');
  const keyed = idempotencyKey === undefined ? undefined : keyedRun(plan.name, idempotencyKey);
  const known = keyed === undefined ? undefined : await findRun(ports, keyed, signal);
  if (known !== undefined) return same(known, planSha256);
  const steps = await planned(ports, plan, options, signal);
  const about = { plan: plan.name, planSha256, test, point: point ?? plan.point, requestedBy, steps };
  for (let attempt = 1; attempt <= MAX_ID_TRIES; attempt++) {
    const run = keyed ?? ports.newId().slice(0, RUN_ID_CHARS);
    const document = newRun({ ...about, run, nowUs: ports.clock.nowUs() });
    if ((await createDocument(ports.catalog, catalogName.run(run), runSchema, document, signal)) !== undefined) {
      return document;
    }
    if (keyed !== undefined) return same(await readRun(ports, keyed, signal), planSha256); // the same key, at the same moment
  }
  throw new TidemarkError('CONFLICT', `each of ${MAX_ID_TRIES} new ids is a run's already`);
}

/** @throws TidemarkError USAGE */
function keyedRun(plan: string, key: string): string {
  if (!idempotencyKeySchema.safeParse(key).success) {
    throw new TidemarkError('USAGE', 'an idempotency key is 1 to 128 printable characters without spaces');
  }
  return createHash('sha256').update(`${plan}\n${key}`).digest('hex').slice(0, KEYED_ID_DIGITS);
}

async function findRun({ catalog }: PlanPorts, run: string, signal: AbortSignal): Promise<RunDocument | undefined> {
  return (await readDocument(catalog, catalogName.run(run), runSchema, signal))?.value;
}

function same(known: RunDocument, planSha256: string): RunDocument {
  if (known.planSha256 === planSha256) return known;
  const message = `the key belongs to run ${known.run}, which has another plan or other options`;
  throw new TidemarkError('IDEMPOTENCY_CONFLICT', message);
}

async function list(ports: PlanPorts, signal: AbortSignal): Promise<readonly RunDocument[]> {
  const names = await documentNames(ports.catalog, catalogName.runs, signal);
  const runs = await mapAll(names, READS_IN_FLIGHT, signal, (run, either) => findRun(ports, run, either));
  return runs
    .filter((run) => run !== undefined)
    .toSorted((a, b) => (a.createdAt === b.createdAt ? (a.run < b.run ? -1 : 1) : a.createdAt < b.createdAt ? 1 : -1));
}

async function cleanUp(ports: PlanPorts, run: string, signal: AbortSignal): Promise<RunDocument> {
  requireCleanable(await readRun(ports, run, signal));
  const journal = await RunJournal.take(ports, run, signal);
  try {
    await journal.save((document, nowUs) => {
      requireCleanable(document);
      const groups = document.steps.flatMap(({ kind, group }) =>
        kind === 'failover' && group !== null ? [group] : [],
      );
      return cleaning(document, cleanupSteps(groups), nowUs);
    });
    return journal.document;
  } finally {
    await journal.close();
  }
}

/** @throws TidemarkError PLAN_STATE */
function requireCleanable({ run, test, state }: RunDocument): void {
  if (!test) {
    const instead = 'a failover is undone with `tidemark failover cancel GROUP`';
    throw new TidemarkError('PLAN_STATE', `run ${run} is no test; ${instead}`);
  }
  if (runAfter(state, 'clean-up') !== undefined) return;
  throw new TidemarkError('PLAN_STATE', `run ${run} is ${state}`);
}
