import { openRuntime, type Runtime } from '../runtime.ts';
import type { CliContext } from './context.ts';

/** Runs `work` with the ports that the command's configuration names, and closes them whatever happens. */
export async function withRuntime<T>(context: CliContext, work: (runtime: Runtime) => Promise<T>): Promise<T> {
  const runtime = openRuntime(context.configuration());
  try {
    return await work(runtime);
  } finally {
    await runtime.close();
  }
}
