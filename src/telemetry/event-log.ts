/** Monitoring events as lines of the log. */
import { describeEvent } from '../monitoring/describe.ts';
import { severityOf, type MonitoringEvent, type Severity } from '../monitoring/events.ts';
import type { GroupOutcome } from '../worker/worker.ts';
import type { Log } from './log.ts';

const LEVEL_OF: Readonly<Record<Severity, 'info' | 'warn' | 'error' | 'fatal'>> = {
  info: 'info',
  warning: 'warn',
  error: 'error',
  critical: 'fatal',
};

/** One line per event, with the fields that alerts look for: `event`, `group`, `severity`, `symptoms`, and its data without the lists. */
export function logEvent(log: Log, group: string, event: MonitoringEvent): void {
  const severity = severityOf(event);
  const fields = { event: event.type, group, severity, ...aboutFields(event), data: scalarsOf(event) };
  log[LEVEL_OF[severity]](fields, describeEvent(event));
}

function aboutFields({ type, data }: MonitoringEvent): Record<string, unknown> {
  const about: Record<string, unknown> = {};
  const { point, cut, job, code, machine, disk } = data as Readonly<Record<string, unknown>>;
  if (typeof point === 'string') about['point'] = point;
  if (typeof cut === 'string') about['cut'] = cut;
  if (typeof job === 'string') about['job'] = job;
  if (typeof code === 'string') about['code'] = code;
  if (typeof disk === 'string') about['disk'] = `${String(machine)}/${disk}`;
  if (type === 'HealthChanged') about['symptoms'] = data.symptoms.map((symptom) => symptom.code);
  return about;
}

const scalarsOf = ({ data }: MonitoringEvent): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(data).map(([key, value]) => [
      Array.isArray(value) ? `${key}Count` : key,
      Array.isArray(value) ? value.length : value,
    ]),
  );

/** A cycle that ended with an error, or a group that has stopped. */
export function logOutcome(log: Log, { group, error, needsResync }: GroupOutcome): void {
  if (error !== undefined)
    log.error({ event: 'CycleFailed', group, err: error }, `group ${group}: the cycle ended with an error`);
  else if (needsResync) log.warn({ event: 'NeedsResync', group }, `group ${group} needs a resync`);
}
