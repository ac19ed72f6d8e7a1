/** `tidemark failover test | cleanup | start | change-point | commit | cancel`. */
import type { Command as Program } from 'commander';
import type { Command, CommandPlan } from '../../commands/commands.ts';
import type { CliContext } from '../context.ts';
import { confirm, printJson, printLine } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';
import { executeAndReport, reportJob } from './job-output.ts';

interface Options {
  readonly point?: string;
  readonly notes?: string;
  readonly key?: string;
  readonly wait: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

const POINT = 'latest, latest-processed, latest-app, latest-crash, or the id of a point';

export function register(program: Program, context: CliContext): void {
  const failover = program.command('failover').description('failover and test failover of a group, as jobs');
  const add = (name: string, description: string): Program =>
    failover
      .command(`${name} <group>`)
      .description(description)
      .option('--key <key>', 'idempotency key: the same key gives the same job')
      .option('--no-wait', 'only journal the job; `tidemark job run JOB` executes it')
      .option('--dry-run', 'print the steps and change nothing')
      .option('--yes', 'do not ask');
  add('test', 'make disks and machines of a point on an isolated network; replication goes on')
    .option('--point <point>', POINT, 'latest-processed')
    .action((group: string, options: Options) =>
      run(context, { command: 'test-failover', group, point: options.point ?? 'latest-processed' }, options),
    );
  add('cleanup', 'end the test failover: delete what it made, and note how it went')
    .option('--notes <text>', 'what was found out, for the record')
    .action((group: string, options: Options) => {
      const notes = options.notes === undefined ? {} : { notes: options.notes };
      return run(context, { command: 'cleanup-test-failover', group, ...notes }, options);
    });
  add('start', 'stop replication, and make disks and machines of a point')
    .option('--point <point>', POINT, 'latest-processed')
    .action((group: string, options: Options) =>
      run(context, { command: 'failover', group, point: options.point ?? 'latest-processed' }, options),
    );
  add('change-point', 'fail over to another point; what was made of the first one is deleted')
    .requiredOption('--point <point>', POINT)
    .action((group: string, options: Options) =>
      run(context, { command: 'change-point', group, point: options.point ?? '' }, options),
    );
  add('commit', 'keep what was failed over to; all points of the group are deleted').action(
    (group: string, options: Options) => run(context, { command: 'commit', group }, options),
  );
  add('cancel', 'undo a failover that is not committed: delete what it made, and go on replicating').action(
    (group: string, options: Options) => run(context, { command: 'cancel', group }, options),
  );
}

/** Asked before it happens: what is deleted that somebody may work with. */
const QUESTIONS: Partial<Record<Command['command'], (group: string) => string>> = {
  'change-point': (group) =>
    `Machines and disks that the failover of ${group} has made will be deleted, with what was written to them.`,
  commit: (group) => `All points of ${group} will be deleted; the failover cannot be canceled any more.`,
  cancel: (group) =>
    `Machines and disks that the failover of ${group} has made will be deleted, with what was written to them.`,
};

async function run(context: CliContext, command: Command, options: Options): Promise<void> {
  await withRuntime(context, async ({ commands }) => {
    if (options.dryRun === true) return printPlan(context, await commands.plan(command, context.signal));
    const question = QUESTIONS[command.command];
    if (question !== undefined) {
      if (options.key === undefined) await commands.plan(command, context.signal); // what is refused need not be asked about
      await confirm(context, question(command.group), options);
    }
    const requestedBy = `${context.env['USER'] ?? 'operator'} (cli)`;
    const key = options.key === undefined ? {} : { idempotencyKey: options.key };
    const view = await commands.submit(command, { requestedBy, ...key }, context.signal);
    if (options.wait) await executeAndReport(context, commands, view);
    else reportJob(context, view);
  });
}

function printPlan(context: CliContext, plan: CommandPlan): void {
  if (context.json) return printJson(context, { dryRun: true, ...plan });
  const point = plan.point === null ? '' : ` with point ${plan.point}`;
  printLine(context, `${plan.command} of ${plan.group}${point} would:`);
  for (const step of plan.steps) printLine(context, `  ${step}`);
}
