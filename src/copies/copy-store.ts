import { z } from 'zod';
import { CONTAINERS, type DiskKey } from '../model/names.ts';
import type { SeedDisk, SeedReader, SeedStore } from '../seed/seed-store.ts';

/**
 * Where a page blob of a copy is: container and name, without a leading slash.
 * `failover/{job}/{machine}/{disk}.vhd` for a failover, `point-disks/{group}/{machine}/{disk}/{point}.vhd` for a point that was built
 * from an earlier one.
 */
export type CopyName = `failover/${string}.vhd` | `point-disks/${string}.vhd`;

const COPY_NAME = new RegExp(`^(?:${CONTAINERS.failover}|${CONTAINERS.pointDisks})/.+\\.vhd$`);

export const isCopyName = (name: string): name is CopyName => COPY_NAME.test(name);

export const copyNameSchema = z.custom<CopyName>((value) => typeof value === 'string' && isCopyName(value));

/** Names of the copies of all points of a group begin with it. */
export const pointCopiesPrefix = (group: string): string => `${CONTAINERS.pointDisks}/${group}/`;

/** The copy that holds a disk of a point. */
export const pointCopyName = ({ group, machine, disk }: DiskKey, point: string): CopyName =>
  `${CONTAINERS.pointDisks}/${group}/${machine}/${disk}/${point}.vhd`;

/** The point that a copy was made for: the last part of its name. */
export const pointOfCopy = (name: CopyName): string => name.slice(name.lastIndexOf('/') + 1, -'.vhd'.length);

/** The bytes of one disk at one point: a snapshot of its seed disk or, where `copy` is given, of that copy. */
export interface PointDisk extends DiskKey {
  readonly sizeBytes: number;
  readonly snapshot: string;
  readonly copy: CopyName | null;
}

/** Throws unless the caller may still do what it is about to do. */
export type Confirm = (signal: AbortSignal) => Promise<void>;

export interface CopyOptions {
  readonly signal: AbortSignal;
  /** Bytes of data copied, and in all. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /**
   * Called once the copy's lease is taken, before anything of an earlier copy is deleted: so a caller that was thrown out does not
   * delete what its successor has made. What it throws passes through.
   */
  readonly confirm?: Confirm;
}

/**
 * Page blobs of their own in the replica account, made from a snapshot and laid out as fixed VHDs: the disk's bytes, then the 512-byte
 * footer. A copy shares nothing with its source: writing one changes nothing else, and it outlives the snapshot.
 */
export interface CopyStore {
  /**
   * Makes `name` hold the bytes of `source`. Costs what the ranges with data cost, not the size of the disk. A whole copy of the same
   * source counts as done; one that was interrupted goes on or begins anew; a copy of another source under this name is replaced.
   * @throws TidemarkError SNAPSHOT_MISSING; OWNERSHIP_LOST, CONFLICT when somebody else copies to this name; STORAGE_*
   */
  copy(source: PointDisk, name: CopyName, options: CopyOptions): Promise<void>;
  /**
   * Opens a whole copy for writing under a lease, as a seed disk is.
   * @throws TidemarkError BLOB_MISSING when there is none, or one that is not whole; SEED_MISMATCH when it has another size
   */
  open(name: CopyName, sizeBytes: number, signal: AbortSignal): Promise<SeedDisk>;
  /** Read access to the snapshots of a copy. */
  reader(name: CopyName): SeedReader;
  /** The URL of the blob as Azure Compute's `Import` takes it, without a secret. */
  url(name: CopyName): string;
  /** Names of the copies below a prefix such as `failover/JOB/`, ascending; none when there are none. */
  list(prefix: string, signal: AbortSignal): Promise<readonly CopyName[]>;
  /**
   * Deletes a copy with its snapshots, whoever holds its lease; done already counts as done. `confirm` as for {@link CopyOptions}.
   * @throws TidemarkError OWNERSHIP_LOST, with nothing deleted, when somebody else took the lease meanwhile
   */
  remove(name: CopyName, signal: AbortSignal, confirm?: Confirm): Promise<void>;
}

/** Reads the bytes of a point, wherever they are: the one way from a manifest to a reader. */
export const pointReader = (
  { seeds, copies }: { readonly seeds: Pick<SeedStore, 'reader'>; readonly copies: Pick<CopyStore, 'reader'> },
  disk: PointDisk,
): SeedReader => (disk.copy === null ? seeds.reader(disk) : copies.reader(disk.copy));
