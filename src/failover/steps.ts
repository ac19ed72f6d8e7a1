/** What each kind of step does. Every one is safe to repeat, whole or half-done. */
import { getGroup, type GroupDocument } from '../catalog/groups.ts';
import type { PointDisk } from '../copies/copy-store.ts';
import { assert, TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { usFromIso } from '../model/time.ts';
import { pointDisk as pointDiskOf, type Manifest } from '../points/manifest.ts';
import { requirePoint } from '../points/point-store.ts';
import { claimGroup, endClaim, operationOf } from './claims.ts';
import { importDisk } from './disk-step.ts';
import { deleteAllPoints, stopReplication } from './group-steps.ts';
import { chooseAndHold } from './hold-step.ts';
import { isOver, resourcesOf, replanned, type JobStepRecord } from './job-document.ts';
import { readJob } from './job-run.ts';
import { endJob } from './end-job.ts';
import { machineSpec } from './machine-spec.ts';
import { planSteps, type StepKind } from './plan.ts';
import { requireCompute, type FailoverPorts } from './ports.ts';
import { copyName, jobTags } from './resource-names.ts';
import { targetsOf } from './set-target.ts';
import { diskOf, resumable, type StepContext, type StepOutcome } from './step-context.ts';

const COPIES_IN_FLIGHT = 4;

export const performStep = (context: StepContext): Promise<StepOutcome> => STEPS[context.step.kind](context);

const STEPS: Readonly<Record<StepKind, (context: StepContext) => Promise<StepOutcome>>> = {
  claim,
  'stop-jobs': stopJobs,
  'create-point': createPoint,
  'stop-replication': async ({ ports, run, signal }) => {
    await stopReplication(ports, run.document.group, signal);
    return {};
  },
  'hold-point': hold,
  copy: async (context) => {
    const { ports, run, signal } = context;
    await ports.copies.copy(await pointDisk(context), copyOf(context), { signal, confirm: run.confirm });
    return {};
  },
  import: async (context) => ({ id: (await importDisk(context, await pointDisk(context), copyOf(context))).id }),
  'delete-copy': async (context) => {
    await context.ports.copies.remove(copyOf(context), context.signal, context.run.confirm);
    return {};
  },
  'create-machine': createMachine,
  'delete-machine': async (context) => {
    const { ports, run, step, signal } = context;
    const tags = jobTags(run.document.group, owner(step));
    return unlessForeign(requireCompute(ports).deleteMachine(resource(step), tags, resumable(context), signal));
  },
  'delete-disk': async (context) => {
    const { ports, run, step, signal } = context;
    const tags = jobTags(run.document.group, owner(step));
    return unlessForeign(requireCompute(ports).deleteDisk(resource(step), tags, resumable(context), signal));
  },
  'delete-copies': async ({ ports, run, step, signal }) => {
    const copies = await ports.copies.list(`failover/${owner(step)}/`, signal);
    await mapAll(copies, COPIES_IN_FLIGHT, signal, (name, either) => ports.copies.remove(name, either, run.confirm));
    return {};
  },
  'delete-points': async ({ ports, run, signal }) => {
    await deleteAllPoints(ports, run.document.group, signal);
    return {};
  },
  finish,
};

/** A resource of that name which is not the job's was never made by it: then there is nothing to delete. */
async function unlessForeign(deletion: Promise<void>): Promise<StepOutcome> {
  try {
    await deletion;
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== 'COMPUTE_CONFLICT') throw error;
  }
  return {};
}

function resource({ resource, name }: JobStepRecord): string {
  assert(resource !== null, `step ${name} names a resource`);
  return resource;
}

function owner({ owner, name }: JobStepRecord): string {
  assert(owner !== null, `step ${name} names a job`);
  return owner;
}

const copyOf = ({ run, step }: StepContext) => copyName(run.document.job, diskOf(step));

async function claim({ ports, run, signal }: StepContext): Promise<StepOutcome> {
  const { job, command, point } = run.document;
  const group = await claimGroup(ports.catalog, { job, command, point, nowUs: ports.clock.nowUs() }, signal);
  const made = operationOf(group, command.command)?.made ?? [];
  await run.save((document) => ({ ...document, madeBy: made.filter((other) => other !== job) }));
  return {};
}

/** Jobs that this one replaces write nothing any more from here on; what they have made is known then. */
async function stopJobs({ ports, run, signal }: StepContext): Promise<StepOutcome> {
  const { group, madeBy } = run.document;
  for (const job of madeBy) await endJob(ports, { group, job, state: 'canceled' }, signal);
  await replan({ ports, run, signal });
  return {};
}

async function createPoint({ ports, run, signal }: StepContext): Promise<StepOutcome> {
  const { command } = run.document;
  const at = command.command === 'create-point' && command.at !== 'latest' ? usFromIso(command.at) : 'latest';
  const { point, created } = await ports.createPoint(command.group, at, signal);
  if (command.command === 'create-point') {
    await run.save((document) => ({ ...document, point: point.point, result: { point: point.point, created } }));
  }
  return {};
}

async function hold({ ports, run, signal }: StepContext): Promise<StepOutcome> {
  const { job, command, point: known } = run.document;
  assert('point' in command, `${command.command} chooses a point`);
  const { point } = await chooseAndHold(ports, { job, command, selector: command.point, known }, signal);
  await run.save((document) => ({ ...document, point }));
  await replan({ ports, run, signal });
  return {};
}

/** Plans again what follows, with what is known now. */
async function replan({ ports, run, signal }: Pick<StepContext, 'ports' | 'run' | 'signal'>): Promise<void> {
  const { job, group, command, point, madeBy } = run.document;
  const earlier = await Promise.all(madeBy.map((other) => readJob(ports, { group, job: other }, signal)));
  const document = await getGroup(ports.catalog, group, signal);
  const manifest = point === null ? undefined : await findManifest(ports, { group, point, command }, signal);
  const steps = planSteps({
    job,
    command,
    disks: manifest?.disks ?? disksOf(document),
    targets: targetsOf(document),
    made: earlier.flatMap(resourcesOf),
    madeBy,
  });
  await run.save((current) => replanned(current, steps));
}

/** Jobs that only delete need no point. */
async function findManifest(
  { catalog }: FailoverPorts,
  { group, point, command }: { group: string; point: string; command: object },
  signal: AbortSignal,
): Promise<Manifest | undefined> {
  return 'point' in command ? requirePoint(catalog, group, point, signal) : undefined;
}

export const disksOf = ({ machines }: GroupDocument): readonly { readonly machine: string; readonly disk: string }[] =>
  machines.flatMap(({ machine, disks }) => disks.map(({ disk }) => ({ machine, disk })));

async function pointDisk({ ports, run, step, signal }: StepContext): Promise<PointDisk> {
  const { group, point } = run.document;
  assert(point !== null, 'the point is chosen');
  const { machine, disk } = diskOf(step);
  const manifest = await requirePoint(ports.catalog, group, point, signal);
  const found = manifest.disks.find((other) => other.machine === machine && other.disk === disk);
  if (found === undefined) {
    throw new TidemarkError('DISK_NOT_FOUND', `point ${point} of group ${group} has no disk ${machine}/${disk}`);
  }
  return pointDiskOf(manifest, found);
}

async function createMachine(context: StepContext): Promise<StepOutcome> {
  const { ports, run, step, signal } = context;
  const document = await getGroup(ports.catalog, run.document.group, signal);
  const spec = machineSpec({ document, job: run.document, step, name: resource(step) });
  return { id: (await requireCompute(ports).createMachine(spec, resumable(context), signal)).id };
}

/** The claim ends before the job does: a crash in between finds the claim ended, and ends the job. */
async function finish({ ports, run, signal }: StepContext): Promise<StepOutcome> {
  const { job, group, command, madeBy } = run.document;
  const tested = await Promise.all(madeBy.map((other) => readJob(ports, { group, job: other }, signal)));
  const drillSucceeded = tested.length > 0 && tested.every((other) => isOver(other) && other.state === 'succeeded');
  const nowUs = ports.clock.nowUs();
  await endClaim(ports.catalog, { job, command, drillSucceeded, nowUs }, signal);
  return {};
}
