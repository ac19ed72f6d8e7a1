/** Pure. The events that report what a group's drain has done. */
import type { LogStream } from '../model/names.ts';
import { diskLabel } from '../model/names.ts';
import { FIVE_MINUTES_US, HOUR_US, isoFromUs } from '../model/time.ts';
import type { MonitoringEvent } from '../monitoring/events.ts';
import type { Cut, Manifest } from '../points/manifest.ts';
import type { OwnedDisk } from './group-owner.ts';
import type { DiskProgress, ProgressDocument } from './progress.ts';

export function pointCreated(manifest: Manifest): MonitoringEvent {
  return {
    type: 'PointCreated',
    data: {
      point: manifest.point,
      kind: manifest.kind,
      cut: manifest.cut,
      changedBytes: manifest.disks.reduce((sum, disk) => sum + disk.changedBytes, 0),
      disks: manifest.disks.map(({ machine, disk, sizeBytes, changedBytes, snapshot }) => ({
        machine,
        disk,
        sizeBytes,
        changedBytes,
        snapshot,
      })),
      previousPoint: manifest.previousPoint,
    },
  };
}

export interface MissedPoint {
  readonly kind: Cut['kind'];
  readonly mark: string | null;
  readonly cutUs: number;
  readonly reason: 'mark-missing' | 'same-instant';
  /** `machine/disk` of the disks that do not have the mark. */
  readonly missingOn: readonly string[];
  readonly intervalHours: number;
}

export function pointMissed({ kind, mark, cutUs, reason, missingOn, intervalHours }: MissedPoint): MonitoringEvent {
  const detail =
    reason === 'same-instant'
      ? `mark ${mark} does not lie after the newest point`
      : `mark ${mark} is missing on ${missingOn.join(', ')}`;
  if (kind !== 'app') {
    return {
      type: 'CrashConsistentPointMissed',
      data: { reason, detail, markId: mark, cut: isoFromUs(cutUs), missingOn: [...missingOn] },
    };
  }
  return {
    type: 'AppConsistentPointMissed',
    data: { reason, detail, markId: mark ?? '', missingOn: [...missingOn], intervalHours },
  };
}

/**
 * At an app-consistent cut the interval begins anew. At another cut, an interval that has passed without one, and five minutes more
 * for a mark that is a little late, is reported once.
 */
export function appIntervalMissed(
  progress: ProgressDocument,
  cut: Cut,
  intervalHours: number,
): {
  readonly facts: Pick<ProgressDocument, 'newestAppCutUs' | 'appIntervalFromUs'>;
  readonly missed: readonly MonitoringEvent[];
} {
  if (cut.kind === 'app') return { facts: { newestAppCutUs: cut.cutUs, appIntervalFromUs: cut.cutUs }, missed: [] };
  const { newestAppCutUs } = progress;
  const fromUs = progress.appIntervalFromUs ?? cut.cutUs;
  const dueUs = fromUs + intervalHours * HOUR_US;
  if (intervalHours === 0 || cut.cutUs < dueUs + FIVE_MINUTES_US) {
    return { facts: { newestAppCutUs, appIntervalFromUs: fromUs }, missed: [] };
  }
  const detail = `no app-consistent mark from ${isoFromUs(fromUs)} to ${isoFromUs(dueUs)}`;
  return {
    facts: { newestAppCutUs, appIntervalFromUs: dueUs },
    missed: [{ type: 'AppConsistentPointMissed', data: { reason: 'no-mark', detail, intervalHours } }],
  };
}

/** What a window means for a disk in (or just out of) its initial replication. */
export function initialReplication(disk: OwnedDisk, all: readonly OwnedDisk[]): MonitoringEvent[] {
  const { drain, baseAppliedBytes } = disk;
  const { machine, disk: name } = drain.stream;
  const appliedBytes = baseAppliedBytes;
  if (drain.place.baseCompleteUs === null) {
    const percent = Math.min(100, Math.round((appliedBytes / drain.sizeBytes) * 1000) / 10);
    return [
      {
        type: 'InitialReplicationProgress',
        data: { machine, disk: name, appliedBytes, sizeBytes: drain.sizeBytes, percent },
      },
    ];
  }
  const events: MonitoringEvent[] = [
    {
      type: 'InitialReplicationCompleted',
      data: { machine, disk: name, appliedBytes, baseCompleteTime: isoFromUs(drain.place.baseCompleteUs) },
    },
  ];
  if (all.every((other) => other.state === 'protected')) {
    events.push({ type: 'StateChanged', data: { from: 'initial-replication', to: 'protected' } });
  }
  return events;
}

export function resyncRequired(stream: LogStream, defect: NonNullable<DiskProgress['defect']>): MonitoringEvent {
  const { machine, disk } = stream;
  const { code, blob, offset, reason } = defect;
  return {
    type: 'ResyncRequired',
    data: { machine, disk, blob, offset, code, reason: `${diskLabel(stream)}: ${reason}` },
  };
}
