/** What must be true of a simulated group when everything has come to rest. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { totalBytes, type ChangedExtent } from '../../src/coalesce/change-list.ts';
import { pointCopiesPrefix } from '../../src/copies/copy-store.ts';
import { catalogName } from '../../src/model/names.ts';
import { decodeChanges } from '../../src/points/changes-file.ts';
import type { Manifest } from '../../src/points/manifest.ts';
import { planPrune } from '../../src/retention/plan.ts';
import { parsePolicy, type Policy } from '../../src/retention/policy.ts';
import { progressSchema, type ProgressDocument } from '../../src/worker/progress.ts';
import { lostMarks, Replay, type ExpectedPoint } from './seeded-log.ts';
import { GROUP, require, same, type SeededWorld } from './seeded-world.ts';

const signal = new AbortController().signal;

/** @throws Error that says what is wrong */
export async function judge(world: SeededWorld, policy: Partial<Policy>): Promise<{ readonly kept: number }> {
  const manifests = await world.manifests();
  const plan = planPrune(world.expected, parsePolicy(policy), { holds: [], nowUs: 0 });
  same(
    'points',
    idsOf(manifests),
    plan.keep
      .map(({ id }) => id)
      .toSorted()
      .join(' '),
  );
  same(
    'points ever made',
    idsOf([...world.committed.values()]),
    world.expected
      .map(({ id }) => id)
      .toSorted()
      .join(' '),
  );
  for (const manifest of manifests) {
    await world.requireRight(manifest);
    await requireChanges(world, manifest);
  }
  await requireNothingElse(world, manifests);
  await requireCopies(world, manifests);
  const progress = await readProgress(world);
  await requireSeeds(world, progress);
  await requireSegments(world, progress, policy.logRetentionHours === 0);
  await requireMessages(world, progress);
  return { kept: manifests.length };
}

const idsOf = (manifests: readonly Manifest[]): string =>
  manifests
    .map(({ point }) => point)
    .toSorted()
    .join(' ');

/** The list is the one that the manifest names; outside its extents nothing changed, inside are the point's bytes. */
async function requireChanges(world: SeededWorld, { point, changesSha256, disks }: Manifest): Promise<void> {
  const blob = await world.storage.catalog.read(catalogName.changes(GROUP, point), signal);
  require(blob !== undefined, `${point} has no changes list`);
  same(`${point} changes list`, createHash('sha256').update(blob.bytes).digest('hex'), changesSha256);
  const lists = decodeChanges(blob.bytes);
  for (const [index, { machine, disk, changedBytes }] of disks.entries()) {
    const extents = lists.find((list) => list.machine === machine && list.disk === disk)?.extents ?? [];
    same(`${point} changed bytes`, changedBytes, totalBytes(extents));
    requireExtents(world, { point, index, extents });
  }
}

function requireExtents(
  world: SeededWorld,
  { point, index, extents }: { point: string; index: number; extents: readonly ChangedExtent[] },
): void {
  const { arena } = world.log;
  const after = world.expected.find(({ id }) => id === point)?.images[index] ?? Buffer.alloc(0);
  const rebuilt = Buffer.from(world.before(point)?.images[index] ?? Buffer.alloc(arena.lengthBytes));
  for (const { offsetBytes, lengthBytes, checksum } of extents) {
    const start = offsetBytes - arena.offsetBytes;
    require(start >= 0 && start + lengthBytes <= after.length, 'an extent lies where nothing was written');
    const bytes = after.subarray(start, start + lengthBytes);
    bytes.copy(rebuilt, start);
    if (checksum === 'zero') require(bytes.every((byte) => byte === 0), 'an extent is not zero');
    else same(`checksum at ${offsetBytes}`, checksum, crc32(bytes));
  }
  require(rebuilt.equals(after), 'something changed outside the extents of a changes list');
}

/** No changes list without its manifest, no snapshot that no manifest names. */
async function requireNothingElse(world: SeededWorld, manifests: readonly Manifest[]): Promise<void> {
  const listed = new Set(manifests.flatMap(({ point }) => [`${point}.json`, `${point}.changes`]));
  for (const name of await world.names()) {
    require(listed.has(name.slice(catalogName.points(GROUP).length)), `${name} belongs to no point`);
  }
  for (const index of world.log.lanes.keys()) {
    const onSeeds = manifests.filter(({ disks }) => disks[index]?.copy === null);
    const named = new Set(onSeeds.map(({ disks }) => disks[index]?.snapshot));
    for (const { snapshot, metadata } of await world.storage.seeds.reader(world.stream(index)).listSnapshots(signal)) {
      require(named.has(snapshot), `snapshot of ${metadata['point']} of disk ${index} is named by no manifest`);
    }
  }
}

/** No copy that no manifest names. */
async function requireCopies(world: SeededWorld, manifests: readonly Manifest[]): Promise<void> {
  const named = new Set(manifests.flatMap(({ disks }) => disks.map(({ copy }) => copy)));
  for (const name of await world.storage.copies.list(pointCopiesPrefix(GROUP), signal)) {
    require(named.has(name), `${name} is named by no manifest`);
  }
}

async function readProgress(world: SeededWorld): Promise<ProgressDocument> {
  const blob = await world.storage.catalog.read(catalogName.progress(GROUP), signal);
  require(blob !== undefined, 'there is a progress document');
  const progress = progressSchema.parse(JSON.parse(String(blob.bytes)));
  same('newest point', progress.newestPoint?.id, world.chain.at(-1)?.id);
  same('point that is due', progress.latestUs, null);
  same('unfinished prune', progress.pruning, null);
  same('waiting messages', progress.outbox.queued.length, 0);
  return progress;
}

/** Each seed holds exactly what the progress document says, all of it before the next boundary. */
async function requireSeeds(world: SeededWorld, progress: ProgressDocument): Promise<void> {
  const { lanes, arena } = world.log;
  for (const [index, { applied, baseCompleteUs }] of progress.disks.entries()) {
    const lane = lanes[index];
    require(lane !== undefined, 'progress knows no other disks');
    const before = lane.segments.slice(0, applied.sequence - 1).reduce((sum, { entries }) => sum + entries.length, 0);
    const through = before + applied.record;
    const wanted = new Replay(lane.entries, arena).through(through);
    const seed = world.storage.seeds.peek(world.stream(index));
    const image = seed?.subarray(arena.offsetBytes, arena.offsetBytes + arena.lengthBytes);
    require(image?.equals(wanted) === true, `seed ${index} does not hold what is noted as applied`);
    const lastUs = lane.entries[through - 1]?.record.timeUs ?? 0;
    const isWithin = baseCompleteUs === null || progress.boundaryUs === null || lastUs < progress.boundaryUs;
    const isBase = lastUs === baseCompleteUs;
    require(isWithin || isBase, `seed ${index} is applied beyond the next boundary`);
  }
}

/** What the newest point does not contain is there, and the segment before it. */
async function requireSegments(world: SeededWorld, progress: ProgressDocument, isTrimmed: boolean): Promise<void> {
  for (const [index, disk] of progress.disks.entries()) {
    const refs = await world.storage.logStore.list(world.stream(index), 1, 100_000, signal);
    const count = world.log.lanes[index]?.segments.length ?? 0;
    same(`newest segment of disk ${index}`, refs.at(-1)?.sequence, count);
    const keptFrom = Math.max(1, disk.cut.sequence - 1);
    const kept = refs.filter(({ sequence }) => sequence >= keptFrom).length;
    same(`segments of disk ${index} from the one before the newest cut on`, kept, count - keptFrom + 1);
    // A trim that was interrupted may have left some; it goes on when the log retention lets it.
    if (world.chain.length > 0 && isTrimmed) same(`segments of disk ${index}`, refs.length, kept);
  }
}

/** Every fact that was queued arrived, once behind duplicate detection; each point and each lost mark has one message. */
async function requireMessages(world: SeededWorld, progress: ProgressDocument): Promise<void> {
  const messages = await world.messages();
  const ids = new Set(messages.map(({ messageId }) => messageId));
  same('message ids', ids.size, messages.length);
  for (const { sequence, type } of world.facts()) {
    require(ids.has(`${GROUP}:${sequence}`), `${type} ${sequence} did not arrive`);
  }
  for (const sequence of world.queued.keys()) {
    require(sequence < progress.outbox.nextSequence, `sequence ${sequence} would be given out again`);
  }
  const facts = world.facts();
  const created = facts.filter(({ type }) => type === 'PointCreated').map(({ data }) => String(data['point']));
  const isBuilt = (id: string): boolean => world.asked.get(id)?.isBuilt === true;
  const inChain = created.filter((id) => !isBuilt(id));
  same('reported points', inChain.join(' '), world.chain.map(({ id }) => id).join(' '));
  const built = [...world.asked.keys()].filter(isBuilt);
  // One that was pruned may be asked for again, and is made and reported again then.
  const reported = [...new Set(created.filter(isBuilt))];
  same('reported built points', reported.toSorted().join(' '), built.toSorted().join(' '));
  requireMissed(world, facts, world.chain);
}

function requireMissed(
  world: SeededWorld,
  facts: readonly { readonly data: Readonly<Record<string, unknown>> }[],
  expected: readonly ExpectedPoint[],
): void {
  const { all, due } = lostMarks(world.log, expected.at(-1));
  const reported = facts.flatMap(({ data }) => (data['reason'] === 'mark-missing' ? [String(data['markId'])] : []));
  same('reports of lost marks', new Set(reported).size, reported.length);
  for (const mark of reported) require(all.has(mark), `${mark} is reported as lost`);
  for (const mark of due) require(reported.includes(mark), `${mark} is lost and not reported`);
}
