/** How jobs are shown, followed and executed at the command line. */
import type { CommandService, JobView } from '../../commands/commands.ts';
import { ERROR_CATALOGUE, TidemarkError, type ErrorCode } from '../../errors.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine, printTable, stageProgress } from '../output.ts';

/** Executes the job to its end, with a bar or line per kind of step. @throws TidemarkError what the job failed with */
export async function executeAndReport(context: CliContext, commands: CommandService, view: JobView): Promise<void> {
  const progress = stageProgress(context);
  const onProgress = (job: JobView): void => {
    for (const { stage, done, total } of stagesOf(job)) progress.update(stage, done, total);
  };
  const ended = await commands
    .execute(view.group, view.job, { onProgress }, context.signal)
    .finally(() => progress.stop());
  if (ended.state === 'failed') throw failureOf(ended);
  reportJob(context, ended);
}

/** The first word of a step's name is its stage: `copy`, `import` … Steps that stand alone are one stage. */
function stagesOf({ steps }: JobView): readonly { stage: string; done: number; total: number }[] {
  const stages = new Map<string, { stage: string; done: number; total: number }>();
  for (const { name, state } of steps) {
    const [word = name] = name.split(' ');
    const stage = name.includes('/') || /^(?:create-machine|delete-)/.test(word) ? word : name;
    const entry = stages.get(stage) ?? { stage, done: 0, total: 0 };
    entry.total++;
    if (state === 'done') entry.done++;
    stages.set(stage, entry);
  }
  return [...stages.values()].filter(({ done }) => done > 0);
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(ERROR_CATALOGUE, code);

function failureOf({ job, error }: JobView): TidemarkError {
  const { code, message } = error ?? { code: 'UNEXPECTED', message: 'it failed' };
  return new TidemarkError(
    isErrorCode(code) ? code : 'UNEXPECTED',
    `job ${job} failed: ${message}; when that is corrected, go on with \`tidemark job resume ${job}\``,
  );
}

/** One line and what was made, or the whole job as JSON. */
export function reportJob(context: CliContext, view: JobView): void {
  if (context.json) return printJson(context, view);
  const point = view.point === null ? '' : `, point ${view.point}`;
  printLine(context, `${view.command} of ${view.group}: ${view.state}${point}, job ${view.job}`);
  const made = madeOf(view);
  if (made.length > 0) printTable(context, ['made', 'of', 'resource'], made);
}

function madeOf({ result }: JobView): readonly (readonly [string, string, string])[] {
  const list = (value: unknown): readonly Record<string, unknown>[] => (Array.isArray(value) ? value : []);
  return [
    ...list(result?.['disks']).map(
      (disk) => ['disk', `${text(disk['machine'])}/${text(disk['disk'])}`, text(disk['id'])] as const,
    ),
    ...list(result?.['machines']).map((machine) => ['machine', text(machine['machine']), text(machine['id'])] as const),
  ];
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

export function printJobs(context: CliContext, jobs: readonly JobView[]): void {
  if (context.json) return printJson(context, jobs);
  printTable(
    context,
    ['job', 'group', 'command', 'state', 'point', 'created', 'by'],
    jobs.map((job) => [job.job, job.group, job.command, job.state, job.point ?? '-', job.createdAt, job.requestedBy]),
  );
}

export function printJob(context: CliContext, view: JobView): void {
  if (context.json) return printJson(context, view);
  reportJob(context, view);
  printLine(context, `asked for at ${view.createdAt} by ${view.requestedBy}, ended ${view.endedAt ?? 'not yet'}`);
  if (view.error !== null) {
    printLine(context, `${view.error.code}: ${view.error.message}`);
    printLine(context, `hint: ${view.error.hint}`);
  }
  printTable(
    context,
    ['step', 'state', 'started', 'ended'],
    view.steps.map(({ name, state, startedAt, endedAt }) => [name, state, startedAt ?? '-', endedAt ?? '-']),
  );
}
