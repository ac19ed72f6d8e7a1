/** `tidemark worker run`: drains groups, once or until it is told to stop. */
import type { Command } from 'commander';
import { describeEvent } from '../../monitoring/describe.ts';
import type { MonitoringEvent } from '../../monitoring/events.ts';
import { handleWaiting } from '../../distribution/listener.ts';
import { besideScheduler, listenerOptions, Work } from '../../distribution/work.ts';
import type { Runtime } from '../../runtime.ts';
import type { WorkerObserver } from '../../telemetry/worker-observer.ts';
import { Worker, type GroupOutcome, type WorkerOptions } from '../../worker/worker.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine } from '../output.ts';
import { errorLines } from '../report.ts';
import { withObservedRuntime } from '../with-runtime.ts';

export function register(program: Command, context: CliContext): void {
  const worker = program.command('worker').description('drain replication logs and make recovery points');
  worker
    .command('run')
    .description('run until SIGTERM; with --once do everything that is due, then end (3: a group needs attention)')
    .option('--once', 'do everything that is due, then exit')
    .option('--group <group...>', 'only these groups, without asking the queue; commands are left out then')
    .option('--no-commands', 'all groups, without asking the queue; commands are left out')
    .option('--no-scheduler', 'give no orders: `scheduler run` does that elsewhere')
    .action(async (options: RunOptions) => {
      const { observeWorker } = await import('../../telemetry/worker-observer.ts');
      await withObservedRuntime(context, async (runtime, telemetry) => {
        const observer = observeWorker({ telemetry, clock: runtime.ports.clock });
        const run: Run = { context, runtime, options, observer, hooks: hooksOf(context, observer) };
        if (options.once === true) await runOnce(run);
        else if (takesSessions(options)) await takeSessions(run);
        else await runAlone(run);
      });
    });
}

interface RunOptions {
  readonly once?: boolean;
  readonly group?: string[];
  readonly commands: boolean;
  readonly scheduler: boolean;
}

type Hooks = Pick<WorkerOptions, 'report' | 'onEvents' | 'openSession'>;

interface Run {
  readonly context: CliContext;
  readonly runtime: Runtime;
  readonly options: RunOptions;
  readonly observer: WorkerObserver;
  readonly hooks: Hooks;
}

/** Whether the queue says what is to be done, so that any number of workers share the groups. */
const takesSessions = ({ group, commands }: RunOptions): boolean => commands && group === undefined;

async function takeSessions({ context, runtime, options, hooks, observer }: Run): Promise<void> {
  const { signal } = context;
  const work = new Work({ ...runtime, ...hooks, ...queueTeller(context) });
  observer.watch(work.worker.counters);
  const run = (): Promise<void> => work.run(signal);
  await (options.scheduler ? besideScheduler({ ...runtime, ...queueTeller(context) }, run, signal) : run());
  printCounts(context, runtime, { ...work.counters, ...work.worker.counters });
}

async function runAlone({ context, runtime, options, hooks, observer }: Run): Promise<void> {
  const { ports, settings } = runtime;
  const worker = new Worker({ ports, settings, groups: options.group ?? [], ...hooks });
  observer.watch(worker.counters);
  await worker.run(context.signal);
  printCounts(context, runtime, worker.counters);
}

function printCounts(context: CliContext, { requests }: Runtime, counters: object): void {
  if (context.json) printJson(context, { ...counters, requests: requests.snapshot() });
}

async function runOnce({ context, runtime, options, hooks, observer }: Run): Promise<void> {
  const { ports, settings } = runtime;
  const isDone = !takesSessions(options) || (await doWaitingCommands(context, runtime));
  const worker = new Worker({ ports, settings, groups: options.group ?? [], ...hooks });
  const { counters } = worker;
  observer.watch(counters);
  const outcomes = await worker.runOnce(context.signal);
  context.signal.throwIfAborted();
  const groups = outcomes.map(({ group, needsResync, error }) => ({
    group,
    needsAttention: needsResync || error !== undefined,
  }));
  printCounts(context, runtime, { groups, ...counters });
  if (!context.json) {
    printLine(
      context,
      `groups: ${outcomes.length}, segments: ${counters.segments}, changes: ${counters.changes}, puts: ${counters.putRequests}, clears: ${counters.clearRequests}`,
    );
  }
  if (!isDone || groups.some(({ needsAttention }) => needsAttention)) context.setExitCode(3);
}

/** Carries out commands that wait. @returns false when something stays, which is reported */
async function doWaitingCommands(context: CliContext, runtime: Runtime): Promise<boolean> {
  const options = listenerOptions({ ...runtime, ...queueTeller(context) }, context.signal);
  try {
    await handleWaiting(options, context.signal);
    return true;
  } catch (error) {
    context.signal.throwIfAborted();
    options.report(error);
    return false;
  } finally {
    await options.queue.close();
  }
}

function hooksOf(context: CliContext, observer: WorkerObserver): Hooks {
  return {
    report: (outcome) => {
      observer.report(outcome);
      reportOutcome(context, outcome);
    },
    onEvents: (group, events) => {
      observer.onEvents(group, events);
      showEvents(context, group, events);
    },
    openSession: observer.openSession,
  };
}

const queueTeller = (context: CliContext): { readonly reportError: (error: unknown) => void } => ({
  reportError: (error) => {
    context.stderr.write(`queue: ${errorLines(error)}`);
  },
});

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
