import type { DiskKey } from '../model/names.ts';
import type { SeedDisk, SeedReader } from '../seed/seed-store.ts';

/**
 * Where a page blob of a copy is: container and name, without a leading slash.
 * `failover/{job}/{machine}/{disk}.vhd` for a failover, `point-disks/{group}/{machine}/{disk}/{point}.vhd` for a point that was built
 * from an earlier one.
 */
export type CopyName = `failover/${string}.vhd` | `point-disks/${string}.vhd`;

/** The bytes of one disk at one point: a snapshot of its seed disk or, where `copy` is given, of that copy. */
export interface PointDisk extends DiskKey {
  readonly sizeBytes: number;
  readonly snapshot: string;
  readonly copy: CopyName | null;
}

/**
 * Page blobs of their own in the replica account, made from a snapshot and laid out as fixed VHDs: the disk's bytes, then the 512-byte
 * footer. A copy shares nothing with its source: writing one changes nothing else, and it outlives the snapshot.
 */
export interface CopyStore {
  /**
   * Makes `name` hold the bytes of `source`. Costs what the ranges with data cost, not the size of the disk. A whole copy of the same
   * source counts as done; one that was interrupted goes on or begins anew; a copy of another source under this name is replaced.
   * @param onProgress bytes of data copied, and in all
   * @throws TidemarkError SNAPSHOT_MISSING; STORAGE_*
   */
  copy(
    source: PointDisk,
    name: CopyName,
    options: { readonly signal: AbortSignal; readonly onProgress?: (doneBytes: number, totalBytes: number) => void },
  ): Promise<void>;
  /** Opens a whole copy for writing under a lease, as a seed disk is. @throws TidemarkError BLOB_MISSING */
  open(name: CopyName, sizeBytes: number, signal: AbortSignal): Promise<SeedDisk>;
  /** Read access to the snapshots of a copy. */
  reader(name: CopyName): SeedReader;
  /** The URL of the blob as Azure Compute's `Import` takes it, without a secret. */
  url(name: CopyName): string;
  /** Names of the copies below a prefix such as `failover/JOB/`, ascending; none when there are none. */
  list(prefix: string, signal: AbortSignal): Promise<readonly CopyName[]>;
  /** Deletes a copy with its snapshots, whoever holds its lease; done already counts as done. */
  remove(name: CopyName, signal: AbortSignal): Promise<void>;
}
