/** Verifies points of a group without owning it. */
import { TidemarkError } from '../errors.ts';
import { listPoints } from '../points/point-store.ts';
import { verifyPoint, type Verification } from '../points/verify-point.ts';
import type { WorkerPorts } from './ports.ts';

/**
 * The named points, or all when none is named; one that is pruned meanwhile is left out.
 * @throws TidemarkError POINT_NOT_FOUND
 */
export async function verifyPoints(
  { catalog, seeds, copies, clock }: Pick<WorkerPorts, 'catalog' | 'seeds' | 'copies' | 'clock'>,
  { group, points }: { readonly group: string; readonly points: readonly string[] },
  signal: AbortSignal,
): Promise<readonly Verification[]> {
  const manifests = await listPoints(catalog, group, signal);
  const missing = points.find((point) => manifests.every((manifest) => manifest.point !== point));
  if (missing !== undefined) {
    throw new TidemarkError('POINT_NOT_FOUND', `group ${group} has no point ${JSON.stringify(missing)}`);
  }
  const results: Verification[] = [];
  for (const [index, manifest] of manifests.entries()) {
    if (points.length > 0 && !points.includes(manifest.point)) continue;
    const older = manifests.slice(0, index);
    const result = await verifyPoint({ catalog, seeds, copies, manifest, older, nowUs: clock.nowUs(), signal });
    if (result === undefined) continue;
    results.push(result);
    const { at, ok, bytes, disks } = result;
    manifests[index] = { ...manifest, verified: { at, ok, bytes, disks: [...disks] } }; // the next ones are judged by it
  }
  return results;
}
