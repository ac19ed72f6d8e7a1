/**
 * Pure. Which points the snapshots of a group prove.
 *
 * A point is proven when the snapshots that were taken for it agree about it, and the digest over its disks that they carry is that of
 * these snapshots and, for each disk without one, the newest snapshot before. A snapshot that is missing, or one too many, gives another
 * digest: then the point is left out. Nothing is guessed.
 */
import type { CopyName } from '../copies/copy-store.ts';
import { CONTAINERS, diskLabel, seedName } from '../model/names.ts';
import { isMomentId } from '../points/manifest.ts';
import {
  membersDigest,
  type PointFacts,
  type SnapshotFacts,
  type SnapshotReading,
} from '../points/snapshot-metadata.ts';
import { pointCopyName } from '../copies/copy-store.ts';
import { byCut } from '../retention/plan.ts';
import type { FoundDisk, FoundGroup } from './found.ts';

/** A snapshot whose metadata fits the blob that it is of. */
export interface UsableSnapshot {
  readonly snapshot: string;
  readonly copy: CopyName | null;
  readonly sizeBytes: number;
  readonly facts: SnapshotFacts & Partial<PointFacts>;
}

export interface ProvenPoint {
  readonly id: string;
  /** What all snapshots that were taken for it say alike. */
  readonly head: SnapshotFacts & Partial<PointFacts>;
  /** In the order of the manifest that is lost. */
  readonly disks: readonly UsableSnapshot[];
}

export type Reason =
  | 'blob-unusable'
  | 'metadata-malformed'
  | 'metadata-old'
  | 'wrong-blob'
  | 'size-differs'
  | 'snapshots-disagree'
  | 'snapshot-doubled'
  | 'disk-missing'
  | 'unproven'
  | 'given-up'
  | 'manifest-unreadable'
  | 'manifest-differs';

/** Something of the group that is there and becomes no point. */
export interface LeftOut {
  readonly point: string | null;
  /** Container and name of the blob, with the snapshot it is about; null: about the point. */
  readonly blob: string | null;
  readonly reason: Reason;
  readonly text: string;
}

export interface Proof {
  /** Oldest first. */
  readonly points: readonly ProvenPoint[];
  readonly leftOut: readonly LeftOut[];
  /** Points of whose snapshots only those are left that other points use: pruned before, as a rule. */
  readonly pruned: readonly string[];
  /** All snapshots that can be trusted, oldest first within a disk. */
  readonly usable: readonly UsableSnapshot[];
  /** Snapshots of seed disks that are none of Tidemark's. */
  readonly foreign: number;
}

export interface ProveOptions {
  /** Points of epochs before it were given up. */
  readonly fromEpoch: number;
  /**
   * Takes a point whose snapshots are from before they named the disks of their point, when every seed disk of the group has one. That
   * no further disk has belonged to it is then the caller's word.
   */
  readonly trustOld: boolean;
}

export function provePoints(found: FoundGroup, options: ProveOptions): Proof {
  const leftOut: LeftOut[] = [];
  const usable: UsableSnapshot[] = [];
  let foreign = 0;
  for (const disk of found.disks) {
    if (disk.problem !== undefined && disk.snapshots.length > 0) {
      leftOut.push({ point: null, blob: blobOf(found.group, disk), reason: 'blob-unusable', text: disk.problem });
      continue;
    }
    for (const { snapshot, reading } of disk.snapshots) {
      const judged = judgeSnapshot(found.group, disk, reading, options.fromEpoch);
      if (judged === 'foreign') foreign++;
      else if ('reason' in judged) leftOut.push({ ...judged, blob: `${blobOf(found.group, disk)}@${snapshot}` });
      else usable.push({ snapshot, copy: disk.copy, sizeBytes: disk.sizeBytes, facts: judged });
    }
  }
  const onSeeds = snapshotsByDisk(usable);
  const points: ProvenPoint[] = [];
  const failed: { readonly left: LeftOut; readonly id: string; readonly own: readonly UsableSnapshot[] }[] = [];
  const inCutOrder = usable.toSorted((a, b) => byCut(factOf(a.facts), factOf(b.facts)));
  for (const [id, own] of Map.groupBy(inCutOrder, ({ facts }) => facts.point)) {
    const proven = provePoint(id, own, onSeeds, options.trustOld);
    if ('reason' in proven) failed.push({ left: { point: id, blob: null, ...proven }, id, own });
    else points.push(proven);
  }
  const serving = new Set(points.flatMap(({ disks }) => disks));
  const isPruned = (own: readonly UsableSnapshot[]): boolean => own.every((snapshot) => serving.has(snapshot));
  return {
    points,
    leftOut: [...leftOut, ...failed.filter(({ own }) => !isPruned(own)).map(({ left }) => left)],
    pruned: failed.filter(({ own }) => isPruned(own)).map(({ id }) => id),
    usable,
    foreign,
  };
}

/** As the retention planner orders points. */
export const factOf = ({ point, kind, cutUs }: SnapshotFacts) => ({
  id: point,
  kind,
  cutUs,
  isBuilt: isMomentId(point),
});

type Judged = { readonly reason: Reason; readonly text: string };

const blobOf = (group: string, { machine, disk, copy }: Pick<FoundDisk, 'machine' | 'disk' | 'copy'>): string =>
  copy ?? `${CONTAINERS.seeds}/${seedName({ group, machine, disk })}`;

function judgeSnapshot(
  group: string,
  disk: FoundDisk,
  reading: SnapshotReading,
  fromEpoch: number,
): 'foreign' | UsableSnapshot['facts'] | (Judged & { readonly point: string | null }) {
  if (reading.form === 'foreign') return 'foreign';
  if (reading.form === 'malformed') return { point: null, reason: 'metadata-malformed', text: reading.reason };
  const { facts } = reading;
  const { point, epoch } = facts;
  const isOf = facts.group === group && diskLabel(facts) === diskLabel(disk);
  const isPlaced = disk.copy === null ? !isMomentId(point) : disk.copy === pointCopyName(facts, point);
  if (!isOf || !isPlaced) {
    const text = `its metadata name point ${point} of ${facts.group}/${diskLabel(facts)}`;
    return { point, reason: 'wrong-blob', text };
  }
  if (reading.form === 'whole' && reading.facts.sizeBytes !== disk.sizeBytes) {
    const text = `its metadata name ${reading.facts.sizeBytes} bytes, and the blob holds a disk of ${disk.sizeBytes}`;
    return { point, reason: 'size-differs', text };
  }
  if (epoch < fromEpoch) {
    const text = `epoch ${epoch} was given up with all epochs before ${fromEpoch}`;
    return { point, reason: 'given-up', text };
  }
  return facts;
}

/** By `machine/disk`, ascending as their points are. */
function snapshotsByDisk(usable: readonly UsableSnapshot[]): ReadonlyMap<string, readonly UsableSnapshot[]> {
  const byDisk = Map.groupBy(
    usable.filter(({ copy }) => copy === null),
    ({ facts }) => diskLabel(facts),
  );
  const byPoint = (a: UsableSnapshot, b: UsableSnapshot): number => byCut(factOf(a.facts), factOf(b.facts));
  return new Map([...byDisk].map(([label, snapshots]) => [label, snapshots.toSorted(byPoint)]));
}

type ByDisk = ReadonlyMap<string, readonly UsableSnapshot[]>;

function provePoint(
  id: string,
  all: readonly UsableSnapshot[],
  onSeeds: ByDisk,
  trustOld: boolean,
): ProvenPoint | Judged {
  const own = withoutRepeats(all);
  if ('reason' in own) return own;
  const [first] = own;
  const head = first?.facts;
  if (head === undefined) return { reason: 'disk-missing', text: 'it has no snapshot' };
  const alike = own.every(({ facts }) => headOf(facts) === headOf(head));
  if (!alike) return { reason: 'snapshots-disagree', text: 'its snapshots name different cuts, disks or marks' };
  const { members, diskCount } = head;
  if (members === undefined || diskCount === undefined) return proveOld(id, own, onSeeds, trustOld);
  const missing = diskCount - own.length;
  if (missing < 0) return { reason: 'snapshots-disagree', text: `it has ${own.length} of ${diskCount} disks` };
  let most = 0;
  // All disks of a group begin an epoch together today; the second way holds should they not.
  for (const epoch of [head.epoch, undefined]) {
    const older = missing === 0 ? [] : unchangedDisks(own, onSeeds, epoch);
    most = Math.max(most, older.length);
    if (older.length !== missing) continue;
    const digest = membersDigest([
      ...own.map((snapshot) => memberOf(snapshot, null)),
      ...older.map((snapshot) => memberOf(snapshot, snapshot.snapshot)),
    ]);
    if (digest === members) return { id, head, disks: inOrder([...own, ...older]) };
  }
  const has = `${own.length} of its ${diskCount} disks have a snapshot of their own`;
  if (most < missing) return { reason: 'disk-missing', text: `${has}, and ${most} an older one` };
  return { reason: 'unproven', text: `${has}; those of the others are not the ones that it was made with` };
}

const memberOf = ({ facts, sizeBytes }: UsableSnapshot, snapshot: string | null) => ({
  machine: facts.machine,
  disk: facts.disk,
  sizeBytes,
  epoch: facts.epoch,
  snapshot,
});

const headOf = ({ kind, cutUs, mark, previousPoint, diskCount, members }: UsableSnapshot['facts']): string =>
  JSON.stringify([kind, cutUs, mark, previousPoint, diskCount, members]);

/** Two snapshots of one cut that say the same hold the same bytes; the first one is what an owner would have adopted. */
function withoutRepeats(all: readonly UsableSnapshot[]): readonly UsableSnapshot[] | Judged {
  const kept = new Map<string, UsableSnapshot>();
  for (const snapshot of all) {
    const label = diskLabel(snapshot.facts);
    const other = kept.get(label);
    if (other === undefined) kept.set(label, snapshot);
    else if (contentOf(other.facts) !== contentOf(snapshot.facts)) {
      return { reason: 'snapshot-doubled', text: `${label} has two snapshots of it that differ` };
    }
  }
  return [...kept.values()];
}

const contentOf = (facts: UsableSnapshot['facts']): string =>
  JSON.stringify([headOf(facts), facts.epoch, facts.sequence, facts.record, facts.logDigest, facts.place]);

/** For each seed disk that has no snapshot of the point: its newest one from before, of that epoch when one is given. */
function unchangedDisks(
  own: readonly UsableSnapshot[],
  onSeeds: ByDisk,
  epoch: number | undefined,
): readonly UsableSnapshot[] {
  const [first] = own;
  const taken = new Set(own.map(({ facts }) => diskLabel(facts)));
  const older: UsableSnapshot[] = [];
  for (const [label, snapshots] of onSeeds) {
    if (first === undefined || first.copy !== null || taken.has(label)) continue;
    const before = snapshots.findLast(
      ({ facts }) => byCut(factOf(facts), factOf(first.facts)) < 0 && (epoch === undefined || facts.epoch === epoch),
    );
    // The same cut may have been snapshotted twice: the first one counts, as for the point that it was taken for.
    const same = snapshots.find(({ facts }) => facts.point === before?.facts.point);
    if (same !== undefined) older.push(same);
  }
  return older;
}

function proveOld(
  id: string,
  own: readonly UsableSnapshot[],
  onSeeds: ByDisk,
  trustOld: boolean,
): ProvenPoint | Judged {
  const [first] = own;
  if (first === undefined || !trustOld) {
    return { reason: 'metadata-old', text: 'its snapshots do not say which disks it has' };
  }
  const without = [...onSeeds.keys()].filter((label) => own.every(({ facts }) => diskLabel(facts) !== label));
  if (first.copy === null && without.length > 0) {
    return { reason: 'metadata-old', text: `its snapshots do not say whether ${without.join(', ')} did not change` };
  }
  return { id, head: first.facts, disks: inOrder(own) };
}

/** By place; those that do not say theirs, by name behind the others. */
function inOrder(disks: readonly UsableSnapshot[]): readonly UsableSnapshot[] {
  const place = ({ facts }: UsableSnapshot): number => facts.place ?? Number.MAX_SAFE_INTEGER;
  return disks.toSorted((a, b) => place(a) - place(b) || (diskLabel(a.facts) < diskLabel(b.facts) ? -1 : 1));
}
