/** `tidemark group protect | list | show | pause | resume | disable | set-policy`. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { documentNames } from '../../catalog/documents.ts';
import {
  disabledGroup,
  disableGroup,
  getGroup,
  listGroupDocuments,
  pauseGroup,
  protectGroup,
  resumeGroup,
  setGroupPolicy,
  type GroupDocument,
  type ProtectRequest,
} from '../../catalog/groups.ts';
import { TidemarkError } from '../../errors.ts';
import { DEFAULT_TARGET, requireMachine, setTarget } from '../../failover/set-target.ts';
import { catalogName } from '../../model/names.ts';
import { formatBytes, parseSize } from '../../model/sizes.ts';
import type { CliContext } from '../context.ts';
import { confirm, printJson, printLine, printTable } from '../output.ts';
import { configuredCatalog, withoutVersion, type CatalogTools } from './catalog-tools.ts';

export function register(program: Command, context: CliContext, tools: CatalogTools = configuredCatalog): void {
  const group = program.command('group').description('consistency groups: machines that share recovery points');
  registerProtect(group, context, tools);
  registerReading(group, context, tools);
  registerChanges(group, context, tools);
  registerDisable(group, context, tools);
  registerTarget(group, context, tools);
}

type Machines = ProtectRequest['machines'][number];
interface CollectedMachine extends Machines {
  readonly disks: { readonly disk: string; readonly sizeBytes: number }[];
}

function registerProtect(group: Command, context: CliContext, tools: CatalogTools): void {
  // Options are parsed in the order in which they are given: each disk belongs to the machine before it.
  const machines: CollectedMachine[] = [];
  const addMachine = (machine: string): void => {
    machines.push({ machine, disks: [] });
  };
  const addDisk = (text: string): void => {
    const machine = machines.at(-1);
    if (machine === undefined) throw new TidemarkError('USAGE', `--disk ${text} needs a --machine before it`);
    machine.disks.push(parseDisk(text));
  };
  group
    .command('protect')
    .argument('<group>', 'name of the group')
    .description('protect a group of 1 to 16 machines; each --disk belongs to the --machine before it')
    .requiredOption('--policy <name>', 'policy that says which points are made and kept')
    .requiredOption('--machine <name>', 'a machine; may be repeated', addMachine)
    .requiredOption('--disk <id=size>', 'a disk and its size, such as os=64GiB; may be repeated', addDisk)
    .action(async (name: string, { policy }: { policy: string }) => {
      const request = { group: name, policy, machines: machines.splice(0), nowUs: tools.nowUs() };
      const document = await tools.withCatalog(context, (catalog, signal) => protectGroup(catalog, request, signal));
      report(context, document, `is protected with ${sizeText(document)} and policy ${policy}`);
    });
}

/** @throws TidemarkError USAGE */
function parseDisk(text: string): { disk: string; sizeBytes: number } {
  const at = text.indexOf('=');
  if (at < 1) throw new TidemarkError('USAGE', `--disk ${text} is not ID=SIZE, such as os=64GiB`);
  return { disk: text.slice(0, at), sizeBytes: parseSize(text.slice(at + 1)) };
}

function registerReading(group: Command, context: CliContext, tools: CatalogTools): void {
  group
    .command('list')
    .description('all groups and what is wanted of them')
    .action(async () => {
      const groups = await tools.withCatalog(context, listGroupDocuments);
      if (context.json) printJson(context, groups.map(withoutVersion));
      else printGroups(context, groups);
    });
  group
    .command('show')
    .argument('<group>', 'name of the group')
    .description('machines, disks and pins of a group; `tidemark status` tells how it is doing')
    .action(async (name: string) => {
      const document = await tools.withCatalog(context, (catalog, signal) => getGroup(catalog, name, signal));
      if (context.json) printJson(context, withoutVersion(document));
      else printGroup(context, document);
    });
}

function registerChanges(group: Command, context: CliContext, tools: CatalogTools): void {
  group
    .command('pause')
    .argument('<group>', 'name of the group')
    .description('stop replicating for now; logs go on to arrive')
    .action(async (name: string) => {
      const document = await tools.withCatalog(context, (catalog, signal) => pauseGroup(catalog, name, signal));
      report(context, document, 'is paused');
    });
  group
    .command('resume')
    .argument('<group>', 'name of the group')
    .description('go on after a pause')
    .action(async (name: string) => {
      const document = await tools.withCatalog(context, (catalog, signal) => resumeGroup(catalog, name, signal));
      report(context, document, 'is active');
    });
  group
    .command('set-policy')
    .argument('<group>', 'name of the group')
    .argument('<policy>', 'name of the policy')
    .description('give the group another policy')
    .action(async (name: string, policy: string) => {
      const document = await tools.withCatalog(context, (catalog, signal) =>
        setGroupPolicy(catalog, name, policy, signal),
      );
      report(context, document, `has policy ${policy}`);
    });
}

interface DisableArguments {
  readonly keepPoints?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

function registerDisable(group: Command, context: CliContext, tools: CatalogTools): void {
  group
    .command('disable')
    .argument('<group>', 'name of the group')
    .description('end replication; without --keep-points, points, seed disks and logs are given up for deletion')
    .option('--keep-points', 'keep everything that was made so far')
    .option('--dry-run', 'say what would happen and change nothing')
    .option('--yes', 'do not ask')
    .action(async (name: string, { keepPoints = false, dryRun = false, yes = false }: DisableArguments) => {
      const options = { keepPoints, nowUs: tools.nowUs() };
      await tools.withCatalog(context, async (catalog, signal) => {
        const wanted = disabledGroup(await getGroup(catalog, name, signal), options);
        const pointCount = (await documentNames(catalog, catalogName.points(name), signal)).length;
        const points = pointCount === 1 ? '1 point' : `${pointCount} points`;
        const fate = keepPoints
          ? `; kept: ${points}`
          : `; its ${points}, its seed disks and its logs are given up for deletion`;
        if (dryRun) {
          if (context.json)
            printJson(context, { dryRun: true, keepPoints, points: pointCount, ...withoutVersion(wanted) });
          else printLine(context, `Group ${name} would be disabled${fate}.`);
          return;
        }
        if (!keepPoints) await confirm(context, `Group ${name} will be disabled${fate}.`, { yes });
        report(context, await disableGroup(catalog, name, options, signal), `is disabled${fate}`);
      });
    });
}

interface TargetArguments {
  readonly machine: string;
  readonly file?: string;
  readonly show?: boolean;
}

function registerTarget(group: Command, context: CliContext, tools: CatalogTools): void {
  group
    .command('target')
    .argument('<group>', 'name of the group')
    .description('what a machine becomes in Azure when it is failed over')
    .requiredOption('--machine <name>', 'the machine')
    .option('--file <file>', 'JSON file with its settings; they replace the earlier ones')
    .option('--show', 'print the settings')
    .action(async (name: string, { machine, file, show = false }: TargetArguments) => {
      if ((file === undefined) !== show) throw new TidemarkError('USAGE', 'say --file FILE or --show');
      await tools.withCatalog(context, async (catalog, signal) => {
        const document =
          file === undefined
            ? await getGroup(catalog, name, signal)
            : await setTarget(catalog, { group: name, machine, target: readTargetFile(file) }, signal);
        const target = requireMachine(document, machine).target ?? DEFAULT_TARGET;
        if (context.json) printJson(context, target);
        else if (show) printLine(context, JSON.stringify(target, undefined, 2));
        else printLine(context, `Machine ${machine} of group ${name} has its target.`);
      });
    });
}

function readTargetFile(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TidemarkError('TARGET_INVALID', `cannot read ${file} as JSON: ${why}`, { cause });
  }
}

function report(context: CliContext, document: GroupDocument, what: string): void {
  if (context.json) printJson(context, withoutVersion(document));
  else printLine(context, `Group ${document.group} ${what}.`);
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
const disksOf = ({ machines }: GroupDocument) => machines.flatMap(({ disks }) => disks);
const bytesOf = (group: GroupDocument): number => sum(disksOf(group).map(({ sizeBytes }) => sizeBytes));
const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

function sizeText(group: GroupDocument): string {
  const machines = counted(group.machines.length, 'machine');
  return `${machines}, ${counted(disksOf(group).length, 'disk')} (${formatBytes(bytesOf(group))})`;
}

function printGroups(context: CliContext, groups: readonly GroupDocument[]): void {
  printTable(
    context,
    ['GROUP', 'WANTED', 'POLICY', 'MACHINES', 'DISKS', 'SIZE', 'PINS'],
    groups.map((group) => [
      group.group,
      group.wanted,
      group.policy,
      group.machines.length,
      disksOf(group).length,
      formatBytes(bytesOf(group)),
      group.pins.length,
    ]),
  );
}

function printGroup(context: CliContext, group: GroupDocument): void {
  printLine(
    context,
    `Group ${group.group}: ${group.wanted}, policy ${group.policy}, protected since ${group.createdAt}`,
  );
  printTable(
    context,
    ['MACHINE', 'DISK', 'SIZE', 'BYTES', 'EPOCH'],
    group.machines.flatMap(({ machine, disks }) =>
      disks.map(({ disk, sizeBytes, epoch }) => [machine, disk, formatBytes(sizeBytes), sizeBytes, epoch]),
    ),
  );
  if (group.pins.length === 0) return;
  printTable(
    context,
    ['PINNED POINT', 'BY', 'UNTIL', 'REASON'],
    group.pins.map(({ point, owner, expiresAt, reason }) => [point, owner, expiresAt ?? 'unpinned', reason]),
  );
}
