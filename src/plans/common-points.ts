/** Pure. Points of several consistency groups that belong together. */
import { POINT_KINDS, type Manifest } from '../points/manifest.ts';
import type { PlanPoint } from './plan-file.ts';

export interface GroupPoints<P extends { readonly cutUs: number }> {
  readonly group: string;
  /** Oldest first. */
  readonly points: readonly P[];
}

export interface CommonPoints<P> {
  /** Microseconds of source time: the oldest of the groups' newest points. */
  readonly momentUs: number;
  /** Of each group the newest point that is not later. */
  readonly points: ReadonlyMap<string, P>;
}

/** The latest moment that all groups have reached, or the groups that have no point to reach one with. */
export function commonPoints<P extends { readonly cutUs: number }>(
  groups: readonly GroupPoints<P>[],
): CommonPoints<P> | { readonly without: readonly string[] } {
  const without = groups.filter(({ points }) => points.length === 0).map(({ group }) => group);
  const newest = groups.flatMap(({ points }) => points.at(-1)?.cutUs ?? []);
  const momentUs = newest.reduce((oldest, cutUs) => Math.min(oldest, cutUs), Infinity);
  const chosen = groups.map(({ group, points }) => [group, points.findLast(({ cutUs }) => cutUs <= momentUs)] as const);
  const found = new Map<string, P>();
  for (const [group, point] of chosen) {
    if (point !== undefined) found.set(group, point);
    else if (!without.includes(group)) without.push(group);
  }
  return without.length > 0 || groups.length === 0 ? { without } : { momentUs, points: found };
}

const KINDS: Readonly<Record<PlanPoint, readonly Manifest['kind'][]>> = {
  latest: POINT_KINDS,
  'latest-processed': POINT_KINDS,
  'latest-app': ['app'],
  'latest-crash': ['crash'],
};

/** Points that a plan may take: sound ones that stay, of the kind asked for. */
export const eligible = (
  points: readonly Manifest[],
  wanted: PlanPoint,
  leaving: ReadonlySet<string>,
): readonly Manifest[] =>
  points.filter(
    ({ point, kind, verified }) => KINDS[wanted].includes(kind) && verified?.ok !== false && !leaving.has(point),
  );
