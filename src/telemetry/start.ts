/** Begins to export metrics and traces over OTLP, when a place for them is set; loads no SDK otherwise. */
import { context, diag, DiagLogLevel, type DiagLogger } from '@opentelemetry/api';
import type { Configuration } from '../config.ts';
import { createInstruments } from './instruments.ts';
import { redactSecrets } from './redact.ts';
import { apiTelemetry, SCOPE, type Telemetry } from './telemetry.ts';

export interface RunningTelemetry extends Telemetry {
  /** Sends what waits, for at most {@link FLUSH_LIMIT_MS}, and ends the export. What is not sent by then is lost. Never throws. */
  shutdown(): Promise<void>;
}

export interface TelemetryOptions {
  /** Told once when exports begin to fail, and why nothing is exported when that is so; without secrets. */
  readonly report: (message: string) => void;
  /** Between two exports of metrics. */
  readonly exportIntervalMs?: number;
}

/** With what else a worker's end may take it stays below the ten seconds in which a service manager expects a process to be gone. */
export const FLUSH_LIMIT_MS = 2000;
/** The usual distance of metrics, and that of the figures of lag. */
const EXPORT_INTERVAL_MS = 60_000;
/** Of one export; no more than half of the interval. */
const EXPORT_TIMEOUT_MS = 5000;
/** Spans that wait to be exported; beyond them, new ones are dropped. */
const MAX_WAITING_SPANS = 2048;
/** JSON is what is sent; collectors take it where they take the other one. */
const PROTOCOLS = ['http/json', 'http/protobuf'];

export async function startTelemetry(
  { otlpEndpoint, otlpProtocol }: Configuration['telemetry'],
  options: TelemetryOptions,
): Promise<RunningTelemetry> {
  const nothing = { ...apiTelemetry(), shutdown: async () => undefined };
  if (otlpEndpoint === undefined) return nothing;
  if (otlpProtocol !== undefined && !PROTOCOLS.includes(otlpProtocol)) {
    options.report(
      `OTEL_EXPORTER_OTLP_PROTOCOL is ${otlpProtocol}; nothing is exported, since only OTLP over HTTP is spoken`,
    );
    return nothing;
  }
  return startExport(otlpEndpoint, options);
}

async function startExport(endpoint: string, options: TelemetryOptions): Promise<RunningTelemetry> {
  const { report, exportIntervalMs = EXPORT_INTERVAL_MS } = options;
  diag.setLogger(onceTo(report), { logLevel: DiagLogLevel.ERROR, suppressOverrideMessage: true });
  const [sdk, { AsyncLocalStorageContextManager }] = await Promise.all([
    import('./otlp.ts'),
    import('@opentelemetry/context-async-hooks'),
  ]);
  const contexts = new AsyncLocalStorageContextManager().enable();
  context.setGlobalContextManager(contexts);
  const providers = sdk.openProviders({
    baseUrl: endpoint.replace(/\/+$/, ''),
    exportIntervalMs,
    exportTimeoutMs: Math.min(EXPORT_TIMEOUT_MS, exportIntervalMs / 2),
    maxWaitingSpans: MAX_WAITING_SPANS,
  });
  return {
    instruments: createInstruments(providers.meters.getMeter(SCOPE)),
    tracer: providers.traces.getTracer(SCOPE),
    shutdown: async () => {
      const inTime = await within(FLUSH_LIMIT_MS, providers.shutdown());
      if (!inTime) report(`telemetry was not taken within ${FLUSH_LIMIT_MS} ms; what waited is lost`);
      context.disable();
      contexts.disable();
      diag.disable();
    },
  };
}

/** An endpoint that does not answer is told of once, and not at every export. */
function onceTo(report: (message: string) => void): DiagLogger {
  let told = false;
  const error = (message: string): void => {
    if (told) return;
    told = true;
    report(`telemetry cannot be exported: ${redactSecrets(shorten(message))}`);
  };
  const silent = (): void => undefined;
  return { error, warn: silent, info: silent, debug: silent, verbose: silent };
}

/** The SDK tells of an error as JSON, with its stack. */
function shorten(message: string): string {
  try {
    const parsed = JSON.parse(message) as { readonly message?: unknown; readonly code?: unknown };
    return [parsed.code, parsed.message].filter((part) => typeof part === 'string' && part !== '').join(' ') || message;
  } catch {
    return message;
  }
}

/** Waits for `work`, and not beyond `ms`; whether it succeeds has been told elsewhere. @returns whether it has ended */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), ms);
  const inTime = await Promise.race([work.then(() => true).catch(() => true), promise]);
  clearTimeout(timer);
  return inTime;
}
