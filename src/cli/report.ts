/** Errors as the operator sees them: `error[CODE]: what happened` and `hint: what to do`. */
import { TidemarkError } from '../errors.ts';
import { redactSecrets } from '../telemetry/redact.ts';
import type { CliContext } from './context.ts';

/** Writes the error to stderr. @returns the exit code, or `interrupted` when a signal ended the command */
export function reportError(
  error: unknown,
  context: Pick<CliContext, 'stderr' | 'env' | 'signal'>,
): 1 | 2 | 'interrupted' {
  const interrupted = context.signal.aborted && (error === context.signal.reason || isAbort(error));
  const shown = interrupted ? asTidemarkError(context.signal.reason) : asTidemarkError(error);
  context.stderr.write(errorLines(shown));
  if (context.env['TIDEMARK_DEBUG'] === '1') context.stderr.write(`${traceOf(error)}\n`);
  if (interrupted) return 'interrupted';
  return shown.code === 'USAGE' ? 2 : 1;
}

/** What happened and what to do: two lines. No secret gets through here, whoever made the message. */
export function errorLines(error: unknown): string {
  const { code, message, hint } = asTidemarkError(error);
  return `error[${code}]: ${redactSecrets(message)}\nhint: ${hint}\n`;
}

function asTidemarkError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  return new TidemarkError('UNEXPECTED', error instanceof Error ? `${error.name}: ${error.message}` : String(error), {
    cause: error,
  });
}

const isAbort = (error: unknown): boolean => error instanceof Error && error.name === 'AbortError';

/** The stack and those of all causes. */
function traceOf(error: unknown): string {
  const lines: string[] = [];
  for (let at: unknown = error; at instanceof Error; at = at.cause) lines.push(at.stack ?? String(at));
  return redactSecrets(lines.join('\ncaused by: '));
}
