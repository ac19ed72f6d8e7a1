/** What a group's owner does besides making points: prune them, trim the log behind them, and report how things stand. */
import { getGroup, holdsOf, type GroupDocument } from '../catalog/groups.ts';
import { measureBacklog, type Backlog } from '../drain/backlog.ts';
import { assert } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { diskLabel } from '../model/names.ts';
import { HOUR_US, isoFromUs } from '../model/time.ts';
import type { MonitoringEvent } from '../monitoring/events.ts';
import { nextHealthEvents, rememberHealth } from '../monitoring/health.ts';
import { isRecoverable } from '../points/inspect-point.ts';
import { isBuilt, pointFact, type Manifest } from '../points/manifest.ts';
import { removePoints } from '../points/prune.ts';
import type { Verification } from '../points/verify-point.ts';
import { planPrune, type Hold, type PrunePlan } from '../retention/plan.ts';
import type { Policy } from '../retention/policy.ts';
import type { GroupDrain } from './group-drain.ts';
import { judgeGroup } from './group-health.ts';
import type { OwnedGroup } from './group-owner.ts';
import type { WorkerPorts } from './ports.ts';
import { liveBuilding } from './progress.ts';
import { notRecoverable } from './inspection.ts';

/** Distance of two lag reports while the group is owned; a glance opens an idle one less often. */
const LAG_REPORT_US = 60 * 1_000_000;
const DELETES_IN_FLIGHT = 8;

export interface UpkeepOptions {
  readonly owned: OwnedGroup;
  readonly drain: GroupDrain;
  readonly ports: WorkerPorts;
  readonly policy: Policy;
  /** Pace of the drain since the last report, in bytes of log per second; undefined when it had nothing to do. */
  readonly paceBytesPerSecond: () => number | undefined;
  readonly signal: AbortSignal;
}

export function planGroupPrune(
  manifests: readonly Manifest[],
  policy: Policy,
  holds: readonly Hold[],
  nowUs: number,
): PrunePlan {
  return planPrune(manifests.map(pointFact), policy, { holds, nowUs });
}

/** Decides and removes; the decision is written down first, so that a restart finishes it. */
export async function prune(options: UpkeepOptions): Promise<PrunePlan> {
  const { owned, drain, ports, policy, signal } = options;
  await finishPruning(options);
  const document = await getGroup(ports.catalog, owned.group, signal); // pins may have come since the cycle began
  const nowUs = ports.clock.nowUs();
  const plan = planGroupPrune(owned.manifests, policy, [...holdsOf(document), ...buildHolds(owned, nowUs)], nowUs);
  if (plan.remove.length === 0) return plan;
  await drain.save({ pruning: { remove: [...plan.remove], kept: plan.keep.length } });
  await finishPruning(options);
  return plan;
}

/** What a point that is being built is built on stays until it is made. */
function buildHolds({ progress }: OwnedGroup, nowUs: number): readonly Hold[] {
  const building = liveBuilding(progress, nowUs);
  if (building === null) return [];
  const { point, base, expiresAtUs } = building;
  return [{ point: base, kind: 'job', owner: 'point create', reason: `${point} is built on it`, expiresAtUs }];
}

/**
 * What is to be removed stands in the progress document before the holds are read again; a job holds its point before it reads what is
 * to be removed. So of a prune and a job that want the same point at least one sees the other: the prune leaves it, or the job does.
 */
async function finishPruning({ owned, drain, ports, signal }: UpkeepOptions): Promise<void> {
  if (owned.progress.pruning === null) return;
  const document = await getGroup(ports.catalog, owned.group, signal);
  const pruning = withoutHeld(owned.progress.pruning, document, ports.clock.nowUs());
  const removed = new Set(pruning.remove.map(({ id }) => id));
  const keep = owned.manifests.filter(({ point }) => !removed.has(point));
  await removePoints({
    catalog: ports.catalog,
    group: owned.group,
    remove: [...removed],
    keep,
    seeds: new Map(owned.disks.map(({ drain: disk }) => [disk.label, disk.seed])),
    copies: ports.copies,
    confirm: (either) => owned.lease.renew(either),
    signal,
  });
  owned.manifests.splice(0, owned.manifests.length, ...keep);
  const facts = pruning.remove.map(({ id, reason }) => ({ point: id, reason }));
  const events: MonitoringEvent[] =
    facts.length === 0 ? [] : [{ type: 'PointsPruned', data: { removed: facts, kept: pruning.kept } }];
  await drain.save({ pruning: null }, events);
}

type Pruning = NonNullable<OwnedGroup['progress']['pruning']>;

function withoutHeld({ remove, kept }: Pruning, document: GroupDocument, nowUs: number): Pruning {
  const holds = holdsOf(document).filter(({ expiresAtUs }) => expiresAtUs === null || expiresAtUs > nowUs);
  const held = new Set(holds.map(({ point }) => point));
  const left = remove.filter(({ id }) => !held.has(id));
  return { remove: left, kept: kept + remove.length - left.length };
}

/**
 * Deletes segments that a committed point contains and whose retention has passed. The newest segment before the cut stays: it is
 * where a restarted source finds out how far it had come.
 */
export async function trimLog({ owned, drain, ports, policy, signal }: UpkeepOptions): Promise<void> {
  // Points built on copies do not count: between them and the next one, others may still be asked for.
  const chain = owned.manifests.filter((manifest) => !isBuilt(manifest));
  const newest = chain.at(-1);
  if (newest === undefined) return;
  const untilUs = newest.cutUs - policy.logRetentionHours * HOUR_US;
  const contained = chain.findLast(({ cutUs }) => cutUs <= untilUs);
  if (contained === undefined) return;
  const base = liveBuilding(owned.progress, ports.clock.nowUs())?.base;
  const needed = chain.find(({ point }) => point === base) ?? contained;
  const due = owned.disks.flatMap((disk) => {
    const { stream } = disk.drain;
    const placeIn = ({ disks }: Manifest): number => {
      const cut = disks.find((d) => d.machine === stream.machine && d.disk === stream.disk);
      return cut?.epoch === stream.epoch ? cut.sequence : 0;
    };
    // A point that is committed and not yet noted does not count: a restart still reads on from the place of the one before it.
    const through = Math.min(placeIn(contained), placeIn(needed), disk.cut.sequence) - 2;
    return through > disk.trimmedThrough ? [{ disk, stream, through }] : [];
  });
  if (due.length === 0) return;
  assert(
    owned.progress.newestPoint !== null && due.every(({ disk, through }) => through < disk.cut.sequence),
    'manifest before delete: the point that is noted contains the segments that go',
  );
  // Deletes carry no lease of their own: make sure of the group's first, in case storage or an owner has changed since the last write.
  await owned.lease.renew(signal);
  for (const { disk, stream, through } of due) {
    const count = through - disk.trimmedThrough;
    const sequences = Array.from({ length: count }, (_, index) => disk.trimmedThrough + 1 + index);
    await mapAll(sequences, DELETES_IN_FLIGHT, signal, (sequence, either) =>
      ports.logStore.delete(stream, sequence, either),
    );
    disk.trimmedThrough = through;
  }
  await drain.save();
}

/** Queues an event for each damaged point, and one for each whose bytes are right and whose disks nobody could use. */
export async function reportDamage({ owned, drain }: UpkeepOptions, results: readonly Verification[]): Promise<void> {
  const events = results.flatMap(({ point, checkedBytes, damaged, disks }): MonitoringEvent[] => {
    const older = owned.manifests.slice(
      0,
      owned.manifests.findIndex((manifest) => manifest.point === point),
    );
    const labels = new Set(damaged.map(diskLabel));
    const unusable = disks.filter((disk) => !isRecoverable(disk) && !labels.has(diskLabel(disk)));
    return [
      ...(damaged.length === 0
        ? []
        : [{ type: 'PointDamaged', data: { point, checkedBytes, damaged: [...damaged] } } as const]),
      ...(unusable.length === 0 ? [] : [notRecoverable(point, unusable, older, true)]),
    ];
  });
  if (events.length > 0) await drain.save({}, events);
}

/** Lag at most once a minute, health and RPO when they change. */
export async function reportHealth({
  owned,
  drain,
  ports,
  policy,
  paceBytesPerSecond,
  signal,
}: UpkeepOptions): Promise<void> {
  const { progress, disks } = owned;
  const nowUs = ports.clock.nowUs();
  const lagDue = nowUs - progress.lagReportedUs >= LAG_REPORT_US;
  const backlogs = await mapAll(disks, DELETES_IN_FLIGHT, signal, async ({ drain: disk }, either) => {
    const backlog = await measureBacklog(ports.logStore, disk.stream, disk.place.position.sequence, either);
    return { ...backlog, watermarkUs: backlog.watermarkUs ?? disk.place.watermarkUs };
  });
  const report = judgeGroup({
    progress,
    disks: disks.map(({ drain: { stream, place }, state }) => ({ ...stream, ...place, state })),
    backlogs,
    policy,
    nowUs,
  });
  const events = [...nextHealthEvents(progress.health, report)];
  if (lagDue) {
    const { receivedRpoSeconds, recoverableRpoSeconds, backlogBytes } = report;
    events.push({
      type: 'LagReported',
      data: { receivedRpoSeconds, recoverableRpoSeconds, backlogBytes, disks: lagOfDisks(owned, backlogs) },
    });
  }
  const bytesPerSecond = paceBytesPerSecond() ?? progress.bytesPerSecond;
  if (events.length === 0 && bytesPerSecond === progress.bytesPerSecond) return;
  const lagReportedUs = lagDue ? nowUs : progress.lagReportedUs;
  await drain.save({ health: rememberHealth(report), lagReportedUs, bytesPerSecond }, events);
}

type LagOfDisk = Extract<MonitoringEvent, { type: 'LagReported' }>['data']['disks'][number];

function lagOfDisks(owned: OwnedGroup, backlogs: readonly Backlog[]): LagOfDisk[] {
  return owned.disks.map(({ drain: { stream } }, index) => {
    const backlog = backlogs[index];
    const watermarkUs = backlog?.watermarkUs ?? null;
    return {
      machine: stream.machine,
      disk: stream.disk,
      watermark: watermarkUs === null ? null : isoFromUs(watermarkUs),
      backlogSegments: backlog?.segments ?? 0,
      backlogBytes: backlog?.bytes ?? 0,
    };
  });
}
