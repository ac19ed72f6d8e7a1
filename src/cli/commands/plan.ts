/** `tidemark plan run | status | list | resume | approve | cleanup`: recovery plans. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { TidemarkError } from '../../errors.ts';
import { machineActions } from '../../plans/actions.ts';
import { groupsOf, type RunOptions } from '../../plans/plan-run.ts';
import { parsePlan, planPointSchema, type PlanFile } from '../../plans/plan-file.ts';
import { readSecret } from '../../plans/secrets.ts';
import { createPlanService, type PlanService } from '../../plans/service.ts';
import type { CliContext } from '../context.ts';
import { confirm, printJson, printLine } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';
import { executeAndReport, printPreview, printRun, printRuns } from './plan-output.ts';

interface RunArguments {
  readonly test?: boolean;
  readonly point?: string;
  readonly key?: string;
  readonly wait?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

interface ApproveArguments {
  readonly note?: string;
  readonly by?: string;
  readonly reject?: boolean;
}

const WAIT = 'stay until somebody has approved, rather than end with exit code 3';

export function register(program: Command, context: CliContext): void {
  const plan = program.command('plan').description('recovery plans: failovers of many groups, in order');
  plan
    .command('run <file>')
    .description('run the plan of a JSON file; docs/plans.md describes it')
    .option('--test', 'test failovers beside replication, instead of failovers')
    .option('--point <point>', 'for all groups: latest, latest-processed, latest-app or latest-crash')
    .option('--key <key>', 'idempotency key: the same key and plan give the same run')
    .option('--wait', WAIT)
    .option('--dry-run', 'print the steps and change nothing')
    .option('--yes', 'do not ask')
    .action((file: string, options: RunArguments) => run(context, file, options));
  addRunCommands(plan, context);
  plan
    .command('approve <run> <step>')
    .description('approve a step that waits; the run goes on when it is executed')
    .option('--note <text>', 'why, for the journal')
    .option('--by <name>', 'who, for the journal; by default the user')
    .option('--reject', 'let the step fail instead')
    .action((id: string, step: string, options: ApproveArguments) => approve(context, { run: id, step }, options));
}

function addRunCommands(plan: Command, context: CliContext): void {
  plan
    .command('status <run>')
    .description('a run with its steps')
    .action((id: string) =>
      withPlans(context, async (plans) => printRun(context, await plans.status(id, context.signal))),
    );
  plan
    .command('list')
    .description('all runs, newest first')
    .action(() => withPlans(context, async (plans) => printRuns(context, await plans.list(context.signal))));
  plan
    .command('resume <run>')
    .description('execute a run from where it stands; one that failed goes on where it failed')
    .option('--wait', WAIT)
    .action((id: string, { wait = false }: RunArguments) =>
      withPlans(context, (plans) => executeAndReport(context, plans, { run: id, wait })),
    );
  plan
    .command('cleanup <run>')
    .description('end a test run: delete what its test failovers have made')
    .action((id: string) =>
      withPlans(context, async (plans) => {
        await plans.cleanUp(id, context.signal);
        await executeAndReport(context, plans, { run: id, wait: false });
      }),
    );
}

async function withPlans(context: CliContext, work: (plans: PlanService) => Promise<void>): Promise<void> {
  await withRuntime(context, async ({ ports: { catalog, topic, clock }, commands }) => {
    const { random } = Math;
    const ports = { catalog, topic, clock, commands, random, newId: randomUUID, environment: context.env };
    const secret = (source: Parameters<typeof readSecret>[1]) => readSecret(context.env, source);
    await work(createPlanService({ ...ports, secret, actions: machineActions({ clock, random }) }));
  });
}

async function run(context: CliContext, file: string, options: RunArguments): Promise<void> {
  const plan = await readPlan(file);
  const chosen = optionsOf(options);
  await withPlans(context, async (plans) => {
    const { signal } = context;
    if (options.dryRun === true) {
      return printPreview(context, { plan, ...chosen }, await plans.preview(plan, chosen, signal));
    }
    if (!chosen.test) await confirm(context, questionOf(plan), options);
    const requestedBy = userOf(context);
    const key = options.key === undefined ? {} : { idempotencyKey: options.key };
    const started = await plans.start(plan, { ...chosen, ...key, requestedBy }, signal);
    if (!context.json) context.stderr.write(`run ${started.run} of plan ${plan.name}\n`);
    await executeAndReport(context, plans, { run: started.run, wait: options.wait === true });
  });
}

const userOf = (context: CliContext): string => `${context.env['USER'] ?? 'operator'} (cli)`;

function questionOf(plan: PlanFile): string {
  const groups = groupsOf(plan);
  return `Plan ${plan.name} stops replication of ${groups.length} groups and fails them over: ${groups.join(', ')}.`;
}

/** @throws TidemarkError USAGE */
function optionsOf({ test = false, point }: RunArguments): RunOptions {
  if (point === undefined) return { test };
  const parsed = planPointSchema.safeParse(point);
  if (parsed.success) return { test, point: parsed.data };
  const known = planPointSchema.options.join(', ');
  throw new TidemarkError('USAGE', `--point of a plan is one of ${known}, not ${JSON.stringify(point)}`);
}

/** @throws TidemarkError USAGE, PLAN_INVALID */
async function readPlan(file: string): Promise<PlanFile> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new TidemarkError('USAGE', `cannot read ${file}`, { cause });
  }
  return parsePlan(text);
}

async function approve(
  context: CliContext,
  about: { readonly run: string; readonly step: string },
  { note, by, reject = false }: ApproveArguments,
): Promise<void> {
  await withPlans(context, async (plans) => {
    const decision = reject ? ('reject' as const) : ('approve' as const);
    const given = { ...about, decision, by: by ?? userOf(context), note: note ?? null };
    const approval = await plans.decide(given, context.signal);
    if (context.json) return printJson(context, { ...about, ...approval });
    printLine(context, `${about.step} of run ${about.run}: ${approval.decision} by ${approval.by} at ${approval.at}`);
    printLine(context, `unless somebody executes it with --wait, go on: tidemark plan resume ${about.run}`);
  });
}
