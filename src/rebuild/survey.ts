import type { CopyName } from '../copies/copy-store.ts';

/** A page blob that holds a disk, seen from outside. */
export interface SizedDisk {
  readonly machine: string;
  readonly disk: string;
  /** With the footer. */
  readonly blobBytes: number;
}

export interface SizedCopy {
  readonly copy: CopyName;
  readonly blobBytes: number;
}

/** What a rebuild asks of the replica account beyond the ports that everything else uses. Writes nothing, takes no lease. */
export interface ReplicaSurvey {
  /** Groups that have seed disks, ascending. */
  groups(signal: AbortSignal): Promise<readonly string[]>;
  /** The seed disks of a group, by name, complete. Blobs with foreign names are left out. */
  seeds(group: string, signal: AbortSignal): Promise<readonly SizedDisk[]>;
  /** The copies that points of the group were built on, by name, complete. */
  copies(group: string, signal: AbortSignal): Promise<readonly SizedCopy[]>;
  /** Whether somebody holds the lease of a catalog blob; one that is missing has none. */
  isLeased(name: string, signal: AbortSignal): Promise<boolean>;
}
