/** How runs of recovery plans are shown, followed and executed at the command line. */
import { ERROR_CATALOGUE, TidemarkError, type ErrorCode } from '../../errors.ts';
import { oneLine } from '../../monitoring/describe.ts';
import { errorOf, type RunDocument, type RunStep } from '../../plans/run-document.ts';
import type { PlanFile } from '../../plans/plan-file.ts';
import type { PreviewStep, PlanService } from '../../plans/service.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine, printTable } from '../output.ts';

/** Characters of a script's output that a table shows. */
const MAX_SHOWN_CHARS = 160;

interface Execution {
  readonly run: string;
  readonly wait: boolean;
}

/** Executes the run, with a line per step that changes. @throws TidemarkError what stopped the run */
export async function executeAndReport(
  context: CliContext,
  plans: PlanService,
  { run, wait }: Execution,
): Promise<void> {
  const onProgress = context.json ? () => undefined : stepLines(context);
  const document = await plans.execute(run, { wait, onProgress }, context.signal);
  const error = errorOf(document);
  if (error !== null && (document.state === 'failed' || document.state === 'cleanup-failed')) {
    throw failureOf(document, error);
  }
  if (document.state === 'waiting' || document.state === 'degraded') context.setExitCode(3);
  printRun(context, document);
}

function stepLines(context: CliContext): (document: RunDocument) => void {
  const shown = new Map<string, string>();
  return ({ steps }) => {
    for (const { id, state } of steps) {
      if (state === (shown.get(id) ?? 'pending')) continue;
      shown.set(id, state);
      context.stderr.write(`${id}: ${state}\n`);
    }
  };
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(ERROR_CATALOGUE, code);

function failureOf({ run }: RunDocument, { code, message }: { code: string; message: string }): TidemarkError {
  return new TidemarkError(
    isErrorCode(code) ? code : 'UNEXPECTED',
    `run ${run} has stopped: ${message}; when that is corrected, go on with \`tidemark plan resume ${run}\``,
  );
}

/** What people and programs need of a run; its outbox is nobody's business. */
function viewOf(document: RunDocument): Readonly<Record<string, unknown>> {
  const { run, plan, test, state, point, points, requestedBy, createdAt, endedAt, steps } = document;
  const shown = steps.map((step) => ({
    id: step.id,
    kind: step.kind,
    state: step.state,
    group: step.group,
    job: step.job,
    usedPoint: step.usedPoint,
    startedAt: step.startedAt,
    endedAt: step.endedAt,
    approval: step.approval,
    output: step.output,
    error: step.error,
  }));
  return { run, plan, test, state, point, points, requestedBy, createdAt, endedAt, steps: shown };
}

export function printRun(context: CliContext, document: RunDocument): void {
  if (context.json) return printJson(context, viewOf(document));
  const { run, plan, test, state, requestedBy, createdAt, endedAt, steps } = document;
  printLine(context, `${test ? 'test run' : 'run'} ${run} of plan ${plan}: ${state}`);
  printLine(context, `asked for at ${createdAt} by ${requestedBy}, ended ${endedAt ?? 'not yet'}`);
  printTable(
    context,
    ['step', 'state', 'started', 'ended', 'note'],
    steps.map((step) => [step.id, step.state, step.startedAt ?? '-', step.endedAt ?? '-', noteOf(step)]),
  );
  for (const step of steps) {
    if (state !== 'waiting' || step.state !== 'waiting') continue;
    printLine(context, `${step.id} waits: ${oneLine(step.output ?? '')}`);
    printLine(context, `go on: tidemark plan approve ${run} ${step.id}, then tidemark plan resume ${run}`);
  }
}

function noteOf({ kind, job, usedPoint, error, approval, output }: RunStep): string {
  const said =
    approval === null
      ? ''
      : `${approval.decision} by ${approval.by}${approval.note === null ? '' : `: ${approval.note}`}`;
  const parts = [
    error === null ? '' : `${error.code}: ${error.message}`,
    said,
    job === null ? '' : `job ${job}`,
    usedPoint === null ? '' : `point ${usedPoint}`,
  ];
  if (kind !== 'manual') parts.push(output ?? '');
  const text = oneLine(parts.filter((part) => part !== '').join('; '));
  return text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS - 1)}…` : text;
}

export function printRuns(context: CliContext, runs: readonly RunDocument[]): void {
  if (context.json) return printJson(context, runs.map(viewOf));
  printTable(
    context,
    ['run', 'plan', 'test', 'state', 'created', 'by'],
    runs.map(({ run, plan, test, state, createdAt, requestedBy }) => {
      return [run, plan, test ? 'yes' : 'no', state, createdAt, requestedBy];
    }),
  );
}

export function printPreview(
  context: CliContext,
  { plan, test }: { readonly plan: PlanFile; readonly test: boolean },
  steps: readonly PreviewStep[],
): void {
  if (context.json) {
    const shown = steps.map(({ step, refusal }) => ({
      id: step.id,
      kind: step.kind,
      group: step.group,
      point: step.point,
      after: step.after,
      onFailure: step.onFailure,
      skipped: step.isSkipped,
      refusal,
    }));
    return printJson(context, { dryRun: true, plan: plan.name, test, steps: shown });
  }
  printLine(context, `a ${test ? 'test run' : 'run'} of plan ${plan.name} would:`);
  printTable(
    context,
    ['step', 'what', 'point', 'at failure', 'note'],
    steps.map(({ step, refusal }) => [
      step.id,
      step.kind,
      step.point ?? '-',
      step.onFailure,
      step.isSkipped ? 'skipped' : refusal === null ? '' : `refused now: ${refusal}`,
    ]),
  );
}
