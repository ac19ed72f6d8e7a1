/** Pure. What a rebuild has found of one group: its page blobs with their snapshots, and what is left of the catalog. */
import type { GroupDocument } from '../catalog/groups.ts';
import type { CopyName } from '../copies/copy-store.ts';
import type { SnapshotReading } from '../points/snapshot-metadata.ts';
import type { ProgressDocument } from '../worker/progress.ts';

export interface FoundSnapshot {
  readonly snapshot: string;
  readonly reading: SnapshotReading;
}

/** A seed disk, or a copy that a point was built on. */
export interface FoundDisk {
  readonly machine: string;
  readonly disk: string;
  readonly copy: CopyName | null;
  /** Without the footer. */
  readonly sizeBytes: number;
  /** Why it is no disk of Tidemark's: its size, or its footer. */
  readonly problem: string | undefined;
  /** Oldest first. */
  readonly snapshots: readonly FoundSnapshot[];
}

/** A document that is there; `unreadable`: as an error says. */
export type FoundDocument<T> =
  | { readonly is: 'missing' }
  | { readonly is: 'unreadable'; readonly why: string }
  | { readonly is: 'there'; readonly value: T };

export interface FoundCatalog {
  readonly document: FoundDocument<GroupDocument>;
  readonly progress: FoundDocument<ProgressDocument>;
  /** Somebody holds the lease of the progress document. */
  readonly isOwned: boolean;
  /** Names of all policies. */
  readonly policies: ReadonlySet<string>;
  /** By point id. */
  readonly manifests: ReadonlyMap<string, FoundManifest>;
}

export type FoundManifest =
  | { readonly is: 'unreadable'; readonly why: string }
  /** `fingerprint`: what `fingerprintOf` says of it. */
  | { readonly is: 'there'; readonly fingerprint: string; readonly epoch: number };

export interface FoundGroup {
  readonly group: string;
  /** Seed disks by name, then copies by name. */
  readonly disks: readonly FoundDisk[];
  /** The highest epoch that the cache account has log of; 0: there is none. */
  readonly logEpoch: number;
  readonly catalog: FoundCatalog;
}
