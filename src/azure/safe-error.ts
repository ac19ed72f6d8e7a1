/** Pure. Errors of the SDKs as causes of ours. */
import { TidemarkError } from '../errors.ts';
import { redactSecrets } from '../telemetry/redact.ts';

/** Of a chain of causes; deeper ones are left out. */
const MAX_DEPTH = 8;

/**
 * A copy that says what happened and where, and can be shown whole. The SDKs' own errors hold the request with its headers and URL, and the
 * answer, which may quote both; whoever prints such an error with its properties prints a secret.
 */
export function safeError(error: unknown, depth = 0): Error {
  if (error instanceof TidemarkError) return error;
  if (!(error instanceof Error)) return new Error(redactSecrets(String(error)));
  const { cause, stack } = error;
  const hasCause = cause !== undefined && depth < MAX_DEPTH;
  const copy = new Error(redactSecrets(error.message), hasCause ? { cause: safeError(cause, depth + 1) } : undefined);
  copy.name = redactSecrets(error.name);
  if (stack === undefined) delete copy.stack;
  else copy.stack = redactSecrets(stack);
  const code: unknown = 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? Object.assign(copy, { code: redactSecrets(code) }) : copy;
}
