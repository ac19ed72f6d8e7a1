/** Choosing the point of a job and holding it, against a prune that may be under way. */
import { readDocument } from '../catalog/documents.ts';
import type { PointSelector } from '../commands/commands.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import type { Manifest } from '../points/manifest.ts';
import { listPoints } from '../points/point-store.ts';
import { progressSchema } from '../worker/progress.ts';
import { choosePoint } from './choose-point.ts';
import { holdPoint, type Claim } from './claims.ts';
import type { FailoverPorts } from './ports.ts';

/** Each further try means that a prune has taken the point that was just chosen. */
const MAX_TRIES = 5;

/** Points that a prune has decided to remove and may not have finished with. */
export async function leavingPoints(
  { catalog }: Pick<FailoverPorts, 'catalog'>,
  group: string,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const progress = await readDocument(catalog, catalogName.progress(group), progressSchema, signal);
  return new Set(progress?.value.pruning?.remove.map(({ id }) => id));
}

/** @throws TidemarkError POINT_NOT_FOUND */
export async function choose(
  ports: Pick<FailoverPorts, 'catalog'>,
  { group, selector }: { readonly group: string; readonly selector: PointSelector },
  signal: AbortSignal,
): Promise<Manifest> {
  const leaving = await leavingPoints(ports, group, signal);
  const points = await listPoints(ports.catalog, group, signal);
  return choosePoint(selector, { group, points, leaving });
}

/**
 * Holds the point that the selector means and that stays: it is held before what a prune wants is read again, and a prune notes what it
 * wants before it reads the holds again.
 *
 * @param known the point that was chosen when the job was submitted
 * @throws TidemarkError POINT_NOT_FOUND; FAILOVER_STATE when another job has taken the claim over
 */
export async function chooseAndHold(
  ports: Pick<FailoverPorts, 'catalog'>,
  { selector, known, ...owned }: Pick<Claim, 'job' | 'command'> & { selector: PointSelector; known: string | null },
  signal: AbortSignal,
): Promise<Manifest> {
  const { group } = owned.command;
  for (let attempt = 1; ; attempt++) {
    const wanted = attempt === 1 && known !== null ? known : selector;
    const chosen = await choose(ports, { group, selector: wanted }, signal).catch((error: unknown) => {
      if (wanted !== selector && error instanceof TidemarkError && error.code === 'POINT_NOT_FOUND') return undefined;
      throw error;
    });
    if (chosen === undefined) continue;
    await holdPoint(ports.catalog, { ...owned, point: chosen.point }, signal);
    const leaving = await leavingPoints(ports, group, signal);
    const listed = await ports.catalog.read(catalogName.manifest(group, chosen.point), signal);
    if (listed !== undefined && !leaving.has(chosen.point)) return chosen;
    if (attempt >= MAX_TRIES) {
      throw new TidemarkError('POINT_NOT_FOUND', `points of group ${group} are pruned faster than one can be held`);
    }
  }
}
