/**
 * Pure. The steps of a job. Phases follow each other; the lanes of a phase are independent of each other; the steps of a lane follow
 * each other. The same request always gives the same steps with the same names.
 *
 * What a job makes and deletes is known once its point is chosen and the jobs that it replaces have been stopped. The plan made
 * before that is the best guess, and is shown; it is made again then.
 */
import type { Command } from '../commands/commands.ts';
import { diskLabel } from '../model/names.ts';
import { managedDiskName, virtualMachineName } from './resource-names.ts';
import type { MachineTarget } from './target.ts';

export const STEP_KINDS = [
  'claim',
  'stop-jobs',
  'create-point',
  'stop-replication',
  'hold-point',
  'copy',
  'import',
  'delete-copy',
  'create-machine',
  'delete-machine',
  'delete-disk',
  'delete-copies',
  'delete-points',
  'finish',
] as const;
export type StepKind = (typeof STEP_KINDS)[number];

export interface PlannedStep {
  readonly kind: StepKind;
  /** What people see; unique within a plan. */
  readonly name: string;
  readonly phase: number;
  readonly lane: string;
  readonly machine: string | null;
  readonly disk: string | null;
  /** Name of the disk or machine in Azure. */
  readonly resource: string | null;
  /** The job whose resource is deleted. */
  readonly owner: string | null;
}

export interface MadeResource {
  readonly kind: 'disk' | 'machine';
  readonly resource: string;
  readonly job: string;
}

export interface PlanRequest {
  readonly job: string;
  readonly command: Command;
  /** Disks of the point; of the group while it is not chosen. */
  readonly disks: readonly { readonly machine: string; readonly disk: string }[];
  readonly targets: ReadonlyMap<string, MachineTarget>;
  /** What the jobs before this one may have left in Azure. */
  readonly made: readonly MadeResource[];
  /** Those jobs, without this one. */
  readonly madeBy: readonly string[];
}

type Draft = Pick<PlannedStep, 'kind' | 'name'> & Partial<PlannedStep>;
/** The lanes of one phase. */
type Phase = readonly (readonly Draft[])[];

export function planSteps(request: PlanRequest): readonly PlannedStep[] {
  return phasesOf(request).flatMap((lanes, phase) =>
    lanes.flatMap((steps, lane) =>
      steps.map((step) => ({
        machine: null,
        disk: null,
        resource: null,
        owner: null,
        ...step,
        phase,
        lane: String(lane),
      })),
    ),
  );
}

function phasesOf(request: PlanRequest): readonly Phase[] {
  const { command } = request;
  const [machines, disks, copies] = deletions(request);
  if (command.command === 'create-point') return [one('create-point', 'create point'), FINISH];
  if (command.command === 'commit') return [CLAIM, one('delete-points', 'delete points'), FINISH];
  if (!('point' in command)) return [CLAIM, STOP_JOBS, machines, disks, copies, FINISH]; // cancel, cleanup
  const before = command.command === 'change-point' ? [STOP_JOBS] : [];
  const stop = command.command === 'failover' ? [STOP] : [];
  return [
    CLAIM,
    ...before,
    ...createPoint(command.point),
    ...stop,
    HOLD,
    making(request),
    machines, // before the new ones: they have the same names and network interfaces
    machinesOf(request),
    disks,
    copies,
    FINISH,
  ];
}

const one = (kind: StepKind, name: string): Phase => [[{ kind, name }]];
const CLAIM = one('claim', 'claim group');
const STOP_JOBS = one('stop-jobs', 'stop earlier jobs');
const STOP = one('stop-replication', 'stop replication');
const HOLD = one('hold-point', 'hold point');
const FINISH = one('finish', 'finish');

const createPoint = (point: string): readonly Phase[] =>
  point === 'latest' ? [one('create-point', 'create point')] : [];

export const isTest = ({ command }: Command): boolean =>
  command === 'test-failover' || command === 'cleanup-test-failover';

/** Copy, import, delete the copy: per disk. */
function making({ job, command, disks }: PlanRequest): Phase {
  return disks.map(({ machine, disk }) => {
    const label = diskLabel({ machine, disk });
    const resource = managedDiskName({ machine, disk }, { job, isTest: isTest(command) });
    return [
      { kind: 'copy', name: `copy ${label}`, machine, disk },
      { kind: 'import', name: `import ${label}`, machine, disk, resource },
      { kind: 'delete-copy', name: `delete-copy ${label}`, machine, disk },
    ];
  });
}

/** Per machine that is to become a virtual one. */
function machinesOf({ command, disks, targets }: PlanRequest): Phase {
  const machines = [...new Set(disks.map(({ machine }) => machine))];
  return machines.flatMap((machine) => {
    const wanted = targets.get(machine)?.virtualMachine;
    if (wanted === undefined || wanted === null) return [];
    if (isTest(command) && wanted.testNetworkInterfaceIds.length === 0) return [];
    const resource = virtualMachineName(wanted.name ?? machine, isTest(command));
    return [[{ kind: 'create-machine', name: `create-machine ${machine}`, machine, resource } as const]];
  });
}

/** Machines, disks, copies of earlier jobs, in the order in which they can be deleted. */
function deletions({ made, madeBy }: PlanRequest): readonly [Phase, Phase, Phase] {
  const deletion = (kind: 'machine' | 'disk'): Phase =>
    made
      .filter((resource) => resource.kind === kind)
      .map(({ resource, job }) => [
        { kind: `delete-${kind}`, name: `delete-${kind} ${resource} of ${job}`, resource, owner: job },
      ]);
  const copies = madeBy.map((job) => [{ kind: 'delete-copies', name: `delete-copies ${job}`, owner: job } as const]);
  return [deletion('machine'), deletion('disk'), copies];
}
