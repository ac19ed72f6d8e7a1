/** The metrics as instruments of an OpenTelemetry meter. Without an SDK behind it they do nothing. */
import type { Attributes, Counter, Histogram, Meter, Observable } from '@opentelemetry/api';
import type { AdapterObserver } from './adapter-observer.ts';
import { METRICS, type CounterName, type HistogramName, type MetricName, type ObservedName } from './metrics.ts';

export interface Measurement {
  readonly value: number;
  readonly attributes?: Attributes;
}

export interface Instruments {
  add(name: CounterName, value: number, attributes?: Attributes): void;
  record(name: HistogramName, value: number, attributes?: Attributes): void;
  /**
   * `read` is asked at each collection, and must not fail.
   * @returns what ends that
   */
  observe(name: ObservedName, read: () => Iterable<Measurement>): () => void;
}

export function createInstruments(meter: Meter): Instruments {
  const counters = new Map<string, Counter>();
  const histograms = new Map<string, Histogram>();
  const observables = new Map<string, Observable>();
  for (const name of Object.keys(METRICS) as MetricName[]) {
    const { kind, unit, description } = METRICS[name];
    const options = { unit, description };
    if (kind === 'counter') counters.set(name, meter.createCounter(name, options));
    else if (kind === 'histogram') histograms.set(name, meter.createHistogram(name, options));
    else if (kind === 'gauge') observables.set(name, meter.createObservableGauge(name, options));
    else observables.set(name, meter.createObservableCounter(name, options));
  }
  return {
    add: (name, value, attributes) => counters.get(name)?.add(value, attributes),
    record: (name, value, attributes) => histograms.get(name)?.record(value, attributes),
    observe: (name, read) => {
      const instrument = observables.get(name);
      const callback: Parameters<Observable['addCallback']>[0] = (result) => {
        for (const { value, attributes } of read()) result.observe(value, attributes);
      };
      instrument?.addCallback(callback);
      return () => instrument?.removeCallback(callback);
    },
  };
}

/** Counts the traffic of the adapters. */
export const adapterMetrics = (instruments: Instruments): AdapterObserver => ({
  onRequest: ({ account, operation, status, durationMs }) => {
    instruments.add('tidemark.storage.requests', 1, { account, operation, status: statusClass(status) });
    instruments.record('tidemark.storage.request.duration', durationMs / 1000, { account, operation });
  },
  onThrottled: ({ account, status, pauseMs }) => {
    instruments.add('tidemark.throttles', 1, { account, status: String(status) });
    instruments.record('tidemark.throttle.pause', pauseMs / 1000, { account });
  },
  onLease: ({ account, container, event }) => instruments.add('tidemark.leases', 1, { account, container, event }),
  onMessaging: ({ operation, messages, ok }) => {
    instruments.add('tidemark.messaging.calls', 1, { operation, ok });
    if (messages > 0) instruments.add('tidemark.messaging.messages', messages, { operation });
  },
});

const statusClass = (status: number): string => (status === 0 ? 'none' : `${Math.floor(status / 100)}xx`);
