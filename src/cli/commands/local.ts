/** `tidemark local up | down | env`: the stack on this machine that stands in for Azure. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { homeOf, portBaseOf } from '../../config.ts';
import { TidemarkError } from '../../errors.ts';
import { startDetachedStack, stopStack } from '../../local/detached.ts';
import { startStack } from '../../local/stack.ts';
import { readStackConfig, stackEnvironment } from '../../local/stack-config.ts';
import { readStack, type StackState } from '../../local/stack-state.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine } from '../output.ts';

export function register(program: Command, context: CliContext): void {
  const local = program.command('local').description('the stack on this machine that stands in for Azure');
  local
    .command('up')
    .description('start Azurite, the Service Bus-compatible broker and the ARM emulator; runs until Ctrl-C')
    .option('--detach', 'leave the stack running in the background')
    .option('--fresh', 'start with empty data')
    .action((options: UpOptions) => up(options, context));
  local
    .command('down')
    .description('stop the stack; its data stays')
    .action(() => down(context));
  local
    .command('env')
    .description('print the environment that points any worker (or Azure SDK program) at the stack')
    .action(() => printEnvironment(context));
}

interface UpOptions {
  readonly detach?: boolean;
  readonly fresh?: boolean;
}

async function up(options: UpOptions, context: CliContext): Promise<void> {
  const { signal } = context;
  const home = resolve(homeOf(context.env));
  const stackOptions = { home, portBase: portBaseOf(context.env), fresh: options.fresh === true, signal };
  if (options.detach === true) {
    const running = options.fresh === true ? undefined : readStack(home);
    const state = running ?? (await startDetachedStack(stackOptions));
    return report(context, {
      home,
      ports: state.ports,
      pids: pidsOf(state),
      status: running ? 'already-running' : 'started',
    });
  }
  const stack = await startStack(stackOptions);
  report(context, { home, ports: stack.ports, pids: stack.pids, status: 'started' });
  const stopRequested = new Promise<undefined>((done) => {
    if (signal.aborted) done(undefined);
    else signal.addEventListener('abort', () => done(undefined), { once: true });
  });
  const failure = await Promise.race([stack.ended, stopRequested]);
  await stack.stop();
  if (failure !== undefined) throw failure;
  if (!context.json) printLine(context, 'The local stack is down.');
}

async function down(context: CliContext): Promise<void> {
  const home = resolve(homeOf(context.env));
  const stopped = await stopStack(home);
  if (context.json) return printJson(context, { home, status: stopped ? 'stopped' : 'not-running' });
  printLine(context, stopped ? 'The local stack is down.' : `No local stack runs in ${home}.`);
}

/** @throws TidemarkError LOCAL_NOT_RUNNING */
function printEnvironment(context: CliContext): void {
  const home = resolve(homeOf(context.env));
  const state = readStack(home);
  if (state === undefined) throw new TidemarkError('LOCAL_NOT_RUNNING', `no local stack runs in ${home}`);
  const environment = stackEnvironment(readStackConfig(), state.ports, home);
  if (context.json) return printJson(context, environment);
  for (const [name, value] of Object.entries(environment)) printLine(context, `export ${name}='${value}'`);
}

interface UpReport {
  readonly status: 'started' | 'already-running';
  readonly home: string;
  readonly ports: StackState['ports'];
  readonly pids: readonly number[];
}

function report(context: CliContext, result: UpReport): void {
  if (context.json) return printJson(context, result);
  const verb = result.status === 'started' ? 'is up' : 'is up already';
  printLine(
    context,
    `The local stack ${verb}: blobs on port ${result.ports.blob}, Service Bus on port ${result.ports.broker}, ARM on port ${result.ports.arm}.`,
  );
  printLine(context, `Data: ${result.home}. Settings for other programs: tidemark local env.`);
}

const pidsOf = (state: StackState): number[] => [state.supervisor, ...state.services].map(({ pid }) => pid);
