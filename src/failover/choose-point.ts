/** Pure. Which point a failover takes. Points of a group are common to all its machines by construction. */
import type { PointSelector } from '../commands/commands.ts';
import { TidemarkError } from '../errors.ts';
import type { Manifest } from '../points/manifest.ts';

/** Points that a message names. */
const MAX_NAMED = 5;

export interface Choice {
  readonly group: string;
  /** Oldest first. */
  readonly points: readonly Manifest[];
  /** Points that are being pruned: they are there, and cannot be relied on. */
  readonly leaving: ReadonlySet<string>;
}

const isDamaged = ({ verified }: Manifest): boolean => verified?.ok === false;

/**
 * Points known to be damaged are passed over, unless one is named: nobody boots one by accident, and an operator can insist.
 * `latest` is the newest of all; the caller has made a point of what was received before.
 *
 * @throws TidemarkError POINT_NOT_FOUND with what there is
 */
export function choosePoint(selector: PointSelector, { group, points, leaving }: Choice): Manifest {
  const staying = points.filter(({ point }) => !leaving.has(point));
  const sound = staying.filter((point) => !isDamaged(point));
  const found = select(selector, staying, sound);
  if (found !== undefined) return found;
  const damaged = staying.length - sound.length;
  const names = sound.slice(-MAX_NAMED).map(({ point }) => point);
  const there = sound.length === 0 ? 'it has none' : `its ${sound.length} points end with ${names.join(', ')}`;
  const note = damaged === 0 ? '' : `; ${damaged} more are damaged and must be named to be used`;
  throw new TidemarkError(
    'POINT_NOT_FOUND',
    `group ${group} has no point for ${JSON.stringify(selector)}: ${there}${note}`,
  );
}

function select(
  selector: PointSelector,
  staying: readonly Manifest[],
  sound: readonly Manifest[],
): Manifest | undefined {
  switch (selector) {
    case 'latest': {
      const newest = staying.at(-1);
      return newest === undefined || isDamaged(newest) ? undefined : newest;
    }
    case 'latest-processed':
      return sound.at(-1);
    case 'latest-app':
      return sound.findLast(({ kind }) => kind === 'app');
    case 'latest-crash':
      return sound.findLast(({ kind }) => kind === 'crash');
    default:
      return staying.find(({ point }) => point === selector);
  }
}
