/** A group that a real worker has made points of, a catalog that is lost, and its rebuild. */
import { MemorySurvey } from '../../src/memory/memory-survey.ts';
import type { MemoryStorage } from '../../src/memory/memory-storage.ts';
import type { Manifest } from '../../src/points/manifest.ts';
import { executeRebuild } from '../../src/rebuild/execute.ts';
import type { FoundGroup } from '../../src/rebuild/found.ts';
import { lookAtGroup, type RebuildPorts } from '../../src/rebuild/look.ts';
import { planRebuild, type GroupPlan } from '../../src/rebuild/plan.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';
import { START_US, streamsOf } from '../support/model-log.ts';
import { GROUP, signal, World } from '../simulation/world.ts';

export const REBUILT_US = START_US + 86_400_000_000;

export const portsOf = (storage: MemoryStorage): RebuildPorts => ({ ...storage, survey: new MemorySurvey(storage) });

export const look = (storage: MemoryStorage): Promise<FoundGroup> => lookAtGroup(portsOf(storage), GROUP, signal);

export const plan = (found: FoundGroup, trustOld = false): GroupPlan =>
  planRebuild(found, { trustOld, nowUs: REBUILT_US });

/** Looks, plans and writes. @returns the plan, and the names written */
export async function rebuild(storage: MemoryStorage, ports: RebuildPorts = portsOf(storage)) {
  const planned = plan(await look(storage));
  return { planned, written: await executeRebuild(planned, { ports, signal }) };
}

export async function loseCatalog({ catalog }: MemoryStorage, prefix = ''): Promise<void> {
  for (const name of await catalog.list(prefix, signal)) await catalog.delete(name, undefined, signal);
}

/** Names and contents of all documents. */
export async function documents({ catalog }: MemoryStorage): Promise<string[]> {
  const names = await catalog.list('', signal);
  return Promise.all(names.map(async (name) => `${name} ${(await catalog.read(name, signal))?.bytes.toString('hex')}`));
}

/** What must come back of a manifest. The place in the log of a disk that did not change may lie further back. */
export function essence({ point, kind, cutUs, cut, mark, previousPoint, disks }: Manifest) {
  return {
    point,
    kind,
    cutUs,
    cut,
    mark,
    previousPoint,
    disks: disks.map(({ machine, disk, sizeBytes, snapshot, copy, changedBytes, epoch }) => [
      `${machine}/${disk}`,
      sizeBytes,
      snapshot,
      copy,
      changedBytes,
      epoch,
    ]),
  };
}

/** A world of two disks with four points: both disks change at the first and second, one at the third, none at the fourth. */
export async function madeWorld(): Promise<World> {
  const write = (gapUs: number, disk: number, sector: number) => ({
    gapUs,
    what: 'write' as const,
    sector,
    sectors: 4,
    fill: 9,
    disk,
    lostOn: null,
    skewUs: 0,
    markKind: 'app' as const,
  });
  const { streams } = streamsOf(
    [write(1, 0, 1), write(1, 1, 2), write(FIVE_MINUTES_US, 0, 3), write(1, 1, 4), write(FIVE_MINUTES_US, 1, 5)],
    2,
  );
  const world = await World.create({ diskCount: 2, policy: { retentionHours: 30, appConsistentHours: 0 } });
  await world.shipAll(streams, [4], START_US + 4 * FIVE_MINUTES_US);
  await world.drain();
  return world;
}
