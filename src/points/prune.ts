/**
 * Removes points: unlist first, delete after. A point is gone when its manifest is; everything behind it is then found again by whoever
 * finishes an interrupted prune.
 */
import type { Catalog } from '../catalog/catalog.ts';
import { assert } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName, diskLabel } from '../model/names.ts';
import type { SeedDisk } from '../seed/seed-store.ts';
import type { Manifest } from './manifest.ts';
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
  readonly signal: AbortSignal;
}

export async function removePoints(options: RemovePointsOptions): Promise<void> {
  const { catalog, group, remove, keep, seeds, signal } = options;
  const kept = new Set(keep.flatMap(({ disks }) => disks.map((disk) => `${diskLabel(disk)}@${disk.snapshot}`)));
  const unlisted: Manifest[] = [];
  for (const point of remove) {
    const manifest = await findPoint(catalog, group, point, signal);
    if (manifest === undefined) continue; // its snapshots are orphans; the next opening of the group deletes them
    const deleted = await catalog.delete(catalogName.manifest(group, point), undefined, signal);
    assert(deleted === 'deleted', 'unlist before delete: a manifest is gone before its snapshots go');
    unlisted.push(manifest);
  }
  await mapAll(remove, DELETES_IN_FLIGHT, signal, (point, either) =>
    catalog.delete(catalogName.changes(group, point), undefined, either),
  );
  const snapshots = new Map<string, { seed: SeedDisk; snapshot: string }>();
  for (const { disks } of unlisted) {
    for (const disk of disks) {
      const seed = seeds.get(diskLabel(disk));
      const key = `${diskLabel(disk)}@${disk.snapshot}`;
      if (seed !== undefined && !kept.has(key)) snapshots.set(key, { seed, snapshot: disk.snapshot });
    }
  }
  await mapAll(snapshots.values(), DELETES_IN_FLIGHT, signal, ({ seed, snapshot }, either) =>
    seed.deleteSnapshot(snapshot, either),
  );
}
