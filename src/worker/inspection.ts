/** After each app-consistent point, on the side: whether an operating system could use its disks. */
import { updateDocument } from '../catalog/documents.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName, diskLabel } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import type { MonitoringEvent } from '../monitoring/events.ts';
import { inspectedBefore, inspectPoint, isRecoverable, newestSound } from '../points/inspect-point.ts';
import { manifestSchema, type InspectedDisk, type Manifest, type Verified } from '../points/manifest.ts';
import { findPoint } from '../points/point-store.ts';
import type { OwnedGroup } from './group-owner.ts';
import type { UpkeepOptions } from './upkeep.ts';

const isUninspected = ({ kind, verified }: Manifest): boolean => kind === 'app' && verified === null;

export const hasUninspected = ({ manifests }: Pick<OwnedGroup, 'manifests'>): boolean => manifests.some(isUninspected);

/**
 * Inspects the oldest app-consistent point that nobody has looked at, if there is one, and keeps the result in its manifest. Oldest first, so
 * that each is judged by the one before it.
 *
 * Damage is told in the progress document before the manifest is written: whoever is killed in between looks again, and does not tell
 * again. A former owner fails there, before it has said anything.
 * @returns why storage could not be read, if so: the point is looked at in a later cycle
 */
export async function inspectNext(options: UpkeepOptions): Promise<unknown> {
  const { owned, ports, signal } = options;
  const index = owned.manifests.findIndex(isUninspected);
  const manifest = owned.manifests[index];
  if (manifest === undefined) return undefined;
  const older = owned.manifests.slice(0, index);
  const disks = await inspectPoint({ ...ports, manifest, older, signal }).catch(unavailable);
  if (disks instanceof TidemarkError) return disks;
  const ok = disks.every(isRecoverable);
  if (!ok) {
    const current = await findPoint(ports.catalog, owned.group, manifest.point, signal);
    if (current === undefined) return undefined; // pruned by a later owner, with its snapshots
    await tellDamage(options, { manifest, older, disks });
  }
  const verified: Verified = { at: isoFromUs(ports.clock.nowUs()), ok, bytes: false, disks };
  const name = catalogName.manifest(owned.group, manifest.point);
  // Whoever has verified it meanwhile has looked at more.
  const note = (current: Manifest): Manifest | undefined =>
    current.verified === null ? { ...current, verified } : undefined;
  const kept = await updateDocument(ports.catalog, name, manifestSchema, note, signal).catch(unavailable);
  if (kept instanceof TidemarkError) return kept;
  if (kept !== undefined) owned.manifests[index] = kept;
  return undefined;
}

const PASSING: ReadonlySet<string> = new Set(['STORAGE_UNAVAILABLE', 'STORAGE_TIMEOUT', 'IDENTITY_UNAVAILABLE']);

/** The error when it is storage that does not answer, or who gives tokens for it; throws any other. */
function unavailable(error: unknown): TidemarkError {
  if (error instanceof TidemarkError && PASSING.has(error.code)) return error;
  throw error;
}

interface Inspected {
  readonly manifest: Manifest;
  readonly older: readonly Manifest[];
  readonly disks: readonly InspectedDisk[];
}

/** Once when a disk becomes damaged, not with each point that has the same damage. */
async function tellDamage({ owned, drain }: UpkeepOptions, { manifest, older, disks }: Inspected): Promise<void> {
  if (owned.progress.damageTold === manifest.point) return;
  const isNew = disks.some((found) => {
    const cut = manifest.disks.find((disk) => diskLabel(disk) === diskLabel(found));
    const before = cut === undefined ? undefined : inspectedBefore(older, cut);
    return !isRecoverable(found) && (before === undefined || isRecoverable(before));
  });
  if (!isNew) return;
  await drain.save({ damageTold: manifest.point }, [notRecoverable(manifest.point, disks, older, false)]);
}

/** @param bytesVerified whether the bytes were read back, and are what the log said */
export function notRecoverable(
  point: string,
  disks: readonly InspectedDisk[],
  older: readonly Manifest[],
  bytesVerified: boolean,
): MonitoringEvent {
  const listed = disks
    .filter((found) => !isRecoverable(found))
    .map(({ machine, disk, text }) => ({ machine, disk, text }));
  return { type: 'PointNotRecoverable', data: { point, bytesVerified, disks: listed, soundPoint: newestSound(older) } };
}
