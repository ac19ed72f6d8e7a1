/**
 * The end of a group: reports that it is disabled and, unless its points are kept, deletes everything of it.
 *
 *   lease ─▶ read again ─▶ 'disabled' ─▶ manifests ─▶ changes lists ─▶ copies ─▶ seed disks ─▶ segments ─▶ 'discarded' ─▶ messages sent
 *
 * Whoever comes after a crash begins at the first step and finds there what is left. Only the last write says that all is done,
 * and no owner opens an epoch before it: so whatever seed disks and points there are belong to the epochs to discard.
 */
import type { Catalog } from '../catalog/catalog.ts';
import { createDocument, readDocument } from '../catalog/documents.ts';
import { getGroup, lastEpoch, type GroupDocument } from '../catalog/groups.ts';
import { pointCopiesPrefix } from '../copies/copy-store.ts';
import { assert, TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName } from '../model/names.ts';
import type { MonitoringEvent } from '../monitoring/events.ts';
import { manifestSchema } from '../points/manifest.ts';
import { EndedGroup, type EndedGroupOptions } from './ended-group.ts';
import { groupState } from './group-state.ts';
import type { WorkerPorts } from './ports.ts';
import { newProgress, progressSchema, type ProgressDocument } from './progress.ts';

/** Points or disks worked on at once. */
const IN_FLIGHT = 8;
/** Segments of one call; see {@link MAX_ROUNDS}. */
const SEGMENTS_PER_CALL = 1000;
/** An end for a stream that a source goes on to write: ten million segments. */
const MAX_ROUNDS = 10_000;

export interface EndOptions {
  readonly document: GroupDocument;
  readonly ports: WorkerPorts;
  /** Told of the group's events once they are queued durably. */
  readonly onEvents?: EndedGroupOptions['onEvents'];
  readonly signal: AbortSignal;
}

/**
 * Pure. `discarded`: nothing is left of the group but its document; `disabled`: its points are kept, or their deletion is still due;
 * undefined: the group is wanted.
 */
export function endState(
  document: GroupDocument,
  progress: ProgressDocument | undefined,
): 'disabled' | 'discarded' | undefined {
  if (document.wanted !== 'disabled') return undefined;
  const isGivenUp = (document.discardBeforeEpoch ?? 1) > lastEpoch(document);
  return isGivenUp && !isDiscardDue(document, progress) ? 'discarded' : 'disabled';
}

/** Pure. Whether epochs are to be deleted, and nobody has noted yet that they are. */
export const isDiscardDue = (
  { discardBeforeEpoch }: Pick<GroupDocument, 'discardBeforeEpoch'>,
  progress: ProgressDocument | undefined,
): boolean => discardBeforeEpoch !== undefined && (progress?.discardedBeforeEpoch ?? 1) < discardBeforeEpoch;

/**
 * For a disabled group: does what its end asks for, and sends the messages that wait. Done already counts as done. Looks also for
 * what a late source or an owner that was thrown out in mid-step has left behind.
 *
 * @throws TidemarkError OWNERSHIP_LOST, CONFLICT, OUTBOX_FULL, what the ports throw; DOCUMENT_INVALID for a manifest that
 * cannot be read: what cannot be dated is not deleted. What was deleted until then stays deleted.
 */
export async function endGroup(options: EndOptions): Promise<void> {
  const { document, ports, signal } = options;
  assert(document.wanted === 'disabled', `group ${document.group} is wanted`);
  const progress = await readProgress(ports.catalog, document.group, signal);
  const isOver = endState(document, progress) === 'discarded';
  if (!(isEndDue(document, progress) || (isOver && (await hasLeftovers(options))))) return;
  await ownEnded(options, async (ended, current) => {
    await reportDisabled(ended, current);
    if ((current.discardBeforeEpoch ?? 1) > lastEpoch(current)) await discard(ended, current, ports);
    await ended.flushOutbox(ports.topic);
  });
}

/**
 * For a group that is protected again: what its owner must call before it opens the new epoch. Messages are left to that owner.
 *
 * @throws as {@link endGroup}
 */
export async function finishDiscard(options: EndOptions): Promise<void> {
  const { document, ports, signal } = options;
  if (document.discardBeforeEpoch === undefined) return;
  if (!isDiscardDue(document, await readProgress(ports.catalog, document.group, signal))) return;
  await ownEnded(options, async (ended, current) => {
    if (!isDiscardDue(current, ended.progress)) return;
    await reportDisabled(ended, current);
    await discard(ended, current, ports);
  });
}

async function readProgress(
  catalog: Catalog,
  group: string,
  signal: AbortSignal,
): Promise<ProgressDocument | undefined> {
  return (await readDocument(catalog, catalogName.progress(group), progressSchema, signal))?.value;
}

function isEndDue(document: GroupDocument, progress: ProgressDocument | undefined): boolean {
  if (isDiscardDue(document, progress)) return true;
  return progress !== undefined && (isReportDue(document, progress) || progress.outbox.queued.length > 0);
}

/** Epochs before it have ended. */
const endedBeforeEpoch = (document: GroupDocument): number =>
  document.wanted === 'disabled' ? lastEpoch(document) + 1 : (document.discardBeforeEpoch ?? 1);

/** A group that nobody has worked on has no state that could end. */
const isReportDue = (document: GroupDocument, progress: ProgressDocument): boolean =>
  progress.disks.length > 0 && progress.disabledBeforeEpoch < endedBeforeEpoch(document);

async function hasLeftovers({ document, ports, signal }: EndOptions): Promise<boolean> {
  const { group } = document;
  if ((await pointBlobs(ports.catalog, group, signal)).length > 0) return true;
  if ((await ports.copies.list(pointCopiesPrefix(group), signal)).length > 0) return true;
  if ((await ports.seeds.list(group, signal)).length > 0) return true;
  return (await ports.logStore.listStreams(group, signal)).some(({ epoch }) => epoch <= lastEpoch(document));
}

/** Takes the group's lease, reads again what is wanted, does the work, and gives the lease back. */
async function ownEnded(
  { document: { group }, ports, onEvents, signal }: EndOptions,
  work: (ended: EndedGroup, document: GroupDocument) => Promise<void>,
): Promise<void> {
  const fresh = newProgress(group, [], ports.clock.nowUs());
  await createDocument(ports.catalog, catalogName.progress(group), progressSchema, fresh, signal); // usually it exists
  const ended = await EndedGroup.take({ group, ports, onEvents, signal });
  try {
    await work(ended, await getGroup(ports.catalog, group, ended.signal));
  } finally {
    await ended.close();
  }
}

async function reportDisabled(ended: EndedGroup, document: GroupDocument): Promise<void> {
  const { progress } = ended;
  if (!isReportDue(document, progress)) return;
  const { health } = progress.health;
  const events: MonitoringEvent[] = [
    { type: 'StateChanged', data: { from: groupState(progress.disks), to: 'disabled' } },
  ];
  // Nothing is promised any more, so no symptom may stay open.
  if (health !== 'None') events.push({ type: 'HealthChanged', data: { from: health, to: 'None', symptoms: [] } });
  await ended.save(
    {
      ...progress,
      health: { ...progress.health, health: 'None' },
      disabledBeforeEpoch: endedBeforeEpoch(document),
    },
    events,
  );
}

/** Deletes all points and seed disks of the group, and the segments of the epochs to discard. Each step may be repeated. */
async function discard(ended: EndedGroup, document: GroupDocument, ports: WorkerPorts): Promise<void> {
  const { group, progress } = ended;
  const beforeEpoch = document.discardBeforeEpoch ?? 1;
  for (const { machine, disk, epoch } of progress.disks) {
    assert(
      epoch < beforeEpoch,
      `${machine}/${disk} is in epoch ${epoch}, and epochs before ${beforeEpoch} are discarded`,
    );
  }
  await deletePoints(ended, ports.catalog, beforeEpoch);
  await deleteCopies(ended, ports);
  await deleteSeeds(ended, ports);
  await deleteSegments(ended, ports, beforeEpoch);
  if (progress.discardedBeforeEpoch >= beforeEpoch) return;
  const from = progress.disabledBeforeEpoch >= beforeEpoch ? 'disabled' : null;
  await ended.save(
    {
      ...newProgress(group, [], ports.clock.nowUs()),
      outbox: progress.outbox,
      disabledBeforeEpoch: Math.max(progress.disabledBeforeEpoch, beforeEpoch),
      discardedBeforeEpoch: beforeEpoch,
    },
    [{ type: 'StateChanged', data: { from, to: 'discarded' } }],
  );
}

async function pointBlobs(catalog: Catalog, group: string, signal: AbortSignal): Promise<readonly string[]> {
  const names = await catalog.list(catalogName.points(group), signal);
  return names.filter((name) => name.endsWith('.json') || name.endsWith('.changes'));
}

interface FoundBlob {
  readonly name: string;
  /** Undefined when it is gone by now. */
  readonly etag: string | undefined;
}

/** Deletes manifests and changes lists: unlists every point before anything behind one is touched. */
export async function deletePoints(ended: EndedGroup, catalog: Catalog, beforeEpoch: number): Promise<void> {
  const { group, signal } = ended;
  const names = await pointBlobs(catalog, group, signal);
  const manifests = names.filter((name) => name.endsWith('.json'));
  const listed = await mapAll(manifests, IN_FLIGHT, signal, (name, either) => readManifest(catalog, name, either));
  await ended.confirm(signal);
  for (const { name, epoch } of listed) {
    assert(epoch < beforeEpoch, `${name} is of epoch ${epoch}, and epochs before ${beforeEpoch} are discarded`);
  }
  await deleteFound(ended, catalog, listed);
  const lists = names.filter((name) => name.endsWith('.changes'));
  for (const name of lists) {
    const blob = await catalog.read(name, signal); // only for its ETag; one at a time, since a list may be large
    await ended.confirm(signal);
    await deleteFound(ended, catalog, [{ name, etag: blob?.etag }]);
  }
}

async function readManifest(
  catalog: Catalog,
  name: string,
  signal: AbortSignal,
): Promise<FoundBlob & { readonly epoch: number }> {
  const stored = await readDocument(catalog, name, manifestSchema, signal);
  const epochs = (stored?.value.disks ?? []).map(({ epoch }) => epoch);
  return { name, etag: stored?.etag, epoch: Math.max(0, ...epochs) };
}

/**
 * Deletes what was read. The caller has confirmed the lease after it read: so this is none of a later owner's, and the ETag keeps this
 * call from deleting what a later owner puts in its place.
 */
async function deleteFound(ended: EndedGroup, catalog: Catalog, found: readonly FoundBlob[]): Promise<void> {
  const present = found.filter(({ etag }) => etag !== undefined);
  await mapAll(present, IN_FLIGHT, ended.signal, async ({ name, etag }, either) => {
    if ((await catalog.delete(name, etag, either)) === 'changed') {
      throw new TidemarkError('CONFLICT', `${name} was changed while it was being deleted`);
    }
  });
}

/** Deletes the copies that points were built on. */
export async function deleteCopies(
  { group, signal, confirm }: EndedGroup,
  { copies }: Pick<WorkerPorts, 'copies'>,
): Promise<void> {
  const names = await copies.list(pointCopiesPrefix(group), signal);
  await mapAll(names, IN_FLIGHT, signal, (name, either) => copies.remove(name, either, confirm));
}

async function deleteSeeds({ group, signal, confirm }: EndedGroup, { seeds }: WorkerPorts): Promise<void> {
  await mapAll(await seeds.list(group, signal), IN_FLIGHT, signal, (key, either) => seeds.remove(key, confirm, either));
}

/** An epoch is never used twice, so these need no fence. */
async function deleteSegments(
  { group, signal }: EndedGroup,
  { logStore }: WorkerPorts,
  beforeEpoch: number,
): Promise<void> {
  const streams = (await logStore.listStreams(group, signal)).filter(({ epoch }) => epoch < beforeEpoch);
  for (const stream of streams) {
    let rounds = 0;
    while ((await logStore.deleteStream(stream, SEGMENTS_PER_CALL, signal)) === SEGMENTS_PER_CALL) {
      assert(++rounds < MAX_ROUNDS, `the segments of ${group}/${stream.machine}/${stream.disk} do not end`);
    }
  }
}
