/** Pure. Every metric that Tidemark reports. docs/observability.md lists the same; a test compares the two. */

export type MetricKind = 'counter' | 'histogram' | 'gauge' | 'observed-counter';

export interface MetricDefinition {
  readonly kind: MetricKind;
  /** UCUM. */
  readonly unit: string;
  readonly description: string;
  readonly attributes: readonly string[];
}

const define = <K extends MetricKind>(
  kind: K,
  unit: string,
  attributes: readonly string[],
  description: string,
): MetricDefinition & { readonly kind: K } => ({ kind, unit, attributes, description });

export const METRICS = {
  'tidemark.rpo.received': define(
    'gauge',
    's',
    ['group'],
    'now − watermark: what a point made of all received log would lose',
  ),
  'tidemark.rpo.recoverable': define(
    'gauge',
    's',
    ['group'],
    'now − cut of the newest point: what that point would lose',
  ),
  'tidemark.backlog.size': define('gauge', 'By', ['group'], 'log that is received and not applied, over all disks'),
  'tidemark.disk.lag': define('gauge', 's', ['group', 'machine', 'disk'], 'now − watermark of one disk'),
  'tidemark.disk.backlog': define('gauge', 'By', ['group', 'machine', 'disk'], 'log of one disk that is not applied'),
  'tidemark.apply.throughput': define(
    'gauge',
    'By/s',
    [],
    'payload applied to seed disks per second since the last collection',
  ),
  'tidemark.apply.log': define('observed-counter', 'By', [], 'log read and applied'),
  'tidemark.apply.payload': define('observed-counter', 'By', [], 'payload of that log'),
  'tidemark.apply.live': define(
    'observed-counter',
    'By',
    [],
    'of that payload, what no later write of the same window buries',
  ),
  'tidemark.apply.segments': define('observed-counter', '{segment}', [], 'segments applied'),
  'tidemark.apply.changes': define('observed-counter', '{change}', [], 'writes and discards of the log'),
  'tidemark.apply.requests': define(
    'observed-counter',
    '{request}',
    ['operation'],
    'requests to seed disks that they became: put, clear',
  ),
  'tidemark.apply.written': define('observed-counter', 'By', ['operation'], 'bytes of those requests'),
  'tidemark.points.created': define('counter', '{point}', ['group', 'kind'], 'recovery points made'),
  'tidemark.points.pruned': define('counter', '{point}', ['group'], 'recovery points removed by retention'),
  'tidemark.points.missed': define(
    'counter',
    '{point}',
    ['group', 'kind', 'reason'],
    'points that were due and could not be made',
  ),
  'tidemark.events': define('counter', '{event}', ['group', 'event', 'severity'], 'monitoring events, by type'),
  'tidemark.cycle.duration': define('histogram', 's', ['group'], 'one cycle of a group, whatever it did'),
  'tidemark.cycle.errors': define('counter', '{error}', ['group', 'code'], 'cycles that ended with an error'),
  'tidemark.jobs': define('counter', '{job}', ['command', 'state'], 'executions of jobs, by how they ended'),
  'tidemark.job.duration': define('histogram', 's', ['command', 'state'], 'one execution of a job'),
  'tidemark.storage.requests': define(
    'counter',
    '{request}',
    ['account', 'operation', 'status'],
    'HTTP requests sent to storage; status is 2xx to 5xx, or none without an answer',
  ),
  'tidemark.storage.request.duration': define(
    'histogram',
    's',
    ['account', 'operation'],
    'from sending to the headers of the answer',
  ),
  'tidemark.throttles': define(
    'counter',
    '{refusal}',
    ['account', 'status'],
    'requests that storage refused for now: 429, 503',
  ),
  'tidemark.throttle.pause': define('histogram', 's', ['account'], 'how long nothing was sent after a refusal'),
  'tidemark.leases': define(
    'counter',
    '{event}',
    ['account', 'container', 'event'],
    'leases taken, renewed, lost and released',
  ),
  'tidemark.messaging.calls': define('counter', '{call}', ['operation', 'ok'], 'calls to Service Bus'),
  'tidemark.messaging.messages': define('counter', '{message}', ['operation'], 'messages that went over in them'),
} as const;

export type MetricName = keyof typeof METRICS;
type NamesOf<K extends MetricKind> = {
  [N in MetricName]: (typeof METRICS)[N]['kind'] extends K ? N : never;
}[MetricName];
export type CounterName = NamesOf<'counter'>;
export type HistogramName = NamesOf<'histogram'>;
export type ObservedName = NamesOf<'gauge' | 'observed-counter'>;
