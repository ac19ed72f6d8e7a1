/** Spans around work, and what an error says in one. The only place that begins and ends them. */
import { SpanStatusCode, type Attributes, type Span, type Tracer } from '@opentelemetry/api';
import { codeOfError, errorFacts } from './error-facts.ts';

/** Runs `work` in a span that spans within it are children of. An error is noted, without secrets, and passes on. */
export function inSpan<T>(
  tracer: Tracer,
  { name, attributes }: { readonly name: string; readonly attributes: Attributes },
  work: (span: Span) => Promise<T>,
): Promise<T> {
  return tracer.startActiveSpan(name, { attributes }, async (span) => {
    try {
      return await work(span);
    } catch (error) {
      failSpan(span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

export function failSpan(span: Span, error: unknown): void {
  const { type, message, stack, cause } = errorFacts(error);
  span.setStatus({ code: SpanStatusCode.ERROR, message });
  span.setAttribute('error.type', codeOfError(error));
  const causes: string[] = [];
  for (let at = cause; at !== undefined; at = at.cause)
    causes.push(`caused by ${at.stack ?? `${at.type}: ${at.message}`}`);
  span.addEvent('exception', {
    'exception.type': type,
    'exception.message': message,
    'exception.stacktrace': [stack ?? message, ...causes].join('\n'),
  });
}
