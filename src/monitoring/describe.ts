/** Pure. One operator sentence per event, for logs and `monitor tail`. */
import { formatBytes } from '../model/sizes.ts';
import { diskLabel } from '../model/names.ts';
import type { EventData, EventType, MonitoringEvent } from './events.ts';

/** Names of a long list that a sentence spells out. */
const NAMED = 3;

/** Plain text on one line. */
export function describeEvent(event: MonitoringEvent): string {
  return oneLine(sentence(event));
}

/** Texts inside an event may come from a hostile log: control characters must not reach a terminal. */
export const oneLine = (text: string): string => text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_C}]+/gu, ' ');

function sentence<T extends EventType>(event: { readonly type: T; readonly data: EventData<T> }): string {
  return SENTENCES[event.type](event.data);
}

const SENTENCES: { readonly [T in EventType]: (data: EventData<T>) => string } = {
  PointCreated: ({ point, changedBytes, disks, omitted = 0 }) =>
    `point ${point} created: ${formatBytes(changedBytes)} changed on ${counted(disks.length + omitted, 'disk')}`,
  CrashConsistentPointMissed: ({ cut, detail }) =>
    `no crash-consistent point${cut === null ? '' : ` at ${cut}`}: ${detail}`,
  AppConsistentPointMissed: ({ intervalHours, detail }) =>
    `no app-consistent point in ${counted(intervalHours, 'hour')}: ${detail}`,
  RpoThresholdExceeded: (data) =>
    `RPO is ${duration(data.rpoSeconds)}, above the threshold of ${data.thresholdMinutes} min; ${reach(data)}`,
  RpoBackToNormal: (data) =>
    `RPO is ${duration(data.rpoSeconds)}, back below the threshold of ${data.thresholdMinutes} min; ${reach(data)}`,
  PointsPruned: ({ removed, kept, omitted = 0 }) => {
    const names = removed.map(({ point, reason }) => `${point} (${reason})`);
    return `${counted(removed.length + omitted, 'point')} pruned, ${kept} kept: ${someOf(names, omitted)}`;
  },
  PointDamaged: ({ point, checkedBytes, damaged, omitted = 0 }) =>
    `point ${point} is damaged: ${counted(damaged.length + omitted, 'extent')} of ${formatBytes(checkedBytes)} checked differ`,
  PointNotRecoverable: ({ point, bytesVerified, disks, soundPoint, omitted = 0 }) => {
    const found = someOf(
      disks.map((disk) => `${diskLabel(disk)}: ${disk.text}`),
      omitted,
    );
    const bytes = bytesVerified ? 'its bytes are what the source wrote; ' : '';
    return `point ${point} is not recoverable: ${found}; ${bytes}sound before: ${soundPoint ?? 'none'}`;
  },
  InitialReplicationProgress: (data) =>
    `initial replication of ${diskLabel(data)} at ${Math.floor(data.percent)} %: ` +
    `${formatBytes(data.appliedBytes)} of ${formatBytes(data.sizeBytes)}`,
  InitialReplicationCompleted: (data) =>
    `initial replication of ${diskLabel(data)} completed: ${formatBytes(data.appliedBytes)} applied, copy of ${data.baseCompleteTime}`,
  LagReported: ({ receivedRpoSeconds, recoverableRpoSeconds, backlogBytes }) =>
    `RPO ${duration(receivedRpoSeconds)} received, ${duration(recoverableRpoSeconds)} recoverable; ` +
    `backlog ${formatBytes(backlogBytes)}`,
  HealthChanged: ({ from, to, symptoms, omitted = 0 }) => {
    const texts = symptoms.map((symptom) => symptom.text);
    return `health went from ${from} to ${to}${texts.length === 0 ? '' : `: ${someOf(texts, omitted)}`}`;
  },
  ResyncRequired: (data) => {
    const place = data.offset === null ? data.blob : `${data.blob} at byte ${data.offset}`;
    return `disk ${diskLabel(data)} needs a resync: ${data.code} in ${place}: ${data.reason}`;
  },
  StateChanged: ({ machine, disk, from, to }) => {
    const what = [machine, disk].filter((part) => part !== undefined).join('/');
    return `${what === '' ? 'the group' : what} is ${to}${from === null ? '' : `, was ${from}`}`;
  },
  JobChanged: ({ job, command, to, usedPoint, code, reason }) => {
    const point = usedPoint === null ? '' : ` with point ${usedPoint}`;
    return `${command} (job ${job})${point} is ${to}${code === null ? '' : `: ${code}: ${reason ?? ''}`}`;
  },
  PlanRunChanged: ({ run, plan, test, to, code, reason }) =>
    `${test ? 'test run' : 'run'} ${run} of plan ${plan} is ${to}${code === null ? '' : `: ${code}: ${reason ?? ''}`}`,
  PlanStepChanged: ({ run, plan, step, to, code, reason }) =>
    `step ${step} of run ${run} (plan ${plan}) is ${to}${code === null ? '' : `: ${code}: ${reason ?? ''}`}`,
};

function reach(data: EventData<'RpoThresholdExceeded'>): string {
  const received = data.watermark === null ? 'nothing received yet' : `received through ${data.watermark}`;
  return `${received}, ${data.newestCut === null ? 'no point yet' : `newest point at ${data.newestCut}`}`;
}

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** `42 s` below two minutes, `35 min` above; `unknown` for what is not known yet. */
function duration(seconds: number | null): string {
  if (seconds === null) return 'unknown';
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.floor(seconds / 60)} min`;
}

function someOf(names: readonly string[], omitted: number): string {
  const rest = names.length + omitted - NAMED;
  return `${names.slice(0, NAMED).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
