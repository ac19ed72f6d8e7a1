/** What the arguments of `source ship` mean: numbers of seconds, disk mappings, and the disks of a group that a trace plays. */
import type { GroupDocument } from '../catalog/groups.ts';
import { TidemarkError } from '../errors.ts';
import type { ShipDisk } from './disk-shipper.ts';
import { matchTraceDisks } from './trace-folder.ts';
import type { DiskName, TraceFolder } from './trace-folder.ts';

/** Exact microseconds of `12` or `0.25`. @throws TidemarkError USAGE */
export function usFromSeconds(option: string, text: string): number {
  const match = /^(\d{1,9})(?:\.(\d{1,6}))?$/.exec(text);
  const timeUs = match === null ? 0 : Number(match[1]) * 1_000_000 + Number((match[2] ?? '').padEnd(6, '0'));
  if (timeUs < 1)
    throw new TidemarkError('USAGE', `${option} ${text}: seconds are a number such as 12 or 0.25, above 0`);
  return timeUs;
}

/** @throws TidemarkError USAGE */
export function stretchFrom(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new TidemarkError('USAGE', `--stretch ${text}: the stretch is a positive whole number`);
}

/** `ID=FILE …` as a map. @throws TidemarkError USAGE */
export function diskMapping(pairs: readonly string[]): ReadonlyMap<string, string> {
  const mapping = new Map<string, string>();
  for (const pair of pairs) {
    const split = pair.indexOf('=');
    const id = pair.slice(0, split);
    const file = pair.slice(split + 1);
    if (split < 1 || file === '') throw new TidemarkError('USAGE', `--disk ${pair}: write ID=FILE, such as data=disk1`);
    if (mapping.has(id)) throw new TidemarkError('USAGE', `--disk ${id}=… is given twice`);
    mapping.set(id, file);
  }
  return mapping;
}

export interface ShipSelection {
  readonly disks: readonly ShipDisk[];
  /** Disks of the same machines that no trace disk plays: their logs, and so the group's watermark, stay where they are. */
  readonly unmatched: readonly DiskName[];
}

/**
 * The disks to ship: of `machine`, or of all machines of the group that have a disk in the trace.
 * @throws TidemarkError USAGE for a machine that the group does not have, GROUP_DISABLED, TRACE_DISK_UNMATCHED, TRACE_NOT_FOUND
 */
export async function selectDisks(
  group: GroupDocument,
  trace: TraceFolder,
  choice: { readonly machine: string | undefined; readonly mapping: ReadonlyMap<string, string> },
): Promise<ShipSelection> {
  if (group.wanted === 'disabled') throw new TidemarkError('GROUP_DISABLED', `group ${group.group} is disabled`);
  const machines = group.machines.filter(({ machine }) => choice.machine === undefined || machine === choice.machine);
  if (machines.length === 0) {
    const known = group.machines.map(({ machine }) => machine).join(', ');
    throw new TidemarkError('USAGE', `group ${group.group} has no machine ${choice.machine}; it has ${known}`);
  }
  const all = machines.flatMap(({ machine, disks }) => disks.map((disk) => ({ machine, ...disk })));
  const matches = await matchTraceDisks(trace, all, choice.mapping);
  const shipped = new Set(matches.map(({ target }) => target));
  const playing = new Set(matches.map(({ target }) => target.machine));
  return {
    disks: matches.map(({ target: { machine, disk, epoch, sizeBytes }, files }) => ({
      stream: { group: group.group, machine, disk, epoch },
      diskSizeBytes: sizeBytes,
      files,
    })),
    unmatched: all
      .filter((disk) => playing.has(disk.machine) && !shipped.has(disk))
      .map(({ machine, disk }) => ({ machine, disk })),
  };
}
