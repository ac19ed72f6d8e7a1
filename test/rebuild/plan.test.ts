import { beforeAll, describe, expect, it } from 'vitest';
import type { GroupDocument } from '../../src/catalog/groups.ts';
import { catalogName } from '../../src/model/names.ts';
import { snapshotMetadata, readSnapshotMetadata } from '../../src/points/snapshot-metadata.ts';
import { listPoints } from '../../src/points/point-store.ts';
import type { Manifest } from '../../src/points/manifest.ts';
import type { FoundCatalog, FoundDisk, FoundGroup, FoundSnapshot } from '../../src/rebuild/found.ts';
import type { GroupPlan } from '../../src/rebuild/plan.ts';
import { GROUP, MACHINE, signal, World } from '../simulation/world.ts';
import { DISK_BYTES } from '../support/model-log.ts';
import { essence, look, loseCatalog, madeWorld, plan } from './support.ts';

let whole: FoundGroup;
let lost: FoundGroup;
let before: Manifest[];
let ids: string[];

beforeAll(async () => {
  const world = await madeWorld();
  whole = await look(world.storage);
  before = await listPoints(world.storage.catalog, GROUP, signal);
  ids = before.map(({ point }) => point);
  await loseCatalog(world.storage);
  lost = await look(world.storage);
});

const pointsOf = ({ points }: GroupPlan): string[] => points.map(({ proven }) => proven.id);
const reasonsOf = ({ leftOut }: GroupPlan) => leftOut.map(({ point, reason }) => [point, reason]);

/** The group with one disk's snapshots changed. */
function withSnapshots(
  disk: string,
  change: (snapshots: readonly FoundSnapshot[]) => readonly FoundSnapshot[],
): FoundGroup {
  const changed = (found: FoundDisk): FoundDisk =>
    found.disk === disk ? { ...found, snapshots: change(found.snapshots) } : found;
  return { ...lost, disks: lost.disks.map(changed) };
}

/** One snapshot with its metadata changed as text, and read again. */
const withMetadata =
  (nth: number, changes: Readonly<Record<string, string | undefined>>) =>
  (snapshots: readonly FoundSnapshot[]): readonly FoundSnapshot[] =>
    snapshots.map((found, index) => {
      if (index !== nth || found.reading.form !== 'whole') return found;
      const merged = Object.entries({ ...snapshotMetadata(found.reading.facts), ...changes });
      const metadata = Object.fromEntries(
        merged.flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
      );
      return { ...found, reading: readSnapshotMetadata(metadata) };
    });

const withCatalog = (from: FoundGroup, catalog: Partial<FoundCatalog>): FoundGroup => ({
  ...from,
  catalog: { ...from.catalog, ...catalog },
});

const documentOf = (changes: Partial<GroupDocument>): FoundCatalog['document'] => {
  if (whole.catalog.document.is !== 'there') throw new Error('the world has a document');
  return { is: 'there', value: { ...whole.catalog.document.value, ...changes } };
};

describe('a plan for a catalog that is lost', () => {
  it('has every point, also of a disk that did not change, and of a moment without any change', () => {
    const made = plan(lost);
    expect(before).toHaveLength(4);
    expect(before[2]?.disks[0]?.snapshot).toBe(before[1]?.disks[0]?.snapshot);
    expect(before[3]?.disks[1]?.snapshot).toBe(before[2]?.disks[1]?.snapshot);
    expect(pointsOf(made)).toEqual(ids);
    expect(made).toMatchObject({ leftOut: [], pruned: [], foreignSnapshots: 0, refusal: undefined });
  });

  it('has the group disabled, with the disks, epoch and policy of its newest point', () => {
    const { document, policy, progress } = plan({ ...lost, logEpoch: 7 });
    const disks = ['disk0', 'disk1'].map((disk) => ({ disk, sizeBytes: DISK_BYTES, epoch: 7 }));
    expect(document).toMatchObject({
      wanted: 'disabled',
      policy: 'p',
      machines: [{ machine: MACHINE, disks }],
      pins: [],
    });
    expect(policy).toMatchObject({ policy: 'p', retentionHours: 30 });
    expect(progress).toMatchObject({ disks: [], newestPoint: { id: ids.at(-1) } });
  });

  it('keeps a policy that is there, and gives the longest retention to one that nobody knows', () => {
    expect(plan(withCatalog(lost, { policies: new Set(['p']) })).policy).toBeUndefined();
    const nameless = {
      ...lost,
      disks: lost.disks.map((disk) => ({ ...disk, snapshots: without(disk.snapshots, 'policy') })),
    };
    expect(plan(nameless).document?.policy).toBe('recovered');
    expect(plan(nameless).policy).toMatchObject({ policy: 'recovered', retentionHours: 360 });
  });
});

function without(snapshots: readonly FoundSnapshot[], key: string): readonly FoundSnapshot[] {
  return snapshots.reduce((all, _, nth) => withMetadata(nth, { [key]: undefined })(all), snapshots);
}

describe('a point that is not proven', () => {
  it('is left out when the snapshot of one of its disks is gone', () => {
    const made = plan(withSnapshots('disk1', (snapshots) => snapshots.toSpliced(0, 1)));
    expect(pointsOf(made)).toEqual(ids.slice(1));
    expect(reasonsOf(made)).toEqual([[ids[0], 'disk-missing']]);
  });

  it('is left out when it used an older snapshot that is gone, instead of one that is older still', () => {
    const made = plan(withSnapshots('disk0', (snapshots) => snapshots.toSpliced(1, 1)));
    // The second point has lost its own snapshot, the third one the snapshot that it shared; that of its other disk serves the fourth.
    expect(pointsOf(made)).toEqual([ids[0], ids[3]]);
    expect(reasonsOf(made)).toEqual([[ids[1], 'unproven']]);
    expect(made.pruned).toEqual([ids[2]]);
  });

  it('is left out with a whole disk that is gone', () => {
    const made = plan({ ...lost, disks: lost.disks.slice(1) });
    expect(pointsOf(made)).toEqual([]);
    expect(new Set(made.leftOut.map(({ reason }) => reason))).toEqual(new Set(['disk-missing']));
  });

  it.each([
    ['metadata-malformed', { position: '1.x.3' }],
    ['metadata-malformed', { cut: '12' }],
    ['metadata-malformed', { mark: '%' }],
    ['wrong-blob', { disk: 'disk1' }],
    ['wrong-blob', { group: 'other' }],
    ['size-differs', { size: String(2 * DISK_BYTES) }],
    ['snapshots-disagree', { previous: 'another' }],
    ['snapshots-disagree', { members: 'ab'.repeat(32) }],
    ['snapshots-disagree', { place: '1/1' }],
    ['snapshots-disagree', { members: undefined }],
  ])('is left out, and nothing else is: %s', (reason, changes) => {
    const made = plan(withSnapshots('disk0', withMetadata(0, changes)));
    expect(pointsOf(made)).toEqual(ids.slice(1));
    expect(made.leftOut.map((left) => left.reason)).toContain(reason);
  });

  it('is left out when its epochs differ from those that it was made with', () => {
    const made = plan(withSnapshots('disk0', withMetadata(0, { position: '2.1.0' })));
    expect(reasonsOf(made)).toEqual([[ids[0], 'unproven']]);
  });

  it('is left out when two snapshots of one disk claim it and differ; equal ones count once', () => {
    const repeated = (snapshots: readonly FoundSnapshot[]): FoundSnapshot[] =>
      snapshots.flatMap((found, index) =>
        index === 0 ? [found, { ...found, snapshot: `${found.snapshot}x` }] : [found],
      );
    expect(plan(withSnapshots('disk0', repeated)).points[0]?.proven.disks[0]?.snapshot).toBe(
      before[0]?.disks[0]?.snapshot,
    );
    const differing = (snapshots: readonly FoundSnapshot[]) =>
      withMetadata(1, { position: '1.9.0' })(repeated(snapshots));
    expect(reasonsOf(plan(withSnapshots('disk0', differing)))).toEqual([[ids[0], 'snapshot-doubled']]);
  });

  it('is left out with a blob that is no disk', () => {
    const disks = lost.disks.map((disk) => (disk.disk === 'disk0' ? { ...disk, problem: 'its footer: …' } : disk));
    const made = plan({ ...lost, disks });
    expect(pointsOf(made)).toEqual([]);
    expect(made.leftOut).toContainEqual(
      expect.objectContaining({ reason: 'blob-unusable', blob: `seed-disks/${GROUP}/${MACHINE}/disk0.vhd` }),
    );
  });

  it('is counted apart when it was pruned, and only snapshots that later points use are left of it', () => {
    // Only disk0 had a snapshot of the second point that the third one uses.
    const made = plan(withSnapshots('disk1', (snapshots) => snapshots.toSpliced(1, 1)));
    expect(pointsOf(made)).toEqual([ids[0], ids[2], ids[3]]);
    expect(made).toMatchObject({ pruned: [ids[1]], leftOut: [] });
  });

  it('passes over snapshots of others', () => {
    const foreign: FoundSnapshot = { snapshot: 'by hand', reading: { form: 'foreign' } };
    const made = plan(withSnapshots('disk0', (snapshots) => [...snapshots, foreign]));
    expect(made).toMatchObject({ foreignSnapshots: 1, leftOut: [] });
    expect(pointsOf(made)).toEqual(ids);
  });
});

describe('snapshots from before they named the disks of their point', () => {
  const old = (): FoundGroup => ({
    ...lost,
    disks: lost.disks.map((disk) => ({ ...disk, snapshots: without(disk.snapshots, 'members') })),
  });

  it('prove nothing', () => {
    expect(pointsOf(plan(old()))).toEqual([]);
    expect(reasonsOf(plan(old()))).toEqual(ids.map((id) => [id, 'metadata-old']));
  });

  it('are taken at the word of the caller where every disk has one', () => {
    const made = plan(old(), true);
    expect(pointsOf(made)).toEqual(ids.slice(0, 2));
    expect(reasonsOf(made)).toEqual(ids.slice(2).map((id) => [id, 'metadata-old']));
  });
});

describe('what is there of the catalog', () => {
  it('stays: manifests that are the same, that differ, that cannot be read', () => {
    const [first, second, third] = ids;
    const manifests: FoundCatalog['manifests'] = new Map([
      [first ?? '', whole.catalog.manifests.get(first ?? '') ?? { is: 'unreadable', why: '' }],
      [second ?? '', { is: 'there', fingerprint: 'other', epoch: 1 }],
      [third ?? '', { is: 'unreadable', why: 'no JSON' }],
    ]);
    const made = plan(withCatalog(lost, { manifests }));
    expect(made.points.map(({ action, proven }) => [proven.id, action])).toEqual([
      [first, 'exists'],
      [ids[3], 'create'],
    ]);
    expect(reasonsOf(made)).toEqual([
      [second, 'manifest-differs'],
      [third, 'manifest-unreadable'],
    ]);
  });

  it.each([
    ['a worker owns it', () => ({ isOwned: true })],
    ['it is active', () => ({ document: documentOf({}) })],
    ['it is paused', () => ({ document: documentOf({ wanted: 'paused' }) })],
    ['given up', () => ({ document: documentOf({ wanted: 'disabled', discardBeforeEpoch: 2 }) })],
    ['failed over', () => ({ document: documentOf({ failover: failedOver }) })],
    ['no schema', () => ({ document: { is: 'unreadable', why: 'no schema' } as const })],
    ['no schema', () => ({ progress: { is: 'unreadable', why: 'no schema' } as const })],
  ])('refuses the group: %s', (text, catalog) => {
    const made = plan(withCatalog(lost, catalog()));
    expect(made.refusal).toContain(text);
    expect(made).toMatchObject({ policy: undefined, progress: undefined, document: undefined });
  });

  it('refuses a document of an earlier epoch than what is found', () => {
    const made = plan({ ...withCatalog(lost, { document: documentOf({ wanted: 'disabled' }) }), logEpoch: 2 });
    expect(made.refusal).toContain('earlier epoch');
  });

  it('completes a disabled group, and leaves what an earlier epoch gave up', () => {
    const machines = documentOf({}).is === 'there' ? machinesIn(2) : [];
    const document = documentOf({ wanted: 'disabled', machines, discardBeforeEpoch: 2 });
    const made = plan(withCatalog(lost, { document }));
    expect(pointsOf(made)).toEqual([]);
    expect(new Set(made.leftOut.map(({ reason }) => reason))).toEqual(new Set(['given-up']));
    expect(made.document).toBeUndefined();
    expect(made.progress?.discardedBeforeEpoch).toBe(1); // nobody knows that they were deleted, and they were not
  });

  it('knows a group whose disks have no points yet, so that their epoch is not used again', () => {
    const disks = lost.disks.map((disk) => ({ ...disk, snapshots: [] }));
    const { document, progress } = plan({ ...lost, disks, logEpoch: 3 });
    expect(document?.machines[0]?.disks.map(({ disk, epoch }) => [disk, epoch])).toEqual([
      ['disk0', 3],
      ['disk1', 3],
    ]);
    expect(progress?.newestPoint).toBeNull();
  });

  it('does nothing about a group without seed disks', () => {
    expect(plan({ ...lost, disks: [] }).refusal).toBe('it has no seed disks');
  });
});

const failedOver = {
  state: 'failed-over' as const,
  job: 'j',
  point: null,
  made: [],
  since: '2026-11-23T04:00:00Z',
};

function machinesIn(epoch: number): GroupDocument['machines'] {
  if (whole.catalog.document.is !== 'there') return [];
  return whole.catalog.document.value.machines.map((machine) => ({
    ...machine,
    disks: machine.disks.map((disk) => ({ ...disk, epoch })),
  }));
}

it('finds blobs that are no disks, and copies under foreign names', async () => {
  const world = await World.create({ diskCount: 1 });
  const key = { group: GROUP, machine: MACHINE, disk: 'disk0' };
  const seed = await world.storage.seeds.open(key, DISK_BYTES, Buffer.alloc(512, 1), signal);
  await seed.snapshot({ point: 'x' }, signal);
  await seed.close(signal);
  const half = await world.storage.seeds.open({ ...key, disk: 'half' }, DISK_BYTES / 2, Buffer.alloc(512), signal);
  await half.close(signal);
  const { disks } = await look(world.storage);
  expect(disks.map(({ disk, problem }) => [disk, problem])).toEqual([
    ['disk0', "its footer: disk is expected to have cookie value 'conectix'"],
    ['half', `its ${DISK_BYTES / 2 + 512} bytes are no page blob of a disk and a footer`],
  ]);
  expect(disks[0]?.snapshots[0]?.reading.form).toBe('malformed');
});

it('sees a lease that somebody holds', async () => {
  const world = await madeWorld();
  const lease = await world.storage.catalog.takeLease(catalogName.progress(GROUP), signal);
  expect((await look(world.storage)).catalog.isOwned).toBe(true);
  await lease.release(signal);
  expect((await look(world.storage)).catalog.isOwned).toBe(false);
});

it('writes the same manifests as before, but for what is lost', () => {
  expect(before.map(essence)).toHaveLength(4);
  expect(plan(withCatalog(lost, { manifests: whole.catalog.manifests })).points.map(({ action }) => action)).toEqual(
    ids.map(() => 'exists'),
  );
});
