/** `tidemark demo`: the main job on a recorded trace, start to end, on a local stack of its own. `npm start` runs it. */
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { homeOf, portBaseOf } from '../../config.ts';
import { type DemoStack, openDemoStack } from '../../demo/demo-stack.ts';
import { demoJson, demoLines } from '../../demo/report.ts';
import { type DemoResult, runScenario } from '../../demo/scenario.ts';
import { requireVerified } from '../../demo/verify.ts';
import { TidemarkError } from '../../errors.ts';
import type { CliContext } from '../context.ts';
import { printJson, printLine, stageProgress } from '../output.ts';

const BUNDLED_TRACE = fileURLToPath(new URL('../../demo/trace/', import.meta.url));

interface DemoArguments {
  readonly keep?: boolean;
  readonly trace: string;
}

export function register(program: Command, context: CliContext): void {
  program
    .command('demo')
    .description('the main job on a real trace, start to end: ship, drain, recovery points, verification')
    .option('--keep', 'leave the stack running in TIDEMARK_HOME, to look around in')
    .option('--trace <dir>', 'a recorded trace of one disk with its expect.json', BUNDLED_TRACE)
    .action((options: DemoArguments) => demo(options, context));
}

async function demo({ keep = false, trace }: DemoArguments, context: CliContext): Promise<void> {
  const { env, signal } = context;
  const fromMs = performance.now();
  if (!context.json)
    printLine(context, 'Replicating a recorded disk on a local stack: log, seed disk, recovery points.');
  const keepHome = keep ? homeOf(env) : undefined;
  const stack = await openDemoStack({ keepHome, portBase: portBaseOf(env), random: Math.random, signal });
  let left = false;
  try {
    const result = await run(stack, trace, context);
    // From here on there is something to look at, also when a point is wrong.
    left = keep;
    if (context.json) printJson(context, { ...demoJson(result), home: keepHome ?? null });
    else for (const line of ['', ...demoLines(result)]) printLine(context, line);
    if (!context.json && keep) printVisit(context, result.group);
    requireVerified(result.points);
  } catch (error) {
    if (keep && error instanceof TidemarkError && error.code === 'DEMO_POINTS_INCOMPLETE') left = true;
    throw error;
  } finally {
    if (!left) await stack.close();
  }
  if (context.json) return;
  printLine(context, '');
  printLine(context, `Done in ${((performance.now() - fromMs) / 1000).toFixed(1)} s: every point is what it must be.`);
}

async function run(stack: DemoStack, traceFolder: string, context: CliContext): Promise<DemoResult> {
  const settings = Object.entries(context.env).filter(([name]) => name.startsWith('TIDEMARK_'));
  const own = Object.fromEntries(settings.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
  const progress = stageProgress(context);
  try {
    return await runScenario({
      traceFolder,
      environment: { ...own, ...stack.environment },
      onProgress: (stage, done, total, note) => progress.update(stage, done, total, note),
      signal: context.signal,
    });
  } finally {
    progress.stop();
  }
}

function printVisit(context: CliContext, group: string): void {
  const commands = [
    `status ${group}`,
    `point list ${group}`,
    `monitor tail --group ${group} --no-follow`,
    'local down',
  ];
  printLine(context, '');
  printLine(context, 'The stack is still up. To look around, and to stop it:');
  for (const command of commands) printLine(context, `  npx tidemark ${command}`);
}
