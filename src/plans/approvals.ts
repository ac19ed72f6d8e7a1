/** Decisions of people about steps that wait. Each is a document of its own, so that giving one needs no lease on the run. */
import { z } from 'zod';
import { createDocument, readDocument } from '../catalog/documents.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import type { PlanPorts } from './ports.ts';
import { runSchema, type Approval, type RunStep } from './run-document.ts';
import { readRun } from './run-journal.ts';

const decisionSchema = z.strictObject({
  version: z.literal(1),
  run: runSchema.shape.run,
  step: z.string(),
  decision: z.enum(['approve', 'reject']),
  by: z.string().min(1).max(200),
  at: z.iso.datetime(),
  note: z.string().min(1).max(200).nullable(),
});

export interface Decision {
  readonly run: string;
  readonly step: string;
  readonly decision: Approval['decision'];
  readonly by: string;
  readonly note: string | null;
}

const decisionName = (run: string, { id, waits }: Pick<RunStep, 'id' | 'waits'>): string =>
  catalogName.approval(run, id, waits);

export async function findDecision(
  { catalog }: Pick<PlanPorts, 'catalog'>,
  run: string,
  step: RunStep,
  signal: AbortSignal,
): Promise<Approval | undefined> {
  const stored = await readDocument(catalog, decisionName(run, step), decisionSchema, signal);
  if (stored === undefined) return undefined;
  const { decision, by, at, note } = stored.value;
  return { decision, by, at, note };
}

/**
 * The first decision about a wait counts; the same one again changes nothing.
 * @throws TidemarkError PLAN_RUN_NOT_FOUND; PLAN_STATE when the step does not wait, or was decided otherwise; USAGE
 */
export async function decide(ports: PlanPorts, given: Decision, signal: AbortSignal): Promise<Approval> {
  for (const text of [given.by, given.note ?? 'none']) {
    if (/^\P{Cc}{1,200}$/u.test(text)) continue;
    throw new TidemarkError('USAGE', 'who approves, and the note, are one line of 1 to 200 characters');
  }
  const document = await readRun(ports, given.run, signal);
  const step = document.steps.find(({ id }) => id === given.step);
  if (step === undefined || step.state !== 'waiting' || document.state.startsWith('clean')) {
    const waiting = document.steps.filter(({ state }) => state === 'waiting').map(({ id }) => id);
    const now = waiting.length === 0 ? 'nothing' : waiting.join(', ');
    const what = step === undefined ? 'is no step' : `is ${step.state}`;
    throw new TidemarkError('PLAN_STATE', `${given.step} ${what} of run ${given.run}; waiting for approval: ${now}`);
  }
  const value = { ...given, version: 1 as const, at: isoFromUs(ports.clock.nowUs()) };
  await createDocument(ports.catalog, decisionName(given.run, step), decisionSchema, value, signal);
  const decision = await findDecision(ports, given.run, step, signal);
  if (decision?.decision === given.decision) return decision;
  const before = `${decision?.by ?? 'somebody'} has said ${decision?.decision ?? 'otherwise'} already`;
  throw new TidemarkError('PLAN_STATE', `${given.step} of run ${given.run}: ${before}`);
}
