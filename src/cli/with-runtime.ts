import type { Runtime } from '../runtime.ts';
import type { CliContext } from './context.ts';

/** Runs `work` with the ports that the command's configuration names, and closes them whatever happens. */
export async function withRuntime<T>(context: CliContext, work: (runtime: Runtime) => Promise<T>): Promise<T> {
  const configuration = context.configuration();
  const { openRuntime } = await import('../runtime.ts'); // the Azure SDKs take longer to load than most commands to run
  const runtime = openRuntime(configuration);
  try {
    return await work(runtime);
  } finally {
    await runtime.close();
  }
}
