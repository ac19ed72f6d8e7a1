/** `tidemark prune GROUP`: what the retention keeps and removes, and why. */
import type { Command } from 'commander';
import { getGroup, holdsOf, isFailedOver, operationStates } from '../../catalog/groups.ts';
import { getPolicy } from '../../catalog/policies.ts';
import { refusal } from '../../failover/states.ts';
import { listPoints } from '../../points/point-store.ts';
import type { PrunePlan } from '../../retention/plan.ts';
import { planGroupPrune } from '../../worker/upkeep.ts';
import { Worker } from '../../worker/worker.ts';
import type { CliContext } from '../context.ts';
import { confirm, printJson, printLine, printTable } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';

export function register(program: Command, context: CliContext): void {
  program
    .command('prune <group>')
    .description('remove the points that the retention policy no longer keeps')
    .option('--dry-run', 'only print the plan, with a reason per point')
    .option('--yes', 'do not ask')
    .action(async (group: string, options: { dryRun?: boolean; yes?: boolean }) => {
      await withRuntime(context, async ({ ports, settings }) => {
        const { catalog, clock } = ports;
        const document = await getGroup(catalog, group, context.signal);
        const policy = await getPolicy(catalog, document.policy, context.signal);
        const manifests = await listPoints(catalog, group, context.signal);
        const plan = planGroupPrune(manifests, policy, holdsOf(document), clock.nowUs());
        if (options.dryRun === true) return printPlan(context, plan, false);
        if (isFailedOver(document)) throw refusal(group, operationStates(document), 'prune');
        if (plan.remove.length === 0) return printPlan(context, plan, true);
        await confirm(context, `Remove ${plan.remove.length} of ${manifests.length} points of ${group}?`, options);
        const worker = new Worker({ ports, settings, groups: [group], report: () => undefined });
        const done = await worker.prune(group, context.signal);
        printPlan(context, done, true);
      });
    });
}

function printPlan(context: CliContext, plan: PrunePlan, executed: boolean): void {
  if (context.json) return printJson(context, { executed, ...plan });
  const rows = [
    ...plan.keep.map(({ id, reason }) => [id, 'keep', reason] as const),
    ...plan.remove.map(({ id, reason }) => [id, executed ? 'removed' : 'remove', reason] as const),
  ];
  printTable(
    context,
    ['point', '', 'reason'],
    rows.toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
  printLine(context, `${plan.keep.length} kept, ${plan.remove.length} ${executed ? 'removed' : 'to remove'}`);
}
