/** Pure. What Azure is asked for: disks and machines from a group's targets and a job's journal. */
import type { GroupDocument } from '../catalog/groups.ts';
import { assert, TidemarkError } from '../errors.ts';
import type { DiskSpec, MachineSpec } from './compute.ts';
import type { JobDocument, JobStepRecord } from './job-document.ts';
import { isTest } from './plan.ts';
import { jobTags } from './resource-names.ts';
import { DEFAULT_TARGET, targetsOf } from './set-target.ts';

interface SpecRequest {
  readonly document: GroupDocument;
  readonly job: JobDocument;
  readonly machine: string;
  readonly name: string;
}

function tagsOf({ document, job, machine }: SpecRequest): Readonly<Record<string, string>> {
  assert(job.point !== null, 'the point is chosen');
  return {
    ...(targetsOf(document).get(machine) ?? DEFAULT_TARGET).tags,
    ...jobTags(job.group, job.job),
    'tidemark-machine': machine,
    'tidemark-point': job.point,
  };
}

export function diskSpec(request: SpecRequest & { readonly disk: string; readonly sizeBytes: number }): DiskSpec {
  const { document, machine, disk, sizeBytes, name } = request;
  const { sku, zone, diskEncryptionSetId, osDisk } = targetsOf(document).get(machine) ?? DEFAULT_TARGET;
  const boot = osDisk?.disk === disk ? osDisk : null;
  return {
    name,
    sizeBytes,
    sku,
    zone,
    diskEncryptionSetId,
    osType: boot?.osType ?? null,
    hyperVGeneration: boot?.hyperVGeneration ?? null,
    tags: { ...tagsOf(request), 'tidemark-disk': disk },
  };
}

/**
 * A machine of the disks that the job has made.
 * @throws TidemarkError TARGET_INVALID when the target has lost its machine or its disk to boot from since the job was planned
 */
export function machineSpec({
  document,
  job,
  step,
  name,
}: Pick<SpecRequest, 'document' | 'job' | 'name'> & { readonly step: JobStepRecord }): MachineSpec {
  const machine = step.machine ?? '';
  const { zone, osDisk, luns, virtualMachine } = targetsOf(document).get(machine) ?? DEFAULT_TARGET;
  const made = job.steps.filter(({ kind, machine: of }) => kind === 'import' && of === machine);
  const boot = made.find(({ disk }) => disk === osDisk?.disk);
  if (virtualMachine === null || osDisk === null || boot === undefined) {
    const message = `machine ${machine} has no virtual machine with a disk to boot from among its settings`;
    throw new TidemarkError('TARGET_INVALID', message);
  }
  const data = made.filter((disk) => disk !== boot);
  const numbers = lunsOf(
    data.map(({ disk }) => disk ?? ''),
    luns,
  );
  return {
    name,
    size: virtualMachine.size,
    zone,
    networkInterfaceIds: isTest(job.command)
      ? virtualMachine.testNetworkInterfaceIds
      : virtualMachine.networkInterfaceIds,
    osDisk: { id: idOf(boot), osType: osDisk.osType },
    dataDisks: data.map((disk, index) => ({ id: idOf(disk), lun: numbers[index] ?? 0 })),
    tags: tagsOf({ document, job, machine, name }),
  };
}

function idOf({ id, name }: JobStepRecord): string {
  assert(id !== null, `${name} is done before its machine is made`);
  return id;
}

/** The numbers that are given, and for the others the lowest free ones in the order of the disks. */
export function lunsOf(disks: readonly string[], given: Readonly<Record<string, number>>): readonly number[] {
  const taken = new Set(disks.flatMap((disk) => given[disk] ?? []));
  return disks.map((disk) => {
    const own = given[disk];
    if (own !== undefined) return own;
    let lun = 0;
    while (taken.has(lun)) lun++;
    taken.add(lun);
    return lun;
  });
}
