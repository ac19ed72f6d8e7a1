/** What the parts of Tidemark report to: instruments and a tracer. */
import { metrics, trace, type Tracer } from '@opentelemetry/api';
import { createInstruments, type Instruments } from './instruments.ts';

/** Of meter and tracer. */
export const SCOPE = 'tidemark';

export interface Telemetry {
  readonly instruments: Instruments;
  readonly tracer: Tracer;
}

/** That of the OpenTelemetry API: nothing, unless the process that hosts Tidemark has registered an SDK of its own before. */
export const apiTelemetry = (): Telemetry => ({
  instruments: createInstruments(metrics.getMeter(SCOPE)),
  tracer: trace.getTracer(SCOPE),
});
