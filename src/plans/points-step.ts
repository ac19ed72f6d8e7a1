/** Chooses the points that all consistency groups of a run have in common, and keeps them until the run has used them. */
import { updateDocument } from '../catalog/documents.ts';
import { groupDocumentSchema, pinPoint } from '../catalog/groups.ts';
import { assert, TidemarkError } from '../errors.ts';
import { leavingPoints } from '../failover/hold-step.ts';
import { mapAll } from '../map-all.ts';
import { catalogName } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import type { Manifest } from '../points/manifest.ts';
import { listPoints } from '../points/point-store.ts';
import { commonPoints, eligible } from './common-points.ts';
import { planPointSchema } from './plan-file.ts';
import type { PlanPorts } from './ports.ts';
import type { RunDocument } from './run-document.ts';

const GROUPS_IN_FLIGHT = 4;
/** Each further try means that a prune has taken a point that was just chosen. */
const MAX_TRIES = 5;
/** Our choice: a run that rests longer lets its points go. */
const HOLD_US = 7 * 24 * 3_600_000_000;

const holderOf = ({ run }: Pick<RunDocument, 'run'>): string => `plan run ${run}`;

const groupsOfRun = ({ steps }: RunDocument): readonly string[] =>
  steps.flatMap(({ kind, group }) => (kind === 'failover' && group !== null ? [group] : []));

/**
 * Pins the points, and looks again whether all of them stay.
 * @returns consistency group to the id of its point
 * @throws TidemarkError POINT_NOT_FOUND with the groups that have none
 */
export async function chooseCommonPoints(
  ports: PlanPorts,
  document: RunDocument,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  for (let attempt = 1; attempt <= MAX_TRIES; attempt++) {
    const chosen = await choose(ports, document, signal);
    await mapAll(chosen, GROUPS_IN_FLIGHT, signal, ([group, { point }], either) =>
      pin(ports, document, { group, point }, either),
    );
    const stays = await mapAll(chosen, GROUPS_IN_FLIGHT, signal, async ([group, { point }], either) => {
      const leaving = await leavingPoints(ports, group, either);
      const listed = await ports.catalog.read(catalogName.manifest(group, point), either);
      return listed !== undefined && !leaving.has(point);
    });
    if (stays.every(Boolean)) return Object.fromEntries([...chosen].map(([group, { point }]) => [group, point]));
  }
  throw new TidemarkError('POINT_NOT_FOUND', 'points are pruned faster than they can be held');
}

async function choose(
  ports: PlanPorts,
  document: RunDocument,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Manifest>> {
  const wanted = planPointSchema.parse(document.point);
  const groups = await mapAll(groupsOfRun(document), GROUPS_IN_FLIGHT, signal, async (group, either) => {
    const leaving = await leavingPoints(ports, group, either);
    return { group, points: eligible(await listPoints(ports.catalog, group, either), wanted, leaving) };
  });
  const found = commonPoints(groups);
  if ('points' in found) return found.points;
  const without = found.without.join(', ');
  throw new TidemarkError(
    'POINT_NOT_FOUND',
    `no moment that all groups have a point for (${wanted}): none of ${without}`,
  );
}

async function pin(
  { catalog, clock }: PlanPorts,
  document: RunDocument,
  { group, point }: { readonly group: string; readonly point: string },
  signal: AbortSignal,
): Promise<void> {
  const nowUs = clock.nowUs();
  const reason = `common point of ${document.plan}`;
  const pinned = { group, point, owner: holderOf(document), reason, expiresAtUs: nowUs + HOLD_US, nowUs };
  await pinPoint(catalog, pinned, signal);
}

/** Takes off the pins of this run, and no others. */
export async function releasePoints({ catalog }: PlanPorts, document: RunDocument, signal: AbortSignal): Promise<void> {
  const owner = holderOf(document);
  await mapAll(groupsOfRun(document), GROUPS_IN_FLIGHT, signal, async (group, either) => {
    await updateDocument(
      catalog,
      catalogName.group(group),
      groupDocumentSchema,
      (current) => {
        const pins = current.pins.filter((pin) => pin.owner !== owner);
        return pins.length === current.pins.length ? undefined : { ...current, pins };
      },
      either,
    );
  });
}

/** `20261123T…-crash` and when it was, for the journal. */
export function pointsText(points: Readonly<Record<string, string>>, nowUs: number): string {
  assert(Object.keys(points).length > 0, 'a run fails over at least one group');
  const names = Object.entries(points).map(([group, point]) => `${group} ${point}`);
  return `chosen at ${isoFromUs(nowUs)}: ${names.join(', ')}`.slice(0, 4000);
}
