/** The command line's composition root: the only place that reads the process's environment, arguments and signals. */
import { createInterface } from 'node:readline/promises';
import { Command, CommanderError } from 'commander';
import { TidemarkError } from '../errors.ts';
import * as api from './commands/api.ts';
import * as catalog from './commands/catalog.ts';
import * as command from './commands/command.ts';
import * as demo from './commands/demo.ts';
import * as failover from './commands/failover.ts';
import * as group from './commands/group.ts';
import * as job from './commands/job.ts';
import * as local from './commands/local.ts';
import * as monitor from './commands/monitor.ts';
import * as plan from './commands/plan.ts';
import * as point from './commands/point.ts';
import * as policy from './commands/policy.ts';
import * as prune from './commands/prune.ts';
import * as scheduler from './commands/scheduler.ts';
import * as source from './commands/source.ts';
import * as status from './commands/status.ts';
import * as worker from './commands/worker.ts';
import { type CliContext, type ControlledContext, createContext, type GlobalOptions } from './context.ts';
import { reportError } from './report.ts';

/** One module per noun; each adds its commands to the program. */
const COMMANDS: readonly { register(program: Command, context: CliContext): void }[] = [
  demo,
  local,
  policy,
  group,
  status,
  source,
  worker,
  scheduler,
  point,
  prune,
  catalog,
  monitor,
  failover,
  job,
  plan,
  api,
  command,
];

/** When a library leaves a socket open, the process ends this long after its command anyway. */
const EXIT_GRACE_MS = 1000;

/**
 * A signal sooner after the first one is the same key press: the terminal signals the whole process group, and a launcher such as npx
 * passes it on once more.
 */
const SECOND_SIGNAL_MS = 500;

const SIGNAL_EXIT = { SIGINT: 130, SIGTERM: 143 } as const;

/** Runs one command and sets the process's exit code. `argv` is what follows the program's name. */
export async function main(argv: string[]): Promise<void> {
  const { signal, exitCodeOfSignal } = watchSignals();
  const { env, stdin, stdout, stderr } = process;
  for (const stream of [stdout, stderr]) stream.on('error', leaveOnBrokenPipe);
  const context = createContext({
    env,
    stdout,
    stderr,
    isTerminal: [stdout, stderr].every(({ isTTY }) => isTTY),
    signal,
    ...([stdin, stderr].every(({ isTTY }) => isTTY) && { ask: (question) => ask(question, signal) }),
  });
  const code = await runCommand(argv, context);
  process.exitCode = code === 'interrupted' ? exitCodeOfSignal() : code;
  setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
}

/** Runs one command in `context`, reports its error on stderr, and returns the exit code. */
export async function runCommand(argv: readonly string[], context: ControlledContext): Promise<number | 'interrupted'> {
  try {
    await createProgram(context).parseAsync([...argv], { from: 'user' });
    return context.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return endOfParsing(error, context);
    return reportError(error, context);
  }
}

function createProgram(context: ControlledContext): Command {
  const program = new Command('tidemark')
    .description('Disaster recovery: from replication logs to recovery points.')
    .option('--json', 'print JSON on stdout')
    .option('--env <file>', 'read settings from a file of NAME=value lines; the environment wins over it')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      // Reported by endOfParsing, in the form of all errors.
      outputError: () => undefined,
    })
    .exitOverride();
  program.hook('preAction', (_program, command) => context.applyGlobals(command.optsWithGlobals<GlobalOptions>()));
  for (const command of COMMANDS) command.register(program, context);
  return program;
}

/** commander ends by an error also when it has printed help. */
function endOfParsing(error: CommanderError, context: ControlledContext): number {
  if (error.exitCode === 0) return 0;
  if (error.code === 'commander.help') return 2;
  return reportError(new TidemarkError('USAGE', error.message.replace(/^error: /, '')), context) as number;
}

/** The first signal asks the command to end; a second one ends the process. */
function watchSignals(): { signal: AbortSignal; exitCodeOfSignal: () => number } {
  const controller = new AbortController();
  let exitCode = 1;
  let firstAtMs = Infinity;
  const onSignal = (name: keyof typeof SIGNAL_EXIT): void => {
    if (controller.signal.aborted) {
      if (performance.now() - firstAtMs >= SECOND_SIGNAL_MS) process.exit(SIGNAL_EXIT.SIGINT);
      return;
    }
    firstAtMs = performance.now();
    exitCode = SIGNAL_EXIT[name];
    controller.abort(new TidemarkError('INTERRUPTED', `stopped by ${name}`));
  };
  process.on('SIGINT', () => onSignal('SIGINT')).on('SIGTERM', () => onSignal('SIGTERM'));
  return { signal: controller.signal, exitCodeOfSignal: () => exitCode };
}

async function ask(question: string, signal: AbortSignal): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await terminal.question(question, { signal });
  } finally {
    terminal.close();
  }
}

/** The reader went away, as in `tidemark … | head`: nobody is left to tell. */
function leaveOnBrokenPipe(error: NodeJS.ErrnoException): void {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
}
