/**
 * Removes points: unlist first, delete after. A point is gone when its manifest is; everything behind it is then found again by whoever
 * finishes an interrupted prune.
 */
import type { Catalog } from '../catalog/catalog.ts';
import type { CopyName, CopyStore } from '../copies/copy-store.ts';
import { mapAll } from '../map-all.ts';
import { catalogName, diskLabel } from '../model/names.ts';
import type { SeedDisk } from '../seed/seed-store.ts';
import type { Manifest, ManifestDisk } from './manifest.ts';
import { findPoint } from './point-store.ts';

const DELETES_IN_FLIGHT = 4;

export interface RemovePointsOptions {
  readonly catalog: Catalog;
  readonly group: string;
  /** Ids of the points to remove; those gone already are done. */
  readonly remove: readonly string[];
  /** Manifests of the points that stay: a snapshot that one of them names stays too. */
  readonly keep: readonly Manifest[];
  /** By `machine/disk`. */
  readonly seeds: ReadonlyMap<string, SeedDisk>;
  readonly copies: CopyStore;
  /** @throws TidemarkError OWNERSHIP_LOST unless the group is still this owner's */
  readonly confirm: (signal: AbortSignal) => Promise<void>;
  readonly signal: AbortSignal;
}

export async function removePoints(options: RemovePointsOptions): Promise<void> {
  const { catalog, group, remove, keep, seeds, copies, confirm, signal } = options;
  const kept = new Set(keep.flatMap(({ disks }) => disks.map(placeOf)));
  const keptCopies = new Set(keep.flatMap(({ disks }) => disks.map(({ copy }) => copy)));
  const unlisted: Manifest[] = [];
  for (const point of remove) {
    const manifest = await findPoint(catalog, group, point, signal);
    if (manifest === undefined) continue; // its snapshots are orphans; the next opening of the group deletes them
    await catalog.delete(catalogName.manifest(group, point), undefined, signal);
    unlisted.push(manifest);
  }
  await mapAll(remove, DELETES_IN_FLIGHT, signal, (point, either) =>
    catalog.delete(catalogName.changes(group, point), undefined, either),
  );
  const snapshots = new Map<string, { seed: SeedDisk; snapshot: string }>();
  for (const { disks } of unlisted) {
    for (const disk of disks) {
      const seed = seeds.get(diskLabel(disk));
      if (disk.copy !== null) continue;
      const key = placeOf(disk);
      if (seed !== undefined && !kept.has(key)) snapshots.set(key, { seed, snapshot: disk.snapshot });
    }
  }
  await mapAll(snapshots.values(), DELETES_IN_FLIGHT, signal, ({ seed, snapshot }, either) =>
    seed.deleteSnapshot(snapshot, either),
  );
  const unnamed = new Set(unlisted.flatMap(({ disks }) => disks.map(({ copy }) => copy)).filter(isUnnamed(keptCopies)));
  await mapAll(unnamed, DELETES_IN_FLIGHT, signal, (copy, either) => copies.remove(copy, either, confirm));
}

const placeOf = (disk: ManifestDisk): string => `${diskLabel(disk)}@${disk.copy ?? ''}@${disk.snapshot}`;

const isUnnamed =
  (kept: ReadonlySet<CopyName | null>) =>
  (copy: CopyName | null): copy is CopyName =>
    copy !== null && !kept.has(copy);
