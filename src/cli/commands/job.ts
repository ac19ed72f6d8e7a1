/** `tidemark job list | show | resume | run`: the journalled work of failovers. */
import type { Command } from 'commander';
import { listGroups } from '../../catalog/groups.ts';
import { mapAll } from '../../map-all.ts';
import type { CliContext } from '../context.ts';
import { withRuntime } from '../with-runtime.ts';
import { executeAndReport, printJob, printJobs } from './job-output.ts';

const GROUPS_AT_ONCE = 4;

export function register(program: Command, context: CliContext): void {
  const job = program.command('job').description('jobs: failovers and other journalled work');
  job
    .command('list [group]')
    .description('jobs of one group or of all, newest first')
    .action(async (group: string | undefined) => {
      await withRuntime(context, async ({ ports, commands }) => {
        const { signal } = context;
        const groups = group === undefined ? await listGroups(ports.catalog, signal) : [group];
        const jobs = await mapAll(groups, GROUPS_AT_ONCE, signal, (name, either) => commands.jobs(name, either));
        printJobs(
          context,
          jobs.flat().toSorted((a, b) => (a.createdAt < b.createdAt ? 1 : -1)),
        );
      });
    });
  job
    .command('show <job>')
    .description('one job: its steps, and why it failed')
    .action(async (id: string) => {
      await withRuntime(context, async ({ commands }) => printJob(context, await commands.findJob(id, context.signal)));
    });
  for (const [name, description] of [
    ['resume', 'execute a job from where it stands to its end; one that failed goes on where it failed'],
    ['run', 'the same, for a job that was submitted with --no-wait'],
  ] as const) {
    job
      .command(`${name} <job>`)
      .description(description)
      .action(async (id: string) => {
        await withRuntime(context, async ({ commands }) => {
          await executeAndReport(context, commands, await commands.findJob(id, context.signal));
        });
      });
  }
}
