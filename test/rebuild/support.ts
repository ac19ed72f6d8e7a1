/** A group that a real worker has made points of, a catalog that is lost, and its rebuild. */
import { MemorySurvey } from '../../src/memory/memory-survey.ts';
import type { MemoryStorage } from '../../src/memory/memory-storage.ts';
import type { Manifest } from '../../src/points/manifest.ts';
import { executeRebuild } from '../../src/rebuild/execute.ts';
import type { FoundGroup } from '../../src/rebuild/found.ts';
import { lookAtGroup, type RebuildPorts } from '../../src/rebuild/look.ts';
import { planRebuild, type GroupPlan } from '../../src/rebuild/plan.ts';
import { START_US } from '../support/model-log.ts';
import { GROUP, signal } from '../simulation/world.ts';

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
    ...{ point, kind, cutUs, cut, mark, previousPoint },
    disks: disks.map(({ sequence: _, record: __, logDigest: ___, ...disk }) => disk),
  };
}
