import type { DiskKey } from '../model/names.ts';

/** Metadata of a snapshot; keys are lower case because storage answers in lower case. */
export type SnapshotMetadata = Readonly<Record<string, string>>;

export interface SnapshotInfo {
  /** Storage's own name of the snapshot: a time with 100 ns digits. */
  readonly snapshot: string;
  readonly metadata: SnapshotMetadata;
}

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** The replica account's seed disks. Opening takes the lease; there is no writing without it. */
export interface SeedStore {
  /**
   * Creates the page blob (size + footer) when it is missing, takes its lease away from whoever holds it, and returns it for writing.
   * @throws TidemarkError SEED_MISMATCH when the blob has another size.
   */
  open(key: DiskKey, sizeBytes: number, footer: Buffer, signal: AbortSignal): Promise<SeedDisk>;
  /** Read access without a lease. */
  reader(key: DiskKey): SeedReader;
  /** The seed disks of a group, in the order of their names, complete. Blobs with foreign names are left out. */
  list(group: string, signal: AbortSignal): Promise<readonly DiskKey[]>;
  /**
   * Takes the disk's lease away from whoever holds it, then calls `confirm`, then deletes the disk with all its snapshots, at once. Gone
   * already counts as done; `confirm` is not called then. What `confirm` throws passes through, with nothing deleted.
   *
   * An owner that opens the disk after `confirm` has begun takes the lease away, so a caller that confirms that the group is
   * still its own never deletes what a later owner writes.
   * @throws TidemarkError OWNERSHIP_LOST, with nothing deleted, when another owner took the lease meanwhile
   */
  remove(key: DiskKey, confirm: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void>;
}

export interface SeedReader {
  /** Snapshots of this disk, oldest first, complete. */
  listSnapshots(signal: AbortSignal): Promise<readonly SnapshotInfo[]>;
  /**
   * Bytes of a snapshot; ranges never written read as zeroes.
   * @throws TidemarkError SNAPSHOT_MISSING
   */
  read(snapshot: string, offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer>;
  /**
   * The ranges of a snapshot that are not known to be zero, ascending, neighbours merged, within [0, sizeBytes).
   * @throws TidemarkError SNAPSHOT_MISSING
   */
  ranges(snapshot: string, sizeBytes: number, signal: AbortSignal): Promise<readonly ByteRange[]>;
}

/**
 * A seed disk that this worker owns. Every mutating call carries the lease id.
 * @throws TidemarkError OWNERSHIP_LOST from every mutating call once another owner has taken the lease.
 */
export interface SeedDisk extends SeedReader {
  /** At most 4 MiB, 512-aligned, inside the disk. Idempotent. Durable when it returns. `data` must not change until then. */
  putPages(offsetBytes: number, data: Buffer, signal: AbortSignal): Promise<void>;
  /** The range reads as zeroes afterwards. 512-aligned, inside the disk. Idempotent. */
  clearPages(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<void>;
  /** One at a time per disk. Returns an id that no other snapshot of this disk has. */
  snapshot(metadata: SnapshotMetadata, signal: AbortSignal): Promise<string>;
  /** Done already counts as done. */
  deleteSnapshot(snapshot: string, signal: AbortSignal): Promise<void>;
  renew(signal: AbortSignal): Promise<void>;
  /** Gives the lease back. */
  close(signal: AbortSignal): Promise<void>;
}
