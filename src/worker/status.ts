/** How a group stands, read from the catalog and the cache without owning anything. */
import { getGroup } from '../catalog/groups.ts';
import { findPolicy, getPolicy } from '../catalog/policies.ts';
import { readDocument } from '../catalog/documents.ts';
import { measureBacklog } from '../drain/backlog.ts';
import { catalogName, diskLabel } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import { assessHealth, type Symptom } from '../monitoring/health.ts';
import { listPoints } from '../points/point-store.ts';
import { parsePolicy } from '../retention/policy.ts';
import { endState } from './discard.ts';
import { groupState } from './group-state.ts';
import type { WorkerPorts } from './ports.ts';
import { newDiskProgress, progressSchema, type DiskState } from './progress.ts';

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
    disks: state === 'discarded' ? [] : disks.map(({ status }) => status),
  };
}

function etaSeconds(backlogBytes: number, bytesPerSecond: number | null): number | null {
  return backlogBytes === 0 || bytesPerSecond === null || bytesPerSecond <= 0
    ? null
    : Math.ceil(backlogBytes / bytesPerSecond);
}
