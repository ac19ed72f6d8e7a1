/** Pure, but for the last function. What machines become in Azure: their targets in the group's document, and the rules for them. */
import type { z } from 'zod';
import type { Catalog } from '../catalog/catalog.ts';
import { updateDocument } from '../catalog/documents.ts';
import { groupDocumentSchema, type GroupDocument, type GroupMachine } from '../catalog/groups.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName, requireName } from '../model/names.ts';
import { machineTargetSchema, type MachineTarget } from './target.ts';

/** Issues of a target that one message names. */
const MAX_ISSUES = 5;
/** Azure: 50 tags per resource; five of them are ours. */
const MAX_TAGS = 45;
const OUR_TAGS = 'tidemark-';

/** What a machine gets that has no target: managed disks, no virtual machine. */
export const DEFAULT_TARGET: MachineTarget = machineTargetSchema.parse({});

/** By machine; those that have one. */
export const targetsOf = ({ machines }: GroupDocument): ReadonlyMap<string, MachineTarget> =>
  new Map(machines.flatMap(({ machine, target }) => (target === undefined ? [] : [[machine, target] as const])));

/** @throws TidemarkError TARGET_INVALID, naming each field that is wrong */
export function parseTarget(
  value: unknown,
  { machine, disks }: Pick<GroupMachine, 'machine' | 'disks'>,
): MachineTarget {
  const parsed = machineTargetSchema.safeParse(value);
  if (!parsed.success) throw invalid(machine, parsed.error.issues.map(issueText));
  const problems = problemsOf(
    parsed.data,
    disks.map(({ disk }) => disk),
  );
  if (problems.length > 0) throw invalid(machine, problems);
  return parsed.data;
}

function problemsOf({ osDisk, luns, virtualMachine, tags }: MachineTarget, disks: readonly string[]): string[] {
  const problems: string[] = [];
  if (osDisk !== null && !disks.includes(osDisk.disk))
    problems.push(`osDisk.disk: the machine has no disk ${osDisk.disk}`);
  if (virtualMachine !== null && osDisk === null) problems.push('osDisk: a virtual machine needs a disk to boot from');
  for (const disk of Object.keys(luns)) {
    if (!disks.includes(disk)) problems.push(`luns.${disk}: the machine has no such disk`);
    else if (disk === osDisk?.disk) problems.push(`luns.${disk}: the disk to boot from has no logical unit number`);
  }
  const numbers = Object.values(luns);
  if (new Set(numbers).size !== numbers.length) problems.push('luns: two disks have the same number');
  for (const tag of Object.keys(tags)) {
    if (tag.toLowerCase().startsWith(OUR_TAGS)) problems.push(`tags.${tag}: names with ${OUR_TAGS} are Tidemark's own`);
  }
  if (Object.keys(tags).length > MAX_TAGS) problems.push(`tags: at most ${MAX_TAGS}`);
  return problems;
}

const issueText = ({ path, message }: z.core.$ZodIssue): string =>
  `${path.length === 0 ? 'target' : path.map(String).join('.')}: ${message}`;

function invalid(machine: string, problems: readonly string[]): TidemarkError {
  const more = problems.length > MAX_ISSUES ? ` and ${problems.length - MAX_ISSUES} more` : '';
  return new TidemarkError(
    'TARGET_INVALID',
    `target of machine ${machine}: ${problems.slice(0, MAX_ISSUES).join('; ')}${more}`,
  );
}

/** @throws TidemarkError GROUP_INVALID when the group has no such machine */
export function requireMachine({ group, machines }: GroupDocument, machine: string): GroupMachine {
  const found = machines.find((known) => known.machine === machine);
  if (found !== undefined) return found;
  const names = machines.map((known) => known.machine).join(', ');
  throw new TidemarkError('GROUP_INVALID', `group ${group} has no machine ${JSON.stringify(machine)}; it has ${names}`);
}

/** @throws TidemarkError NAME_INVALID, GROUP_NOT_FOUND, GROUP_INVALID, TARGET_INVALID, DOCUMENT_INVALID, CONFLICT */
export async function setTarget(
  catalog: Catalog,
  { group, machine, target }: { readonly group: string; readonly machine: string; readonly target: unknown },
  signal: AbortSignal,
): Promise<GroupDocument> {
  const change = (current: GroupDocument): GroupDocument => {
    const parsed = parseTarget(target, requireMachine(current, machine));
    const machines = current.machines.map((known) =>
      known.machine === machine ? { ...known, target: parsed } : known,
    );
    return { ...current, machines };
  };
  const name = catalogName.group(requireName('group', group));
  const document = await updateDocument(catalog, name, groupDocumentSchema, change, signal);
  if (document === undefined) throw new TidemarkError('GROUP_NOT_FOUND', `there is no group ${group}`);
  return document;
}
