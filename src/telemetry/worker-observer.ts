/** Turns what a worker tells its owner into metrics, spans and log lines. The worker knows of none of them. */
import { context, trace, type Attributes } from '@opentelemetry/api';
import { severityOf, type MonitoringEvent } from '../monitoring/events.ts';
import type { DrainCounters } from '../worker/disk-drain.ts';
import { GroupSession } from '../worker/group-session.ts';
import type { Clock } from '../worker/ports.ts';
import type { WorkerOptions } from '../worker/worker.ts';
import { codeOfError } from './error-facts.ts';
import type { Measurement } from './instruments.ts';
import { logEvent, logOutcome } from './event-log.ts';
import type { Log } from './log.ts';
import type { ObservedName } from './metrics.ts';
import type { Telemetry } from './telemetry.ts';
import { inSpan } from './tracing.ts';

/** Figures older than this are reported no more: they come every minute while the group is here. */
const LAG_LIFETIME_MS = 5 * 60_000;

export interface WorkerObserver extends Required<Pick<WorkerOptions, 'report' | 'onEvents' | 'openSession'>> {
  /** Measures what a worker applies, from now on; for one worker. */
  watch(counters: Readonly<DrainCounters>): void;
  /** Ends all measuring. */
  stop(): void;
}

export interface ObserverOptions {
  readonly telemetry: Telemetry;
  readonly clock: Pick<Clock, 'nowMs' | 'nowUs'>;
  /** Gets a line for each event and each failed cycle; no lines without it. */
  readonly log?: Log;
}

type Lag = Extract<MonitoringEvent, { type: 'LagReported' }>['data'];

export function observeWorker({ telemetry, clock, log }: ObserverOptions): WorkerObserver {
  const { instruments, tracer } = telemetry;
  const lags = new LagFigures(clock);
  const endings = lags.readings().map(([name, read]) => instruments.observe(name, read));
  return {
    onEvents: (group, events) => {
      for (const event of events) {
        countEvent(telemetry, group, event);
        if (event.type === 'LagReported') lags.take(group, event.data);
        noteInSpan(event);
        if (log !== undefined) logEvent(log, group, event);
      }
    },
    report: ({ group, error, needsResync }) => {
      if (error !== undefined) instruments.add('tidemark.cycle.errors', 1, { group, code: codeOfError(error) });
      if (log !== undefined) logOutcome(log, { group, error, needsResync });
    },
    openSession: async (options) => {
      const attributes = { group: options.document.group };
      const session = await inSpan(tracer, { name: 'tidemark.group.open', attributes }, () =>
        GroupSession.open(options),
      );
      const cycle = session.cycle.bind(session);
      session.cycle = (sliceMs) =>
        inSpan(tracer, { name: 'tidemark.group.cycle', attributes }, async () => {
          const beganAtMs = performance.now();
          try {
            return await cycle(sliceMs);
          } finally {
            instruments.record('tidemark.cycle.duration', (performance.now() - beganAtMs) / 1000, attributes);
          }
        });
      return session;
    },
    watch: (counters) => {
      for (const [name, read] of drainReadings(counters, clock)) endings.push(instruments.observe(name, read));
    },
    stop: () => {
      for (const end of endings.splice(0)) end();
    },
  };
}

function countEvent({ instruments }: Telemetry, group: string, event: MonitoringEvent): void {
  const { type, data } = event;
  instruments.add('tidemark.events', 1, { group, event: type, severity: severityOf(event) });
  if (type === 'PointCreated') instruments.add('tidemark.points.created', 1, { group, kind: data.kind });
  if (type === 'PointsPruned') {
    instruments.add('tidemark.points.pruned', data.removed.length + (data.omitted ?? 0), { group });
  }
  if (type === 'CrashConsistentPointMissed' || type === 'AppConsistentPointMissed') {
    const kind = type === 'CrashConsistentPointMissed' ? 'crash' : 'app';
    instruments.add('tidemark.points.missed', 1, { group, kind, reason: data.reason });
  }
}

/** In the span of the cycle that it happened in. Figures are metrics already. */
function noteInSpan({ type, data }: MonitoringEvent): void {
  if (type === 'LagReported' || type === 'InitialReplicationProgress') return;
  const attributes: Attributes = {};
  for (const [key, value] of Object.entries(data)) {
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') attributes[key] = value;
  }
  trace.getSpan(context.active())?.addEvent(type, attributes);
}

type Reading = readonly [name: ObservedName, read: () => Iterable<Measurement>];

/** The newest figures of each group that is drained here. */
class LagFigures {
  readonly #clock: ObserverOptions['clock'];
  readonly #groups = new Map<string, { readonly lag: Lag; readonly atMs: number; readonly atUs: number }>();

  constructor(clock: ObserverOptions['clock']) {
    this.#clock = clock;
  }

  take(group: string, lag: Lag): void {
    this.#groups.set(group, { lag, atMs: this.#clock.nowMs(), atUs: this.#clock.nowUs() });
  }

  readings(): readonly Reading[] {
    return [
      ['tidemark.rpo.received', () => this.#ofGroups(({ receivedRpoSeconds }) => receivedRpoSeconds)],
      ['tidemark.rpo.recoverable', () => this.#ofGroups(({ recoverableRpoSeconds }) => recoverableRpoSeconds)],
      ['tidemark.backlog.size', () => this.#ofGroups(({ backlogBytes }) => backlogBytes)],
      ['tidemark.disk.backlog', () => this.#ofDisks(({ backlogBytes }) => backlogBytes)],
      [
        'tidemark.disk.lag',
        () =>
          this.#ofDisks(({ watermark }, atUs) =>
            watermark === null ? null : Math.max(0, atUs / 1_000_000 - Date.parse(watermark) / 1000),
          ),
      ],
    ];
  }

  *#ofGroups(figure: (lag: Lag) => number | null): Iterable<Measurement> {
    for (const [group, { lag }] of this.#fresh()) {
      const value = figure(lag);
      if (value !== null) yield { value, attributes: { group } };
    }
  }

  *#ofDisks(figure: (disk: Lag['disks'][number], atUs: number) => number | null): Iterable<Measurement> {
    for (const [group, { lag, atUs }] of this.#fresh()) {
      for (const each of lag.disks) {
        const value = figure(each, atUs);
        if (value !== null) yield { value, attributes: { group, machine: each.machine, disk: each.disk } };
      }
    }
  }

  #fresh() {
    const nowMs = this.#clock.nowMs();
    for (const [group, { atMs }] of this.#groups) if (nowMs - atMs > LAG_LIFETIME_MS) this.#groups.delete(group);
    return this.#groups;
  }
}

function drainReadings(counters: Readonly<DrainCounters>, clock: ObserverOptions['clock']): readonly Reading[] {
  const total = (read: () => number) => () => [{ value: read() }];
  const byOperation = (put: () => number, clear: () => number) => () => [
    { value: put(), attributes: { operation: 'put' } },
    { value: clear(), attributes: { operation: 'clear' } },
  ];
  let { payloadBytes } = counters;
  let atMs = clock.nowMs();
  const throughput = (): Measurement[] => {
    const [bytes, ms] = [counters.payloadBytes - payloadBytes, clock.nowMs() - atMs];
    payloadBytes = counters.payloadBytes;
    atMs = clock.nowMs();
    return ms <= 0 ? [] : [{ value: (bytes * 1000) / ms }];
  };
  return [
    ['tidemark.apply.throughput', throughput],
    ['tidemark.apply.log', total(() => counters.logBytes)],
    ['tidemark.apply.payload', total(() => counters.payloadBytes)],
    ['tidemark.apply.live', total(() => counters.liveBytes)],
    ['tidemark.apply.segments', total(() => counters.segments)],
    ['tidemark.apply.changes', total(() => counters.changes)],
    [
      'tidemark.apply.requests',
      byOperation(
        () => counters.putRequests,
        () => counters.clearRequests,
      ),
    ],
    [
      'tidemark.apply.written',
      byOperation(
        () => counters.putBytes,
        () => counters.clearBytes,
      ),
    ],
  ];
}
