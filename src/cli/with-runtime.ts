import type { Runtime } from '../runtime.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { CliContext } from './context.ts';

/** Runs `work` with the ports that the command's configuration names, and closes them whatever happens. */
export async function withRuntime<T>(
  context: CliContext,
  work: (runtime: Runtime) => Promise<T>,
  telemetry?: Telemetry,
): Promise<T> {
  const configuration = context.configuration();
  const { openRuntime } = await import('../runtime.ts'); // the Azure SDKs take longer to load than most commands to run
  const runtime = openRuntime(configuration, telemetry === undefined ? {} : { telemetry });
  try {
    return await work(runtime);
  } finally {
    await runtime.close();
  }
}

/** As {@link withRuntime}, and exports metrics and traces if there is somewhere to: for commands that stay. */
export async function withObservedRuntime<T>(
  context: CliContext,
  work: (runtime: Runtime, telemetry: Telemetry) => Promise<T>,
): Promise<T> {
  const { startTelemetry } = await import('../telemetry/start.ts');
  const report = (message: string): void => context.stderr.write(`${message}\n`);
  const telemetry = await startTelemetry(context.configuration().telemetry, { report });
  try {
    return await withRuntime(context, (runtime) => work(runtime, telemetry), telemetry);
  } finally {
    await telemetry.shutdown();
  }
}
