/** Azure Compute as a failover needs it: managed disks from page blobs, machines from managed disks. */

/**
 * A long-running operation that outlives this process. `token` is what an earlier process persisted of the same operation, null at the
 * first call; `persist` is awaited as soon as Azure has accepted the request and before it is waited for.
 */
export interface Resumable {
  /** Not every token is of use: one of another operation, or that nobody knows any more, counts as none. */
  readonly token: string | null;
  persist(token: string): Promise<void>;
}

export interface DiskSpec {
  /** Resource name; the same job, machine and disk always give the same one, so that a repeated step finds its own work. */
  readonly name: string;
  /** A multiple of 1 MiB, without the VHD footer. */
  readonly sizeBytes: number;
  readonly sku: 'Standard_LRS' | 'StandardSSD_LRS' | 'StandardSSD_ZRS' | 'Premium_LRS' | 'Premium_ZRS';
  readonly zone: string | null;
  readonly diskEncryptionSetId: string | null;
  /** Only operating-system disks have one. */
  readonly osType: 'Linux' | 'Windows' | null;
  readonly hyperVGeneration: 'V1' | 'V2' | null;
  readonly tags: Readonly<Record<string, string>>;
}

export interface ManagedDisk {
  readonly name: string;
  readonly id: string;
  readonly sizeBytes: number;
  readonly tags: Readonly<Record<string, string>>;
  /** False while it is being made, when that failed, and while or after an upload that has not ended. */
  readonly isWhole: boolean;
}

export interface MachineSpec {
  readonly name: string;
  readonly size: string;
  readonly zone: string | null;
  /** Resource ids of existing network interfaces; the first one is primary. */
  readonly networkInterfaceIds: readonly string[];
  readonly osDisk: { readonly id: string; readonly osType: 'Linux' | 'Windows' };
  readonly dataDisks: readonly { readonly id: string; readonly lun: number }[];
  readonly tags: Readonly<Record<string, string>>;
}

export interface VirtualMachine {
  readonly name: string;
  readonly id: string;
  /** As Azure says: `Creating`, `Succeeded`, `Failed` … */
  readonly provisioningState: string;
}

/**
 * Every call is safe to repeat: what is there already under its name with the same `tidemark-*` tags is the result; the same name with
 * other tags is a COMPUTE_CONFLICT, and nothing of a stranger is changed or deleted.
 * @throws TidemarkError COMPUTE_UNAVAILABLE (retry), COMPUTE_REFUSED (operator), COMPUTE_CONFLICT (operator)
 */
export interface Compute {
  /** A managed disk from a page blob that is a fixed VHD, by `Import`: a copy of its own, after which the blob may go. */
  importDisk(spec: DiskSpec, sourceUrl: string, resumable: Resumable, signal: AbortSignal): Promise<ManagedDisk>;
  /**
   * The same by an `Upload` disk and its write SAS, where `Import` is not possible.
   * @param read gives the bytes of a range of the VHD (data and footer); `ranges` are those that are not known to be zero, whole sectors
   */
  uploadDisk(
    spec: DiskSpec,
    source: {
      readonly ranges: readonly { readonly offsetBytes: number; readonly lengthBytes: number }[];
      read(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer>;
    },
    resumable: Resumable,
    signal: AbortSignal,
  ): Promise<ManagedDisk>;
  createMachine(spec: MachineSpec, resumable: Resumable, signal: AbortSignal): Promise<VirtualMachine>;
  findDisk(name: string, signal: AbortSignal): Promise<ManagedDisk | undefined>;
  findMachine(name: string, signal: AbortSignal): Promise<VirtualMachine | undefined>;
  /** Done already counts as done. `tags`: those that the resource must have, else COMPUTE_CONFLICT. */
  deleteMachine(
    name: string,
    tags: Readonly<Record<string, string>>,
    resumable: Resumable,
    signal: AbortSignal,
  ): Promise<void>;
  deleteDisk(
    name: string,
    tags: Readonly<Record<string, string>>,
    resumable: Resumable,
    signal: AbortSignal,
  ): Promise<void>;
}
