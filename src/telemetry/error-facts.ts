/** Pure. An error as plain facts for logs and spans, without secrets. */
import { TidemarkError } from '../errors.ts';
import { redactSecrets } from './redact.ts';

/** Causes deeper than this are left out; chains are three long in practice. */
const MAX_DEPTH = 8;

export interface ErrorFacts {
  /** Name of its class, such as `TidemarkError` or `RestError`. */
  readonly type: string;
  readonly message: string;
  readonly stack?: string;
  /** Of the catalogue, or of the library that threw it. */
  readonly code?: string;
  readonly class?: string;
  readonly hint?: string;
  readonly details?: Readonly<Record<string, string | number>>;
  readonly cause?: ErrorFacts;
}

export function errorFacts(error: unknown, depth = 0): ErrorFacts {
  if (!(error instanceof Error)) return { type: typeof error, message: redactSecrets(String(error)) };
  const { message, stack, cause } = error;
  const code: unknown = 'code' in error ? error.code : undefined;
  return {
    type: redactSecrets(error.name),
    message: redactSecrets(message),
    ...(stack !== undefined && { stack: redactSecrets(stack) }),
    ...((typeof code === 'string' || typeof code === 'number') && { code: redactSecrets(String(code)) }),
    ...(error instanceof TidemarkError && ownFacts(error)),
    ...(cause !== undefined && depth < MAX_DEPTH && { cause: errorFacts(cause, depth + 1) }),
  };
}

function ownFacts(error: TidemarkError): Pick<ErrorFacts, 'class' | 'hint' | 'details'> {
  const details = Object.entries(error.details).map(([key, value]) => [
    key,
    typeof value === 'string' ? redactSecrets(value) : value,
  ]);
  return {
    class: error.class,
    hint: error.hint,
    details: Object.fromEntries(details) as ErrorFacts['details'] & object,
  };
}

/** The code under which an error is counted: of the catalogue, else `UNEXPECTED`. */
export const codeOfError = (error: unknown): string => (error instanceof TidemarkError ? error.code : 'UNEXPECTED');
