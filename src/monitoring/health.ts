/** Pure. The two RPOs of a group, its health with the reasons for it, and the events that a change of either asks for. */
import { z } from 'zod';
import { FIVE_MINUTES_US, HOUR_US, isoFromUs } from '../model/time.ts';
import { HEALTH_LEVELS, type HealthLevel, type MonitoringEvent } from './events.ts';

const SECOND_US = 1_000_000;
const MINUTE_US = 60 * SECOND_US;
/** ASR's alarm "no crash-consistent recovery point for 60 minutes". */
export const NO_POINT_ALARM_US = 60 * MINUTE_US;
/** ASR's critical alarm "no heartbeat from the source for 15 minutes". */
export const NO_HEARTBEAT_ALARM_US = 15 * MINUTE_US;
/** A source clock this far ahead hides a growing RPO behind zero. Our own choice: the distance of two cuts. */
export const CLOCK_AHEAD_ALARM_US = FIVE_MINUTES_US;

export interface HealthFacts {
  /** The worker's clock. */
  readonly nowUs: number;
  /** Source time through which the log of every disk of the group is complete; null before the first segment. */
  readonly watermarkUs: number | null;
  /** Cut of the newest point of any kind. */
  readonly newestCutUs: number | null;
  readonly newestAppCutUs: number | null;
  /** Since when the group has been due to make points; what "none for an hour" is counted from while there is none. */
  readonly protectedSinceUs: number | null;
  readonly policy: { readonly rpoThresholdMinutes: number; readonly appConsistentHours: number };
  readonly backlogBytes: number;
  /** State of the group, as in docs/failover.md. */
  readonly state: string;
  /** `machine/disk` of disks that need a resync. */
  readonly resyncDisks: readonly string[];
}

export type SymptomCode =
  | 'RESYNC_REQUIRED'
  | 'NO_HEARTBEAT'
  | 'NO_CRASH_CONSISTENT_POINT'
  | 'RPO_EXCEEDED'
  | 'NO_APP_CONSISTENT_POINT'
  | 'SOURCE_CLOCK_AHEAD';

export interface Symptom {
  readonly code: SymptomCode;
  readonly severity: 'warning' | 'critical';
  readonly text: string;
}

/** What has to be remembered between two judgements; a part of the group's progress document. */
export const healthMemorySchema = z.strictObject({ health: z.enum(HEALTH_LEVELS), rpoExceeded: z.boolean() });
export type HealthMemory = Readonly<z.infer<typeof healthMemorySchema>>;

export const NEW_HEALTH: HealthMemory = { health: 'None', rpoExceeded: false };

export interface HealthReport extends HealthMemory {
  /** now − watermark: what a point made of all that was received would lose. Never negative; null before the first segment. */
  readonly receivedRpoSeconds: number | null;
  /** now − newest cut: what the newest point would lose. Never negative; null without a point. */
  readonly recoverableRpoSeconds: number | null;
  /**
   * The figure held against the threshold: the larger of the received RPO and of what the recoverable RPO has beyond five minutes, as the
   * distance of two cuts is no lag. So it rises when the source is late and when the worker is.
   */
  readonly rpoSeconds: number | null;
  readonly thresholdMinutes: number;
  readonly watermark: string | null;
  readonly newestCut: string | null;
  readonly backlogBytes: number;
  /** Critical ones first. */
  readonly symptoms: readonly Symptom[];
}

/** In other states nothing is promised: points are not made, or a person has stopped the group. */
const JUDGED_STATES: ReadonlySet<string> = new Set(['protected', 'resync-required', 'resyncing']);

export function assessHealth(facts: HealthFacts, previous: HealthMemory): HealthReport {
  const receivedRpoSeconds = ageSeconds(facts.nowUs, facts.watermarkUs);
  const recoverableRpoSeconds = ageSeconds(facts.nowUs, facts.newestCutUs);
  const rpoSeconds = judgedRpo(receivedRpoSeconds, recoverableRpoSeconds);
  const judged = JUDGED_STATES.has(facts.state);
  // Where nothing is judged, nothing went back to normal either.
  const rpoExceeded =
    judged && rpoSeconds !== null
      ? isExceeded(rpoSeconds, facts.policy.rpoThresholdMinutes * 60, previous.rpoExceeded)
      : previous.rpoExceeded;
  const symptoms = judged ? symptomsOf(facts, rpoExceeded ? rpoSeconds : null) : [];
  return {
    receivedRpoSeconds,
    recoverableRpoSeconds,
    rpoSeconds,
    rpoExceeded,
    thresholdMinutes: facts.policy.rpoThresholdMinutes,
    watermark: facts.watermarkUs === null ? null : isoFromUs(facts.watermarkUs),
    newestCut: facts.newestCutUs === null ? null : isoFromUs(facts.newestCutUs),
    backlogBytes: facts.backlogBytes,
    symptoms,
    health: judged ? levelOf(symptoms) : 'None',
  };
}

export const rememberHealth = ({ health, rpoExceeded }: HealthReport): HealthMemory => ({ health, rpoExceeded });

/** Events of a transition; none while nothing changes. */
export function nextHealthEvents(previous: HealthMemory, current: HealthReport): readonly MonitoringEvent[] {
  const events: MonitoringEvent[] = [];
  if (previous.rpoExceeded !== current.rpoExceeded && current.rpoSeconds !== null) {
    events.push({
      type: current.rpoExceeded ? 'RpoThresholdExceeded' : 'RpoBackToNormal',
      data: {
        rpoSeconds: current.rpoSeconds,
        thresholdMinutes: current.thresholdMinutes,
        watermark: current.watermark,
        newestCut: current.newestCut,
      },
    });
  }
  if (previous.health !== current.health) {
    events.push({
      type: 'HealthChanged',
      data: { from: previous.health, to: current.health, symptoms: current.symptoms },
    });
  }
  return events;
}

const ageSeconds = (nowUs: number, timeUs: number | null): number | null =>
  timeUs === null ? null : Math.max(0, nowUs - timeUs) / SECOND_US;

function judgedRpo(received: number | null, recoverable: number | null): number | null {
  if (received === null) return recoverable;
  return recoverable === null ? received : Math.max(received, recoverable - FIVE_MINUTES_US / SECOND_US);
}

/**
 * Back to normal asks for five minutes below the threshold (half of it, for short ones): the figure falls and rises by that much with
 * every point, and an event each time would tell nothing.
 */
function isExceeded(rpoSeconds: number, thresholdSeconds: number, wasExceeded: boolean): boolean {
  const normalSeconds = Math.max(thresholdSeconds / 2, thresholdSeconds - FIVE_MINUTES_US / SECOND_US);
  return rpoSeconds > (wasExceeded ? normalSeconds : thresholdSeconds);
}

function levelOf(symptoms: readonly Symptom[]): HealthLevel {
  if (symptoms.some((symptom) => symptom.severity === 'critical')) return 'Critical';
  return symptoms.length > 0 ? 'Warning' : 'Normal';
}

/** @param exceededRpoSeconds the RPO when it is beyond the threshold, else null */
function symptomsOf(facts: HealthFacts, exceededRpoSeconds: number | null): readonly Symptom[] {
  const { nowUs, watermarkUs, newestCutUs, policy, resyncDisks, state } = facts;
  const symptoms: Symptom[] = [];
  const add = (code: SymptomCode, severity: Symptom['severity'], text: string) =>
    symptoms.push({ code, severity, text });

  if (state === 'resyncing') add('RESYNC_REQUIRED', 'warning', `resynchronization is under way${named(resyncDisks)}`);
  else if (state === 'resync-required' || resyncDisks.length > 0) {
    add('RESYNC_REQUIRED', 'critical', `replication has stopped until a resynchronization${named(resyncDisks)}`);
  }
  if (watermarkUs !== null && nowUs - watermarkUs > NO_HEARTBEAT_ALARM_US) {
    add('NO_HEARTBEAT', 'critical', `no data or heartbeat of the source after ${isoFromUs(watermarkUs)}`);
  }
  const pointSinceUs = newestCutUs ?? facts.protectedSinceUs;
  if (pointSinceUs !== null && nowUs - pointSinceUs > NO_POINT_ALARM_US) {
    add('NO_CRASH_CONSISTENT_POINT', 'critical', `no crash-consistent point after ${isoFromUs(pointSinceUs)}`);
  }
  if (exceededRpoSeconds !== null) {
    const rpoMinutes = Math.floor(exceededRpoSeconds / 60);
    add('RPO_EXCEEDED', 'warning', `RPO of ${rpoMinutes} min against a threshold of ${policy.rpoThresholdMinutes} min`);
  }
  const appSinceUs = facts.newestAppCutUs ?? facts.protectedSinceUs;
  // A mark needs its time through the log: a delay within the RPO threshold is no missed interval.
  const appDueUs = policy.appConsistentHours * HOUR_US + policy.rpoThresholdMinutes * MINUTE_US;
  if (policy.appConsistentHours > 0 && appSinceUs !== null && nowUs - appSinceUs > appDueUs) {
    add('NO_APP_CONSISTENT_POINT', 'warning', `no app-consistent point after ${isoFromUs(appSinceUs)}`);
  }
  if (watermarkUs !== null && watermarkUs - nowUs > CLOCK_AHEAD_ALARM_US) {
    add('SOURCE_CLOCK_AHEAD', 'warning', `the clock of the source is ahead: its log ends at ${isoFromUs(watermarkUs)}`);
  }
  return symptoms.toSorted((a, b) => Number(b.severity === 'critical') - Number(a.severity === 'critical'));
}

function named(disks: readonly string[]): string {
  if (disks.length === 0) return '';
  return disks.length === 1 ? ` of ${disks[0]}` : ` of ${disks[0]} and ${disks.length - 1} more`;
}
