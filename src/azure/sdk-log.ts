/** The log of the Azure SDKs, told to a logger of ours. */
import { format } from 'node:util';
import { AzureLogger, type AzureLogLevel, setLogLevel } from '@azure/logger';
import { redactSecrets } from '../telemetry/redact.ts';

/** Levels of a log line here; the SDKs tell of every request at `info`, which is a detail to us. */
export type SdkLineLevel = 'error' | 'warn' | 'debug' | 'trace';

const LEVEL_OF: Readonly<Record<AzureLogLevel, SdkLineLevel>> = {
  error: 'error',
  warning: 'warn',
  info: 'debug',
  verbose: 'trace',
};

/** The SDKs' level that gives no more than what a log of this level shows. */
const SDK_LEVEL: Readonly<Record<string, AzureLogLevel | undefined>> = {
  trace: 'verbose',
  debug: 'info',
  info: 'warning',
  warn: 'warning',
  error: 'error',
  fatal: 'error',
};

/** The SDKs say `azure:storage-blob:info` before each line. */
const NAMESPACE = /^(azure:\S+):(verbose|info|warning|error) /;
/** A line of the SDK may quote a whole answer. */
const MAX_CHARACTERS = 4000;

/**
 * From now on each line of the SDKs goes to `write`, without secrets and cut to a bounded length.
 * @param logLevel of the log behind `write`; with `silent` the SDKs say nothing
 * @returns what undoes it
 */
export function bridgeSdkLog(
  logLevel: string,
  write: (level: SdkLineLevel, line: { readonly sdk: string; readonly text: string }) => void,
): () => void {
  const before = AzureLogger.log;
  setLogLevel(SDK_LEVEL[logLevel]);
  AzureLogger.log = (...parts: unknown[]) => {
    const text = format(...parts);
    const [whole = '', sdk = 'azure', level = 'verbose'] = NAMESPACE.exec(text) ?? [];
    const clean = redactSecrets(text.slice(whole.length));
    const shown = clean.length > MAX_CHARACTERS ? `${clean.slice(0, MAX_CHARACTERS)}…` : clean;
    write(LEVEL_OF[level as AzureLogLevel], { sdk, text: shown });
  };
  return () => {
    AzureLogger.log = before;
    setLogLevel();
  };
}
