/**
 * Work without the queue, while it cannot be reached: one round over all groups, in an order of chance. A group whose lease somebody holds is
 * left to that one; so workers share the groups by the leases alone. Two that find the same group free at once take it from each other
 * once: that is as safe as any other change of owners.
 */
import PQueue from 'p-queue';
import { listGroups } from '../catalog/groups.ts';
import { catalogName } from '../model/names.ts';
import type { ReplicaSurvey } from '../rebuild/survey.ts';
import type { WorkerPorts } from '../worker/ports.ts';
import type { Worker } from '../worker/worker.ts';

export interface AloneOptions {
  readonly worker: Worker;
  readonly ports: Pick<WorkerPorts, 'catalog' | 'random'> & { readonly survey: Pick<ReplicaSurvey, 'isLeased'> };
  readonly groupsAtOnce: number;
  /** Aborts when no further group is to be begun, and turns are to end at their next stop. */
  readonly draining: AbortSignal;
  readonly beat?: () => void;
}

/** @throws TidemarkError what storage throws; the worker tells of turns by itself */
export async function workAlone(options: AloneOptions, signal: AbortSignal): Promise<void> {
  const { worker, ports, groupsAtOnce, draining, beat } = options;
  const queue = new PQueue({ concurrency: groupsAtOnce });
  const round = async (group: string): Promise<void> => {
    beat?.();
    if (draining.aborted || (await ports.survey.isLeased(catalogName.progress(group), signal))) return;
    await worker.turn(group, draining, signal);
    await worker.giveBack(group);
  };
  const groups = shuffled(await listGroups(ports.catalog, signal), ports.random);
  await queue.addAll(groups.map((group) => () => round(group)));
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, place: random() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ item }) => item);
}
