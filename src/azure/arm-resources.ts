/** Pure. Disks and machines as Azure Compute takes and shows them. */
import type { Disk, VirtualMachine as ArmMachine } from '@azure/arm-compute';
import { TidemarkError } from '../errors.ts';
import { isUnfinished } from '../failover/compute-guards.ts';
import type { DiskSpec, MachineSpec, ManagedDisk, VirtualMachine } from '../failover/compute.ts';

const zonesOf = (zone: string | null): { readonly zones?: string[] } => (zone === null ? {} : { zones: [zone] });

export function diskBody(spec: DiskSpec, location: string, special: Pick<Disk, 'creationData' | 'tags'>): Disk {
  const { osType, hyperVGeneration, diskEncryptionSetId } = spec;
  return {
    location,
    sku: { name: spec.sku },
    ...zonesOf(spec.zone),
    ...(osType !== null && { osType }),
    ...(hyperVGeneration !== null && { hyperVGeneration }),
    ...(diskEncryptionSetId !== null && {
      encryption: { diskEncryptionSetId, type: 'EncryptionAtRestWithCustomerKey' },
    }),
    creationData: special.creationData ?? { createOption: 'Empty' },
    tags: { ...special.tags },
  };
}

/** Disks and network interfaces outlive the machine. */
export function machineBody(spec: MachineSpec, location: string): ArmMachine {
  return {
    location,
    ...zonesOf(spec.zone),
    tags: { ...spec.tags },
    hardwareProfile: { vmSize: spec.size },
    storageProfile: {
      osDisk: {
        createOption: 'Attach',
        osType: spec.osDisk.osType,
        managedDisk: { id: spec.osDisk.id },
        deleteOption: 'Detach',
      },
      dataDisks: spec.dataDisks.map(({ id, lun }) => ({
        createOption: 'Attach',
        lun,
        managedDisk: { id },
        deleteOption: 'Detach',
      })),
    },
    networkProfile: {
      networkInterfaces: spec.networkInterfaceIds.map((id, index) => ({
        id,
        primary: index === 0,
        deleteOption: 'Detach',
      })),
    },
  };
}

/** @throws TidemarkError COMPUTE_UNAVAILABLE when the answer lacks what every disk has */
export function diskOf({ id, name, diskSizeBytes, tags, provisioningState }: Disk): ManagedDisk {
  if (id === undefined || name === undefined || diskSizeBytes === undefined) {
    throw new TidemarkError('COMPUTE_UNAVAILABLE', `Azure shows a disk ${name ?? ''} without its id or size`);
  }
  const isWhole = provisioningState === 'Succeeded' && !isUnfinished(tags ?? {});
  return { name, id, sizeBytes: diskSizeBytes, tags: { ...tags }, isWhole };
}

/** @throws TidemarkError COMPUTE_UNAVAILABLE when the answer lacks what every machine has */
export function machineOf({ id, name, provisioningState }: ArmMachine): VirtualMachine {
  if (id === undefined || name === undefined || provisioningState === undefined) {
    throw new TidemarkError('COMPUTE_UNAVAILABLE', `Azure shows a machine ${name ?? ''} without its id or state`);
  }
  return { name, id, provisioningState };
}
