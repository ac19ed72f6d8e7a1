/**
 * What interrupted prunes and unfinished points have left: looked for by each owner that opens a group, under its leases. Nothing that
 * a manifest names is touched, and nothing of a point that is being made.
 */
import type { Catalog } from '../catalog/catalog.ts';
import { pointCopiesPrefix, pointOfCopy, type CopyStore } from '../copies/copy-store.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName, diskLabel } from '../model/names.ts';
import { stampFromUs } from '../model/time.ts';
import type { SeedDisk, SnapshotInfo } from '../seed/seed-store.ts';
import { isBuilt, isMomentId, type Manifest } from './manifest.ts';

export interface SweepOptions {
  readonly catalog: Catalog;
  readonly copies: CopyStore;
  readonly group: string;
  /** Oldest first. */
  readonly manifests: readonly Manifest[];
  /** Id of a point that somebody is building on copies: its blobs stay. */
  readonly building: string | undefined;
  /** @throws TidemarkError OWNERSHIP_LOST unless the group is still this owner's */
  readonly confirm: (signal: AbortSignal) => Promise<void>;
  readonly signal: AbortSignal;
}

/** Time of the newest cut that the seed disks went through; built points lie beside it. */
const newestCutUs = (manifests: readonly Manifest[]): number | undefined =>
  manifests.findLast((manifest) => !isBuilt(manifest))?.cutUs;

/**
 * Snapshots of a seed disk without a manifest: those of a cut after the newest point are left by an attempt that will be repeated and can
 * adopt them; all others are what a prune had still to delete. Snapshots that are none of ours stay.
 */
export async function sweepOrphans(
  seed: SeedDisk,
  manifests: readonly Manifest[],
  signal: AbortSignal,
): Promise<readonly SnapshotInfo[]> {
  const onSeeds = manifests.flatMap(({ disks }) => disks.filter(({ copy }) => copy === null));
  const referenced = new Set(onSeeds.map(snapshotKey));
  const newestUs = newestCutUs(manifests) ?? -1;
  const adoptable: SnapshotInfo[] = [];
  for (const info of await seed.listSnapshots(signal)) {
    const { point, machine, disk, cut } = info.metadata;
    if (point === undefined || machine === undefined || disk === undefined) continue;
    if (referenced.has(snapshotKey({ machine, disk, snapshot: info.snapshot }))) continue;
    if (Number(cut) > newestUs) adoptable.push(info);
    else await seed.deleteSnapshot(info.snapshot, signal);
  }
  return adoptable;
}

const snapshotKey = (disk: { machine: string; disk: string; snapshot: string }): string =>
  `${diskLabel(disk)}@${disk.snapshot}`;

/**
 * Changes lists without a manifest from before the newest point: what a prune had still to delete, or what came through after it of a
 * request that had been given up. A later one belongs to a cut that is coming; of a point that is built, `building` tells.
 */
export async function sweepChanges(options: SweepOptions): Promise<void> {
  const { catalog, group, manifests, building, signal } = options;
  const before = `${catalogName.points(group)}${stampFromUs(newestCutUs(manifests) ?? 0)}`;
  const stays = new Set(manifests.map(({ point }) => catalogName.changes(group, point)));
  if (building !== undefined) stays.add(catalogName.changes(group, building));
  for (const name of await catalog.list(catalogName.points(group), signal)) {
    if (!name.endsWith('.changes') || stays.has(name)) continue;
    if (name < before || isMomentId(name.slice(0, -'.changes'.length))) await deleteConfirmed(options, name);
  }
}

/**
 * Copies that no manifest names are deleted. A built point whose bytes are not there is unlisted: its manifest came through after the
 * attempt that sent it had been given up, and its copies swept.
 * @returns the manifests that stay
 */
export async function sweepCopies(options: SweepOptions): Promise<readonly Manifest[]> {
  const { copies, group, manifests, building, confirm, signal } = options;
  const stays: Manifest[] = [];
  for (const manifest of manifests) {
    if (!isBuilt(manifest) || (await hasSnapshots(options, manifest))) stays.push(manifest);
    else await deleteConfirmed(options, catalogName.manifest(group, manifest.point));
  }
  const named = new Set(stays.flatMap(({ disks }) => disks.map(({ copy }) => copy)));
  for (const name of await copies.list(pointCopiesPrefix(group), signal)) {
    if (!named.has(name) && pointOfCopy(name) !== building) await copies.remove(name, signal, confirm);
  }
  return stays;
}

async function hasSnapshots({ copies, signal }: SweepOptions, { disks }: Manifest): Promise<boolean> {
  for (const { copy, snapshot } of disks) {
    const found = copy === null ? [] : await copies.reader(copy).listSnapshots(signal);
    if (copy !== null && found.every((info) => info.snapshot !== snapshot)) return false;
  }
  return true;
}

/**
 * Confirming between reading the ETag and deleting keeps an owner that was thrown out from deleting what its successor has made under
 * the same name.
 */
async function deleteConfirmed({ catalog, confirm, signal }: SweepOptions, name: string): Promise<void> {
  const found = await catalog.read(name, signal);
  if (found === undefined) return;
  await confirm(signal);
  if ((await catalog.delete(name, found.etag, signal)) === 'changed') {
    throw new TidemarkError('CONFLICT', `${name} was changed while it was being swept`);
  }
}
