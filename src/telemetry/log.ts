/** The log of a host: one JSON document per line. */
import { pino, stdTimeFunctions, type Logger } from 'pino';
import { describeEvent } from '../monitoring/describe.ts';
import { severityOf, type MonitoringEvent, type Severity } from '../monitoring/events.ts';
import { errorFacts } from './error-facts.ts';
import { redactSecrets } from './redact.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type Log = Logger;

export interface LogOptions {
  readonly level: LogLevel;
  /** Gets each line with its end of line, at once. */
  readonly stream: { write(line: string): unknown };
}

/**
 * Fields are `time` (ISO), `level` (a word), `msg`, and what the call gives: `group`, `disk`, `cut`, `job`, `point`. An error under `err` is
 * written with its causes, and gives the line its `code`, `class` and `hint`. Secrets are taken out of the finished line, so that none gets
 * through in whatever field.
 */
export function createLog({ level, stream }: LogOptions): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: withErrorFields },
      serializers: { err: (error: unknown) => (error instanceof Error ? errorFacts(error) : error) },
      hooks: { streamWrite: redactSecrets },
    },
    stream as { write(line: string): void },
  );
}

function withErrorFields(fields: Record<string, unknown>): Record<string, unknown> {
  if (!(fields['err'] instanceof Error)) return fields;
  const { code, class: errorClass, hint } = errorFacts(fields['err']);
  return {
    ...fields,
    ...(code !== undefined && { code }),
    ...(errorClass !== undefined && { class: errorClass }),
    ...(hint !== undefined && { hint }),
  };
}

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
    Object.entries(data).map(([key, value]) => [Array.isArray(value) ? `${key}Count` : key, Array.isArray(value) ? value.length : value]),
  );
