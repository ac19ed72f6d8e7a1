/** `tidemark worker run`: drains groups, once or until it is told to stop. */
import type { Command } from 'commander';
import { describeEvent } from '../../monitoring/describe.ts';
import type { MonitoringEvent } from '../../monitoring/events.ts';
import { Worker, type GroupOutcome } from '../../worker/worker.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine } from '../output.ts';
import { errorLines } from '../report.ts';
import { besideCommands, doWaitingCommands } from '../with-commands.ts';
import { withObservedRuntime } from '../with-runtime.ts';

export function register(program: Command, context: CliContext): void {
  const worker = program.command('worker').description('drain replication logs and make recovery points');
  worker
    .command('run')
    .description('run until SIGTERM; with --once do everything that is due, then end (3: a group needs attention)')
    .option('--once', 'do everything that is due, then exit')
    .option('--group <group...>', 'only these groups; commands are left out then')
    .option('--no-commands', 'leave out commands that come as messages')
    .action(async (options: { once?: boolean; group?: string[]; commands: boolean }) => {
      const { observeWorker } = await import('../../telemetry/worker-observer.ts');
      await withObservedRuntime(context, async (runtime, telemetry) => {
        const { ports, settings } = runtime;
        const observer = observeWorker({ telemetry, clock: ports.clock });
        const doesCommands = options.commands && options.group === undefined;
        const running = new Worker({
          ports,
          settings,
          groups: options.group ?? [],
          report: (outcome) => {
            observer.report(outcome);
            reportOutcome(context, outcome);
          },
          onEvents: (group, events) => {
            observer.onEvents(group, events);
            showEvents(context, group, events);
          },
          openSession: observer.openSession,
        });
        observer.watch(running.counters);
        if (options.once !== true) {
          const work = (): Promise<void> => running.run(context.signal);
          await (doesCommands ? besideCommands(context, runtime, work) : work());
          if (context.json) printJson(context, { ...running.counters, requests: runtime.requests.snapshot() });
          return;
        }
        const isDone = !doesCommands || (await doWaitingCommands(context, runtime));
        const outcomes = await running.runOnce(context.signal);
        context.signal.throwIfAborted();
        const { counters } = running;
        if (context.json) {
          const groups = outcomes.map(({ group, needsResync, error }) => ({
            group,
            needsAttention: needsResync || error !== undefined,
          }));
          printJson(context, { groups, ...counters, requests: runtime.requests.snapshot() });
        } else {
          printLine(
            context,
            `groups: ${outcomes.length}, segments: ${counters.segments}, changes: ${counters.changes}, puts: ${counters.putRequests}, clears: ${counters.clearRequests}`,
          );
        }
        const needsAttention = outcomes.some(({ needsResync, error }) => needsResync || error !== undefined);
        if (needsAttention || !isDone) context.setExitCode(3);
      });
    });
}

/** One line per event on stderr, as it becomes durable. Figures that the next ones supersede are for the topic only. */
function showEvents(context: CliContext, group: string, events: readonly MonitoringEvent[]): void {
  if (context.json) return;
  for (const event of events) {
    if (event.type !== 'LagReported') context.stderr.write(`${group}: ${describeEvent(event)}\n`);
  }
}

function reportOutcome(context: CliContext, { group, error }: GroupOutcome): void {
  const text =
    error === undefined
      ? `group ${group} needs a resync; \`tidemark status ${group}\` says why\n`
      : `group ${group}: ${errorLines(error)}`;
  context.stderr.write(text);
}
