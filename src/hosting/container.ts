/** The container's composition root: the only place of it that reads the process's environment and signals. Logs JSON lines only. */
import { bridgeSdkLog } from '../azure/sdk-log.ts';
import { parseConfiguration } from '../config.ts';
import { TidemarkError } from '../errors.ts';
import { openRuntime } from '../runtime.ts';
import { createLog, sdkLines, type Log } from '../telemetry/log.ts';
import { startTelemetry } from '../telemetry/start.ts';
import { observeWorker } from '../telemetry/worker-observer.ts';
import { runHost } from './host.ts';

/** TLS is spoken by the ingress in front. */
const HOST = '0.0.0.0';
/** Of the time to drain: what giving back sessions and leases, and sending telemetry, take at the most; no more than half of it. */
const END_RESERVE_MS = 10_000;
/** A signal sooner after the first one is the same one, passed on by a launcher. */
const SECOND_SIGNAL_MS = 500;
/** When a library leaves a socket open, the process ends this long after its work anyway. */
const EXIT_GRACE_MS = 500;

await main();

async function main(): Promise<void> {
  const { env, stdout } = process;
  const early = createLog({ level: 'info', stream: stdout });
  process.on('uncaughtException', (error) => fail(early, error));
  process.on('unhandledRejection', (error) => fail(early, error));
  try {
    const configuration = parseConfiguration(env);
    const log = createLog({ level: configuration.telemetry.logLevel, stream: stdout });
    bridgeSdkLog(configuration.telemetry.logLevel, sdkLines(log));
    const signals = watchSignals(log, configuration.hosting.drainMs);
    const report = (message: string): void => log.warn(message);
    const telemetry = await startTelemetry(configuration.telemetry, { report });
    const runtime = openRuntime(configuration, { telemetry });
    const observer = observeWorker({ telemetry, clock: runtime.ports.clock, log });
    try {
      const nowMs = (): number => performance.now();
      await runHost({ configuration, runtime, log, observer, host: HOST, nowMs, ...signals });
    } finally {
      observer.stop();
      await runtime.close();
      await telemetry.shutdown();
    }
    log.info('ended');
    setTimeout(() => process.exit(0), EXIT_GRACE_MS).unref();
  } catch (error) {
    fail(early, error);
  }
}

/** The platform starts the process again. */
function fail(log: Log, error: unknown): never {
  log.fatal({ err: error }, 'the process ends');
  process.exit(1);
}

/** The first signal begins to drain; what is in hand near the limit is left where it is. A second signal, or the limit, ends the process. */
function watchSignals(log: Log, drainMs: number): { readonly draining: AbortSignal; readonly signal: AbortSignal } {
  const draining = new AbortController();
  const stop = new AbortController();
  let firstAtMs = Infinity;
  const onSignal = (name: 'SIGINT' | 'SIGTERM'): void => {
    if (draining.signal.aborted) {
      if (performance.now() - firstAtMs >= SECOND_SIGNAL_MS) process.exit(1);
      return;
    }
    firstAtMs = performance.now();
    log.info({ signal: name, drainMs }, 'draining');
    const reason = new TidemarkError('INTERRUPTED', `stopped by ${name}`);
    draining.abort(reason);
    setTimeout(() => stop.abort(reason), drainMs - Math.min(END_RESERVE_MS, drainMs / 2)).unref();
    setTimeout(() => {
      fail(log, new TidemarkError('INTERRUPTED', `not everything was given back within ${drainMs / 1000} s`));
    }, drainMs).unref();
  };
  process.on('SIGINT', () => onSignal('SIGINT')).on('SIGTERM', () => onSignal('SIGTERM'));
  return { draining: draining.signal, signal: stop.signal };
}
