/** How a group stands, read from the catalog and the cache without owning anything. */
import type { DrillRecord } from '../catalog/group-document.ts';
import { getGroup, isFailedOver, type GroupDocument } from '../catalog/groups.ts';
import { findPolicy, getPolicy } from '../catalog/policies.ts';
import { readDocument } from '../catalog/documents.ts';
import { measureBacklog } from '../drain/backlog.ts';
import { catalogName, diskLabel } from '../model/names.ts';
import { HOUR_US, isoFromUs, usFromIso } from '../model/time.ts';
import { assessHealth, type Symptom } from '../monitoring/health.ts';
import { listPoints } from '../points/point-store.ts';
import { parsePolicy } from '../retention/policy.ts';
import { endState } from './discard.ts';
import { groupState } from './group-state.ts';
import type { WorkerPorts } from './ports.ts';
import { newDiskProgress, progressSchema, type DiskState } from './progress.ts';

/** Six months, as ASR advises. */
export const DRILL_MAX_AGE_US = 183 * 24 * HOUR_US;

export interface DiskStatus {
  readonly machine: string;
  readonly disk: string;
  readonly state: DiskState;
  readonly sizeBytes: number;
  readonly epoch: number;
  /** Through when the log is in the cache, and on the seed; null before the first segment. */
  readonly receivedThrough: string | null;
  readonly appliedThrough: string | null;
  readonly lagSeconds: number | null;
  readonly backlogSegments: number;
  readonly backlogBytes: number;
  readonly defect: { readonly code: string; readonly blob: string; readonly reason: string } | null;
}

export interface OperationStatus {
  readonly state: string;
  readonly job: string;
  readonly point: string | null;
  readonly since: string;
}

export interface GroupStatus {
  readonly group: string;
  readonly policy: string;
  readonly wanted: string;
  readonly state: string;
  readonly receivedRpoSeconds: number | null;
  readonly recoverableRpoSeconds: number | null;
  readonly backlogBytes: number;
  /** Seconds until the backlog is applied at the pace of the last cycle's worker; null when nothing waits or no pace is known. */
  readonly etaSeconds: number | null;
  readonly points: number;
  readonly newestPoint: string | null;
  readonly newestAppPoint: string | null;
  readonly health: string;
  readonly symptoms: readonly Symptom[];
  readonly messagesWaiting: number;
  /** Null when there is none. */
  readonly failover: OperationStatus | null;
  readonly testFailover: OperationStatus | null;
  readonly lastTestFailover: DrillRecord | null;
  /** What an operator is advised to do about test failovers; null while the last one is recent. */
  readonly advice: string | null;
  /** None of a group that is discarded. */
  readonly disks: readonly DiskStatus[];
}

export async function groupStatus(
  ports: Omit<WorkerPorts, 'topic'>,
  group: string,
  signal: AbortSignal,
): Promise<GroupStatus> {
  const { catalog, logStore, clock } = ports;
  const document = await getGroup(catalog, group, signal);
  // A disabled group does not keep its policy from being deleted, and nothing is judged by it.
  const policy =
    document.wanted === 'disabled'
      ? ((await findPolicy(catalog, document.policy, signal)) ?? parsePolicy({}))
      : await getPolicy(catalog, document.policy, signal);
  const progress = (await readDocument(catalog, catalogName.progress(group), progressSchema, signal))?.value;
  const points = await listPoints(catalog, group, signal);
  const nowUs = clock.nowUs();
  const disks: { status: DiskStatus; receivedUs: number | null; baseCompleteUs: number | null }[] = [];
  for (const { machine, disks: wanted } of document.machines) {
    for (const { disk, sizeBytes, epoch } of wanted) {
      const known =
        progress?.disks.find((d) => d.machine === machine && d.disk === disk && d.epoch === epoch) ??
        newDiskProgress({ machine, disk, epoch });
      const stream = { group, machine, disk, epoch };
      const backlog = await measureBacklog(logStore, stream, known.applied.sequence, signal);
      const receivedUs = backlog.watermarkUs ?? known.watermarkUs;
      const status: DiskStatus = {
        machine,
        disk,
        state: known.state,
        sizeBytes,
        epoch,
        receivedThrough: receivedUs === null ? null : isoFromUs(receivedUs),
        appliedThrough: known.watermarkUs === null ? null : isoFromUs(known.watermarkUs),
        lagSeconds: receivedUs === null || known.watermarkUs === null ? null : (receivedUs - known.watermarkUs) / 1e6,
        backlogSegments: backlog.segments,
        backlogBytes: backlog.bytes,
        defect: known.defect,
      };
      disks.push({ status, receivedUs, baseCompleteUs: known.baseCompleteUs });
    }
  }
  const received = disks.map(({ receivedUs }) => receivedUs);
  const completes = disks.map(({ baseCompleteUs }) => baseCompleteUs);
  const newestApp = points.findLast(({ kind }) => kind === 'app');
  const state =
    endState(document, progress) ??
    failoverState(document) ??
    (document.wanted === 'active' ? groupState(disks.map(({ status }) => status)) : document.wanted);
  const backlogBytes = disks.reduce((sum, { status }) => sum + status.backlogBytes, 0);
  const report = assessHealth(
    {
      nowUs,
      watermarkUs: received.some((time) => time === null) ? null : Math.min(...received.map(Number)),
      newestCutUs: points.at(-1)?.cutUs ?? null,
      newestAppCutUs: newestApp?.cutUs ?? null,
      protectedSinceUs: completes.some((time) => time === null) ? null : Math.max(...completes.map(Number)),
      policy,
      backlogBytes,
      state,
      resyncDisks: disks
        .filter(({ status }) => status.state === 'resync-required')
        .map(({ status }) => diskLabel(status)),
    },
    progress?.health ?? { health: 'None', rpoExceeded: false },
  );
  return {
    group,
    policy: document.policy,
    wanted: document.wanted,
    state,
    receivedRpoSeconds: report.receivedRpoSeconds,
    recoverableRpoSeconds: report.recoverableRpoSeconds,
    backlogBytes,
    etaSeconds: etaSeconds(backlogBytes, progress?.bytesPerSecond ?? null),
    points: points.length,
    newestPoint: points.at(-1)?.point ?? null,
    newestAppPoint: newestApp?.point ?? null,
    health: report.health,
    symptoms: report.symptoms,
    messagesWaiting: progress?.outbox.queued.length ?? 0,
    failover: operationStatus(document.failover),
    testFailover: operationStatus(document.drill),
    lastTestFailover: document.lastDrill ?? null,
    advice: document.wanted === 'disabled' || isFailedOver(document) ? null : drillAdvice(document, nowUs),
    disks: state === 'discarded' ? [] : disks.map(({ status }) => status),
  };
}

function failoverState({ failover }: GroupDocument): string | undefined {
  return failover === undefined || failover.state === 'none' ? undefined : failover.state;
}

function operationStatus(operation: GroupDocument['failover'] | GroupDocument['drill']): OperationStatus | null {
  if (operation === undefined || operation.state === 'none') return null;
  const { state, job, point, since } = operation;
  return { state, job, point, since };
}

/** Pure. ASR advises a test failover every six months; a failed one shows nothing. */
export function drillAdvice(
  { group, lastGoodDrillAt }: Pick<GroupDocument, 'group' | 'lastGoodDrillAt'>,
  nowUs: number,
): string | null {
  const todo = `run \`tidemark failover test ${group}\``;
  if (lastGoodDrillAt === undefined) return `no test failover has succeeded yet: ${todo}`;
  if (nowUs - usFromIso(lastGoodDrillAt) <= DRILL_MAX_AGE_US) return null;
  return `the last test failover that succeeded was cleaned up at ${lastGoodDrillAt}, over six months ago: ${todo}`;
}

function etaSeconds(backlogBytes: number, bytesPerSecond: number | null): number | null {
  return backlogBytes === 0 || bytesPerSecond === null || bytesPerSecond <= 0
    ? null
    : Math.ceil(backlogBytes / bytesPerSecond);
}
