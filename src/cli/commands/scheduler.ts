/** `tidemark scheduler run`: gives every group its turns. */
import type { Command } from 'commander';
import { withScheduler } from '../../distribution/work.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine } from '../output.ts';
import { errorLines } from '../report.ts';
import { withRuntime } from '../with-runtime.ts';

export function register(program: Command, context: CliContext): void {
  const scheduler = program.command('scheduler').description('give every group its turns with the workers');
  scheduler
    .command('run')
    .description('until SIGTERM, by the clock and by cache events; workers that run with their own need none')
    .option('--once', 'one turn for every group that has none in line, then exit')
    .action((options: { once?: boolean }) => run(context, options));
}

async function run(context: CliContext, options: { once?: boolean }): Promise<void> {
  const { signal } = context;
  const reportError = (error: unknown): void => {
    context.stderr.write(`scheduler: ${errorLines(error)}`);
  };
  await withRuntime(context, (runtime) =>
    withScheduler({ ...runtime, reportError }, async (scheduler) => {
      if (options.once === true) await scheduler.tick(signal);
      else await scheduler.run(signal);
      const { ticks, orders, events } = scheduler.counters;
      if (context.json) printJson(context, { ticks, orders, events });
      else printLine(context, `ticks: ${ticks}, orders: ${orders}, cache events: ${events}`);
    }),
  );
}
