/** Steps that work on the group under its own lease, which throws out the worker that drains it. */
import { createDocument } from '../catalog/documents.ts';
import { getGroup, lastEpoch, type GroupDocument } from '../catalog/groups.ts';
import { TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName } from '../model/names.ts';
import { vhdFooter } from '../seed/vhd-footer.ts';
import { deleteCopies, deletePoints } from '../worker/discard.ts';
import { EndedGroup } from '../worker/ended-group.ts';
import { newProgress, progressSchema } from '../worker/progress.ts';
import type { FailoverPorts } from './ports.ts';

const DISKS_IN_FLIGHT = 4;
const SNAPSHOTS_IN_FLIGHT = 8;

async function owning(
  ports: FailoverPorts,
  group: string,
  work: (ended: EndedGroup) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const fresh = newProgress(group, [], ports.clock.nowUs());
  await createDocument(ports.catalog, catalogName.progress(group), progressSchema, fresh, signal); // usually it exists
  const ended = await EndedGroup.take({ group, ports, onEvents: undefined, signal });
  try {
    await work(ended);
  } finally {
    await ended.close();
  }
}

/**
 * The claim keeps every worker from opening the group; this throws out the one that had opened it before. Nothing is promised while a
 * failover is on, so the group has no health any more.
 */
export async function stopReplication(ports: FailoverPorts, group: string, signal: AbortSignal): Promise<void> {
  const stop = async (ended: EndedGroup): Promise<void> => {
    const { progress } = ended;
    const { health } = progress.health;
    if (health !== 'None') {
      const cleared = { ...progress, health: { ...progress.health, health: 'None' as const } };
      await ended.save(cleared, [{ type: 'HealthChanged', data: { from: health, to: 'None', symptoms: [] } }]);
    }
    await ended.flushOutbox(ports.topic).catch(ignoreUnsent); // they wait in the outbox: a disaster waits for no message
  };
  await owning(ports, group, stop, signal);
}

function ignoreUnsent(error: unknown): void {
  if (error instanceof TidemarkError && ['MESSAGING_UNAVAILABLE', 'MESSAGING_REFUSED'].includes(error.code)) return;
  throw error;
}

/**
 * Deletes all points of the group: manifests and changes lists first, then the snapshots and copies behind them. The seed disks stay,
 * without snapshots. Each step may be repeated; it looks at what storage holds, so it finds what an earlier attempt has left.
 */
export async function deleteAllPoints(ports: FailoverPorts, group: string, signal: AbortSignal): Promise<void> {
  await owning(ports, group, (ended) => deleteUnder(ended, ports), signal);
}

async function deleteUnder(ended: EndedGroup, ports: FailoverPorts): Promise<void> {
  const { group, signal } = ended;
  const document = await getGroup(ports.catalog, group, signal);
  await deletePoints(ended, ports.catalog, lastEpoch(document) + 1);
  const seeds = await ports.seeds.list(group, signal);
  await mapAll(seeds, DISKS_IN_FLIGHT, signal, async (key, either) => {
    const sizeBytes = sizeOf(document, key);
    // A disk that the group has no longer was there for its points only.
    if (sizeBytes === undefined) await ports.seeds.remove(key, ended.confirm, either);
    else await deleteSnapshots(ended, ports, { key, sizeBytes }, either);
  });
  await deleteCopies(ended, ports);
}

type Key = Awaited<ReturnType<FailoverPorts['seeds']['list']>>[number];

function sizeOf({ machines }: GroupDocument, key: Key): number | undefined {
  const disks = machines.find(({ machine }) => machine === key.machine)?.disks ?? [];
  return disks.find(({ disk }) => disk === key.disk)?.sizeBytes;
}

/** Snapshots that Tidemark has not made stay. */
async function deleteSnapshots(
  ended: EndedGroup,
  { seeds }: FailoverPorts,
  { key, sizeBytes }: { readonly key: Key; readonly sizeBytes: number },
  signal: AbortSignal,
): Promise<void> {
  const seed = await seeds.open(key, sizeBytes, vhdFooter(key, sizeBytes), signal);
  try {
    await ended.confirm(signal);
    const ours = (await seed.listSnapshots(signal)).filter(({ metadata }) => metadata['point'] !== undefined);
    await mapAll(ours, SNAPSHOTS_IN_FLIGHT, signal, ({ snapshot }, either) => seed.deleteSnapshot(snapshot, either));
  } finally {
    await seed.close(signal).catch(() => undefined); // a lease that cannot be given back expires
  }
}
