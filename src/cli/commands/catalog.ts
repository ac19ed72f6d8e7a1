/** `tidemark catalog rebuild`: a lost catalog, made again from the snapshots. */
import type { Command } from 'commander';
import { requireName } from '../../model/names.ts';
import { executeRebuild } from '../../rebuild/execute.ts';
import { lookAtGroup } from '../../rebuild/look.ts';
import { planRebuild, type GroupPlan, type PlannedPoint } from '../../rebuild/plan.ts';
import type { Runtime } from '../../runtime.ts';
import type { CliContext } from '../context.ts';
import { confirm, printJson, printLine, printTable } from '../output.ts';
import { withRuntime } from '../with-runtime.ts';

/** What no snapshot tells. */
const LOST = [
  'pins',
  'the results of verifications',
  'checksums of the points, unless their changes lists have survived',
  'what machines become in Azure (`tidemark group target`)',
  'jobs, failovers and test failovers',
  'runs of recovery plans and their approvals',
  'messages that waited to be sent',
  'which groups were given up',
] as const;

interface RebuildArguments {
  readonly group: readonly string[];
  readonly dryRun?: boolean;
  readonly trustOld?: boolean;
  readonly yes?: boolean;
}

export function register(program: Command, context: CliContext): void {
  program
    .command('catalog')
    .description('the catalog of groups and points')
    .command('rebuild')
    .description(
      'make a lost catalog again from the snapshots; adds what is missing, changes nothing (3: something is left out)',
    )
    .option('--group <name>', 'only this group; may be repeated', addGroup, [])
    .option('--dry-run', 'only print the plan, with a reason per item')
    .option(
      '--trust-old',
      'take points of before snapshots named their disks, when every seed disk has a snapshot of them',
    )
    .option('--yes', 'do not ask')
    .action(async (options: RebuildArguments) => {
      await withRuntime(context, async (runtime) => {
        const { survey } = runtime.ports;
        const groups = options.group.length > 0 ? options.group : await survey.groups(context.signal);
        const results: GroupResult[] = [];
        for (const group of new Set(groups)) {
          const result = await rebuildGroup(context, runtime, { group, options });
          if (context.json) results.push(result);
          if (result.refusal !== null || result.leftOut.length > 0) context.setExitCode(3);
        }
        if (context.json) return printJson(context, { executed: options.dryRun !== true, groups: results, lost: LOST });
        if (groups.length === 0) printLine(context, 'There are no seed disks.');
        else printLine(context, `What does not come back: ${LOST.join('; ')}.`);
      });
    });
}

const addGroup = (name: string, names: readonly string[]): string[] => [...names, requireName('group', name)];

interface GroupResult {
  readonly group: string;
  readonly refusal: string | null;
  readonly policy: string | null;
  readonly points: readonly { readonly id: string; readonly action: PlannedPoint['action']; readonly disks: number }[];
  readonly leftOut: GroupPlan['leftOut'];
  readonly pruned: readonly string[];
  readonly foreignSnapshots: number;
  /** Documents written, or to be written. */
  readonly documents: number;
}

async function rebuildGroup(
  context: CliContext,
  { ports }: Runtime,
  { group, options }: { readonly group: string; readonly options: RebuildArguments },
): Promise<GroupResult> {
  const { signal } = context;
  const found = await lookAtGroup(ports, group, signal);
  const plan = planRebuild(found, { trustOld: options.trustOld === true, nowUs: ports.clock.nowUs() });
  let documents = documentsOf(plan);
  if (!context.json) printPlan(context, plan);
  if (options.dryRun !== true && documents > 0) {
    await confirm(context, `Write ${documents} documents of group ${group}?`, options);
    documents = (await executeRebuild(plan, { ports, signal })).length;
  }
  if (!context.json) printLine(context, totalText(plan, documents, options.dryRun === true));
  return {
    group,
    refusal: plan.refusal ?? null,
    policy: plan.policy?.policy ?? null,
    points: plan.points.map(({ action, proven }) => ({ id: proven.id, action, disks: proven.disks.length })),
    leftOut: plan.leftOut,
    pruned: plan.pruned,
    foreignSnapshots: plan.foreignSnapshots,
    documents,
  };
}

function documentsOf({ refusal, points, policy, progress, document }: GroupPlan): number {
  if (refusal !== undefined) return 0;
  const others = [policy, progress, document].filter((one) => one !== undefined).length;
  return others + points.filter(({ action }) => action === 'create').length;
}

function printPlan(context: CliContext, plan: GroupPlan): void {
  const { group, refusal, policy, progress, document, points, leftOut, pruned } = plan;
  const rows: string[][] = [];
  if (refusal !== undefined) rows.push([`group ${group}`, 'refuse', refusal]);
  if (policy !== undefined) rows.push([`policy ${policy.policy}`, 'create', `${policy.retentionHours} h of retention`]);
  for (const { action, proven } of points) rows.push([proven.id, action, provenText(proven)]);
  for (const { point, blob, reason, text } of leftOut) {
    rows.push([[point, blob].filter((part) => part !== null).join(' '), 'leave out', `${reason}: ${text}`]);
  }
  for (const id of pruned)
    rows.push([id, 'pruned', 'as it seems: only snapshots that other points use are left of it']);
  if (progress !== undefined) rows.push([`progress of ${group}`, 'create', 'no disk in it: each begins anew']);
  if (document !== undefined) rows.push([`group ${group}`, 'create', documentText(document)]);
  printTable(context, ['item', '', 'reason'], rows);
}

function provenText({ id, disks }: PlannedPoint['proven']): string {
  const own = disks.filter(({ facts }) => facts.point === id).length;
  return `${disks.length} disks, ${disks.length - own} of them unchanged`;
}

function documentText({ machines, policy }: NonNullable<GroupPlan['document']>): string {
  const disks = machines.flatMap((machine) => machine.disks);
  return `disabled, points kept; ${disks.length} disks, epoch ${disks[0]?.epoch ?? 0}, policy ${policy}`;
}

function totalText({ group, points, leftOut }: GroupPlan, documents: number, isDryRun: boolean): string {
  const counts = `${points.length} points, ${leftOut.length} items left out`;
  return `${group}: ${counts}, ${documents} documents ${isDryRun ? 'to write' : 'written'}`;
}
