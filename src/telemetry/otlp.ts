/** The OpenTelemetry SDK with exporters for OTLP over HTTP. Imported only when there is somewhere to export to. */
import { randomUUID } from 'node:crypto';
import { SpanStatusCode } from '@opentelemetry/api';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  InstrumentType,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import {
  BatchSpanProcessor,
  TracerProvider,
  type ReadableSpan,
  type SpanExporter,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace';

export interface OtlpOptions {
  /** Without a slash at its end; `/v1/metrics` and `/v1/traces` come behind it. */
  readonly baseUrl: string;
  readonly exportIntervalMs: number;
  readonly exportTimeoutMs: number;
  readonly maxWaitingSpans: number;
}

export interface Providers {
  readonly meters: MeterProvider;
  readonly traces: TracerProvider;
  /** Sends what waits, then ends. */
  shutdown(): Promise<void>;
}

/** Otherwise the SDK goes on to export the last value of a gauge that is observed no more: that of a group which is drained elsewhere now. */
export const temporalityOf = (type: InstrumentType): AggregationTemporality =>
  type === InstrumentType.OBSERVABLE_GAUGE ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE;

export function openProviders({ baseUrl, exportIntervalMs, exportTimeoutMs, maxWaitingSpans }: OtlpOptions): Providers {
  const resource = resourceFromAttributes({
    'service.name': 'tidemark',
    'service.instance.id': randomUUID(),
  }).merge(detectResources({ detectors: [envDetector] })); // OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win
  const meters = new MeterProvider({
    resource,
    readers: [
      new PeriodicExportingMetricReader({
        exporter: Object.assign(
          new OTLPMetricExporter({ url: `${baseUrl}/v1/metrics`, timeoutMillis: exportTimeoutMs }),
          { selectAggregationTemporality: temporalityOf },
        ),
        exportIntervalMillis: exportIntervalMs,
        exportTimeoutMillis: exportTimeoutMs,
      }),
    ],
  });
  const exporter = new OTLPTraceExporter({ url: `${baseUrl}/v1/traces`, timeoutMillis: exportTimeoutMs });
  const traces = new TracerProvider({
    resource,
    spanProcessors: [withoutIdleCycles(batches(exporter, { exportTimeoutMs, maxWaitingSpans }))],
  });
  return {
    meters,
    traces,
    shutdown: async () => {
      await Promise.allSettled([meters.shutdown(), traces.shutdown()]);
    },
  };
}

const batches = (
  exporter: SpanExporter,
  { exportTimeoutMs, maxWaitingSpans }: Pick<OtlpOptions, 'exportTimeoutMs' | 'maxWaitingSpans'>,
): SpanProcessor =>
  new BatchSpanProcessor({ exporter, exportTimeoutMillis: exportTimeoutMs, maxQueueSize: maxWaitingSpans });

/** A cycle is worth a span when something came of it, or when it took this long. */
const LONG_CYCLE_MS = 1000;

/** A group that is up to date has a cycle every two seconds, in which nothing happens. */
export const isIdleCycle = ({ name, events, status, duration: [seconds, nanoseconds] }: ReadableSpan): boolean =>
  name === 'tidemark.group.cycle' &&
  events.length === 0 &&
  status.code !== SpanStatusCode.ERROR &&
  seconds * 1000 + nanoseconds / 1e6 < LONG_CYCLE_MS;

const withoutIdleCycles = (inner: SpanProcessor): SpanProcessor => ({
  onStart: (span, parent) => inner.onStart(span, parent),
  onEnd: (span) => {
    if (!isIdleCycle(span)) inner.onEnd(span);
  },
  forceFlush: () => inner.forceFlush(),
  shutdown: () => inner.shutdown(),
});
