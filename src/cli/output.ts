/** How commands print: JSON, tables, progress, questions. */
import CliProgress, { type SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { TidemarkError } from '../errors.ts';
import type { CliContext, TextWriter } from './context.ts';

type Output = Pick<CliContext, 'stdout' | 'stderr' | 'isTerminal' | 'json'>;

/** One JSON document as one line. Streams call it once per element. */
export function printJson(context: Pick<Output, 'stdout'>, value: unknown): void {
  context.stdout.write(`${JSON.stringify(value)}\n`);
}

export function printLine(context: Pick<Output, 'stdout'>, line: string): void {
  context.stdout.write(`${line}\n`);
}

const NO_LINES = Object.fromEntries(
  ['top', 'bottom', 'left', 'mid', 'right']
    .flatMap((side) => [side, `${side}-mid`, `${side}-left`, `${side}-right`])
    .concat('middle')
    .map((place) => [place, '']),
);

/** Columns without lines or colours, so that it reads the same on a terminal and in a file. No rows: the head alone. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const lines = new Table({
    head: [...head],
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 2 },
    chars: NO_LINES,
  });
  for (const row of rows) lines.push(row.map(String));
  return lines
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

export function printTable(
  context: Pick<Output, 'stdout'>,
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): void {
  printLine(context, table(head, rows));
}

/** `CODE: what happened`, for an error that a line of output is about. */
export function describeError(error: unknown): string {
  if (error instanceof TidemarkError) return `${error.code}: ${error.message}`;
  return `UNEXPECTED: ${error instanceof Error ? error.message : String(error)}`;
}

/** Shows how far long work is. */
export interface StageProgress {
  /** `done` of `total`, in any unit, of the stage; a stage appears with its first update. */
  update(stage: string, done: number, total: number, note?: string): void;
  /** Takes the bars away from the terminal; must be called before anything else is printed. */
  stop(): void;
}

/** Plain lines appear at the start and end of a stage, and at every tenth of it. */
const PLAIN_STEPS = 10;

/** A bar per stage on a terminal, plain lines elsewhere, both on stderr; nothing with `--json`. */
export function stageProgress(context: Output): StageProgress {
  if (context.json) return { update: () => undefined, stop: () => undefined };
  return context.isTerminal ? barProgress() : plainProgress(context.stderr);
}

function barProgress(): StageProgress {
  const bars = new CliProgress.MultiBar({
    format: '{stage} {bar} {percentage}% {note}',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    hideCursor: true,
    clearOnComplete: false,
    gracefulExit: false,
    autopadding: true,
  });
  const byStage = new Map<string, SingleBar>();
  return {
    update(stage, done, total, note = '') {
      const payload = { stage: stage.padEnd(20), note };
      let bar = byStage.get(stage);
      if (bar === undefined) byStage.set(stage, (bar = bars.create(total, 0, payload)));
      bar.setTotal(total);
      bar.update(done, payload);
    },
    stop: () => bars.stop(),
  };
}

function plainProgress(writer: TextWriter): StageProgress {
  const lastSteps = new Map<string, number>();
  return {
    update(stage, done, total, note) {
      const step = total > 0 ? Math.floor((Math.min(done, total) / total) * PLAIN_STEPS) : PLAIN_STEPS;
      if (lastSteps.get(stage) === step) return;
      lastSteps.set(stage, step);
      const suffix = note === undefined || note === '' ? '' : `  ${note}`;
      writer.write(`${stage}: ${Math.round((step / PLAIN_STEPS) * 100)}%${suffix}\n`);
    },
    stop: () => undefined,
  };
}

/**
 * Asks before something is destroyed; `yes` is the command's `--yes`.
 * @throws TidemarkError CONFIRMATION_REQUIRED when nobody can be asked, or the answer is no
 */
export async function confirm(
  context: Pick<CliContext, 'ask'>,
  question: string,
  options: { readonly yes?: boolean },
): Promise<void> {
  if (options.yes === true) return;
  if (context.ask === undefined)
    throw new TidemarkError('CONFIRMATION_REQUIRED', `${question} Nobody is there to answer.`);
  const answer = await context.ask(`${question} [y/N] `);
  if (!/^y(?:es)?$/i.test(answer.trim()))
    throw new TidemarkError('CONFIRMATION_REQUIRED', `${question} The answer was no.`);
}
