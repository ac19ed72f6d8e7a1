/** The log of a host: one JSON document per line. */
import { pino, stdTimeFunctions, type Logger } from 'pino';
import { errorFacts } from './error-facts.ts';
import type { LogLevel } from './log-levels.ts';
import { redactSecrets } from './redact.ts';

export type Log = Logger;

export interface LogOptions {
  readonly level: LogLevel;
  /** Gets each line with its end of line, at once. */
  readonly stream: { write(line: string): void };
}

/**
 * Fields are `time` (ISO), `level` (a word), `msg`, and what the call gives: `group`, `disk`, `cut`, `job`, `point`. An error under `err` is
 * written with its causes, and gives the line its `code`, `class` and `hint`. Secrets are taken out of the finished line, so that none gets
 * through in whatever field.
 */
export function createLog({ level, stream }: LogOptions): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: withErrorFields },
      serializers: { err: (error: unknown) => (error instanceof Error ? errorFacts(error) : error) },
      hooks: { streamWrite: redactSecrets },
    },
    stream,
  );
}

function withErrorFields(fields: Record<string, unknown>): Record<string, unknown> {
  if (!(fields['err'] instanceof Error)) return fields;
  const { code, class: errorClass, hint } = errorFacts(fields['err']);
  return {
    ...fields,
    ...(code !== undefined && { code }),
    ...(errorClass !== undefined && { class: errorClass }),
    ...(hint !== undefined && { hint }),
  };
}

/** Takes lines of the Azure SDKs (`bridgeSdkLog` in src/azure/sdk-log.ts) into `log`. */
export const sdkLines =
  (log: Log) =>
  (level: 'error' | 'warn' | 'debug' | 'trace', { sdk, text }: { readonly sdk: string; readonly text: string }): void =>
    log[level]({ sdk }, text);
