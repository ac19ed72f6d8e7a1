/**
 * Whether a group is worth owning now: read without owning it, by a number of requests that does not grow with its points or its log.
 *
 * A glance may be wrong in one direction only. What it takes for due costs an opening; what it takes for not due is looked at by the
 * next opening, which comes within {@link IDLE_LAG_REPORT_US} however quiet the group is.
 */
import { readDocument } from '../catalog/documents.ts';
import type { GroupDocument } from '../catalog/group-document.ts';
import { cutRules } from '../cuts/plan.ts';
import { measureBacklog } from '../drain/backlog.ts';
import { mapAll } from '../map-all.ts';
import { catalogName } from '../model/names.ts';
import { FIVE_MINUTES_US } from '../model/time.ts';
import { nextHealthEvents } from '../monitoring/health.ts';
import type { Policy } from '../retention/policy.ts';
import { isDiscardDue } from './discard.ts';
import { judgeGroup } from './group-health.ts';
import type { WorkerPorts } from './ports.ts';
import { progressSchema, type DiskProgress, type ProgressDocument } from './progress.ts';

/** Distance of two lag reports, and of two openings, of a group of which nothing is received. */
export const IDLE_LAG_REPORT_US = FIVE_MINUTES_US;
const LISTINGS_IN_FLIGHT = 8;

export interface GlanceOptions {
  readonly document: GroupDocument;
  readonly policy: Policy;
  readonly ports: Pick<WorkerPorts, 'catalog' | 'logStore' | 'clock'>;
  readonly signal: AbortSignal;
}

export async function isCycleDue({ document, policy, ports, signal }: GlanceOptions): Promise<boolean> {
  const { group } = document;
  const progress = (await readDocument(ports.catalog, catalogName.progress(group), progressSchema, signal))?.value;
  const nowUs = ports.clock.nowUs();
  if (progress === undefined || hasUnfinished(progress, document, policy, nowUs)) return true;
  const disks = currentDisks(progress, document);
  if (disks === undefined) return true;
  const backlogs = await mapAll(disks, LISTINGS_IN_FLIGHT, signal, ({ machine, disk, epoch, applied }, either) =>
    measureBacklog(ports.logStore, { group, machine, disk, epoch }, applied.sequence, either),
  );
  const isStopped = disks.some(({ state }) => state === 'resync-required');
  const isNew = isBoundaryDue(progress, document, disks) || backlogs.some(({ segments }) => segments > 0);
  if (isNew && !isStopped) return true;
  return nextHealthEvents(progress.health, judgeGroup({ progress, disks, backlogs, policy, nowUs })).length > 0;
}

/** Pure. Whether an owner has left something to do that no new log is needed for. */
function hasUnfinished(progress: ProgressDocument, document: GroupDocument, policy: Policy, nowUs: number): boolean {
  return (
    progress.outbox.queued.length > 0 ||
    progress.pruning !== null ||
    progress.latestUs !== null ||
    progress.building !== null ||
    progress.appMarks !== policy.appConsistentHours > 0 ||
    nowUs - progress.lagReportedUs >= IDLE_LAG_REPORT_US ||
    isDiscardDue(document, progress)
  );
}

/** Pure. Whether everything before the next boundary is applied, and its point was not made: an owner has left or died in between. */
function isBoundaryDue(
  { boundaryUs }: ProgressDocument,
  { machines }: GroupDocument,
  disks: readonly DiskProgress[],
): boolean {
  if (!cutRules(machines.length, false).boundaries) return false;
  return disks.every(
    ({ baseCompleteUs, watermarkUs }) =>
      baseCompleteUs !== null && watermarkUs !== null && watermarkUs >= (boundaryUs ?? baseCompleteUs),
  );
}

/** Pure. The progress of the disks that are wanted, or undefined when there is none of one of them yet. */
function currentDisks(progress: ProgressDocument, document: GroupDocument): readonly DiskProgress[] | undefined {
  const wanted = document.machines.flatMap(({ machine, disks }) => disks.map((disk) => ({ machine, ...disk })));
  const known = wanted.flatMap(
    ({ machine, disk, epoch }) =>
      progress.disks.find((one) => one.machine === machine && one.disk === disk && one.epoch === epoch) ?? [],
  );
  return known.length === wanted.length && known.length === progress.disks.length ? known : undefined;
}
