/**
 * Pure. What a lost catalog is rebuilt to, from what was found: see docs/rebuild.md.
 *
 * A group comes back disabled, with its points kept: no worker looks at its seed disks, its log or its snapshots, and it is protected again
 * only in a new epoch. So a place in the log that nobody knows any more is never gone on from.
 */
import {
  groupDocumentSchema,
  MAX_DISKS_PER_MACHINE,
  MAX_MACHINES,
  type GroupDocument,
  type GroupMachine,
} from '../catalog/group-document.ts';
import { isFailedOver, lastEpoch } from '../catalog/groups.ts';
import { assert } from '../errors.ts';
import { isoFromUs } from '../model/time.ts';
import { isMomentId } from '../points/manifest.ts';
import type { PolicyNote } from '../points/snapshot-metadata.ts';
import { MAX_RETENTION_HOURS, parsePolicy } from '../retention/policy.ts';
import { newProgress, type ProgressDocument } from '../worker/progress.ts';
import type { FoundGroup } from './found.ts';
import { createdOf, fingerprintOf, manifestOf } from './manifests.ts';
import { provePoints, type LeftOut, type ProvenPoint, type UsableSnapshot } from './prove.ts';

/** Policy of a group whose snapshots name none. */
export const RECOVERED_POLICY = 'recovered';

export interface RebuildOptions {
  /** See `ProveOptions.trustOld`. */
  readonly trustOld: boolean;
  /** Wall clock. */
  readonly nowUs: number;
}

/** `exists`: it is there, and stays as it is. */
export type Action = 'create' | 'exists';

export interface PlannedPoint {
  readonly action: Action;
  readonly proven: ProvenPoint;
}

export interface GroupPlan {
  readonly group: string;
  /** Why nothing is written; undefined: something may be. */
  readonly refusal: string | undefined;
  /** Undefined: it is there, or nothing may be written. */
  readonly policy: PolicyNote | undefined;
  /** Oldest first, which is also the order to write them in. */
  readonly points: readonly PlannedPoint[];
  readonly progress: ProgressDocument | undefined;
  readonly document: GroupDocument | undefined;
  readonly leftOut: readonly LeftOut[];
  readonly pruned: readonly string[];
  /** Snapshots that somebody else made. */
  readonly foreignSnapshots: number;
}

export function planRebuild(found: FoundGroup, options: RebuildOptions): GroupPlan {
  const { group, catalog } = found;
  const nothing = { policy: undefined, progress: undefined, document: undefined };
  const given = catalog.document.is === 'there' ? catalog.document.value : undefined;
  const fromEpoch = given?.discardBeforeEpoch ?? 1;
  const { points, leftOut, pruned, usable, foreign } = provePoints(found, { fromEpoch, trustOld: options.trustOld });
  const planned: PlannedPoint[] = [];
  const kept: LeftOut[] = [...leftOut];
  for (const proven of points) {
    const judged = compareWithManifest(found, proven);
    if ('reason' in judged) kept.push(judged);
    else planned.push(judged);
  }
  const about = { group, leftOut: kept, pruned, foreignSnapshots: foreign };
  const refusal = refusalOf(found);
  if (refusal !== undefined) return { ...about, ...nothing, refusal, points: planned };
  const listed = planned.map(({ proven }) => proven);
  const machines = given?.machines ?? machinesOf(found, listed);
  if (typeof machines === 'string') return { ...about, ...nothing, refusal: machines, points: [] };
  const note = newestPolicy(usable);
  const policy = given?.policy ?? note?.policy ?? RECOVERED_POLICY;
  const document: GroupDocument = given ?? {
    version: 1,
    group,
    policy,
    wanted: 'disabled',
    machines,
    pins: [],
    createdAt: listed[0] === undefined ? isoFromUs(options.nowUs) : createdOf(listed[0]),
  };
  assert(groupDocumentSchema.safeParse(document).success, `the document of ${group} would not match its schema`);
  return {
    ...about,
    refusal,
    points: planned,
    policy: catalog.policies.has(policy) ? undefined : policyOf(policy, note),
    progress: catalog.progress.is === 'missing' ? progressOf(document, listed, options.nowUs) : undefined,
    document: given === undefined ? document : undefined,
  };
}

function newestPolicy(usable: readonly UsableSnapshot[]): PolicyNote | undefined {
  let newest: UsableSnapshot['facts'] | undefined;
  for (const { facts } of usable) {
    if (facts.policy !== undefined && facts.cutUs >= (newest?.cutUs ?? 0)) newest = facts;
  }
  return newest?.policy;
}

/** Why nothing of the group may be written. */
function refusalOf(found: FoundGroup): string | undefined {
  const { group, disks, catalog } = found;
  const { document, progress, isOwned } = catalog;
  if (disks.every(({ copy }) => copy !== null)) return 'it has no seed disks';
  if (isOwned) return 'a worker owns it: stop the workers, and wait a minute for the leases to end';
  if (document.is === 'unreadable') return `${document.why}; delete that document first, it is made anew`;
  if (progress.is === 'unreadable') return `${progress.why}; delete that document first, it is made anew`;
  if (document.is === 'missing') return undefined;
  const { wanted, discardBeforeEpoch = 1 } = document.value;
  if (isFailedOver(document.value)) return 'it is failed over; commit or cancel that first';
  if (wanted !== 'disabled') {
    return `its document is there, and it is ${wanted}: \`tidemark group disable ${group} --keep-points\` first, so that no worker looks at what is not listed yet`;
  }
  if (discardBeforeEpoch > lastEpoch(document.value)) return 'it is disabled for good, and its points are given up';
  if (highestEpoch(found) <= lastEpoch(document.value)) return undefined;
  return 'its document is of an earlier epoch than its snapshots or its log; delete that document first, it is made anew';
}

function compareWithManifest({ catalog }: FoundGroup, proven: ProvenPoint): PlannedPoint | LeftOut {
  const manifest = catalog.manifests.get(proven.id);
  if (manifest === undefined) return { action: 'create', proven };
  const about = { point: proven.id, blob: null };
  if (manifest.is === 'unreadable') {
    return { ...about, reason: 'manifest-unreadable', text: `${manifest.why}; delete it, and rebuild again` };
  }
  if (manifest.fingerprint === fingerprintOf(manifestOf(proven, null))) return { action: 'exists', proven };
  return { ...about, reason: 'manifest-differs', text: 'its manifest is there and names other snapshots; it stays' };
}

/** The disks of the newest point on seed disks; without one, the seed disks themselves. A text: why there can be no document. */
function machinesOf(found: FoundGroup, points: readonly ProvenPoint[]): GroupMachine[] | string {
  const newest = points.findLast(({ id }) => !isMomentId(id));
  const epoch = highestEpoch(found);
  const disks =
    newest === undefined
      ? found.disks.filter(({ copy, problem }) => copy === null && problem === undefined)
      : newest.disks.map(({ facts, sizeBytes }) => ({ machine: facts.machine, disk: facts.disk, sizeBytes }));
  const machines = [...Map.groupBy(disks, ({ machine }) => machine)].map(([machine, own]) => ({
    machine,
    disks: own.map(({ disk, sizeBytes }) => ({ disk, sizeBytes, epoch })),
  }));
  if (machines.length === 0) return 'none of its seed disks can be used';
  if (machines.length <= MAX_MACHINES && machines.every((machine) => machine.disks.length <= MAX_DISKS_PER_MACHINE)) {
    return machines;
  }
  return `no point says which of its ${disks.length} seed disks belong to it, and that is more than a group has`;
}

/** An epoch is never used twice, so that the log of an old one is never taken for that of a new one. */
function highestEpoch({ disks, logEpoch, catalog: { progress, manifests } }: FoundGroup): number {
  let epoch = Math.max(1, logEpoch);
  for (const { snapshots } of disks) {
    for (const { reading } of snapshots) if ('facts' in reading) epoch = Math.max(epoch, reading.facts.epoch);
  }
  for (const manifest of manifests.values()) if (manifest.is === 'there') epoch = Math.max(epoch, manifest.epoch);
  if (progress.is !== 'there') return epoch;
  return Math.max(epoch, progress.value.discardedBeforeEpoch - 1, ...progress.value.disks.map((disk) => disk.epoch));
}

/** The policy as its newest user had it; one that nobody knows keeps points for as long as any can. */
function policyOf(policy: string, note: PolicyNote | undefined): PolicyNote {
  if (note?.policy === policy) return note;
  return { policy, ...parsePolicy({ retentionHours: MAX_RETENTION_HOURS }) };
}

/** No disk of it is known, so each begins anew, with cuts behind those of the points that are kept. */
function progressOf(document: GroupDocument, points: readonly ProvenPoint[], nowUs: number): ProgressDocument {
  const newest = points.findLast(({ id }) => !isMomentId(id));
  const { discardBeforeEpoch } = document;
  // A point of a later epoch says that the deletion was done: no owner begins an epoch before it.
  const isDiscarded = discardBeforeEpoch !== undefined && points.length > 0;
  return {
    ...newProgress(document.group, [], nowUs),
    newestPoint: newest === undefined ? null : { id: newest.id, cutUs: newest.head.cutUs },
    ...(isDiscarded && { disabledBeforeEpoch: discardBeforeEpoch, discardedBeforeEpoch: discardBeforeEpoch }),
  };
}
