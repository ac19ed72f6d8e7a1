/** The worker's second task: commands that come as messages. */
import type { ListenerOptions } from '../commands/listener.ts';
import { handleWaiting, listen } from '../commands/listener.ts';
import { createJobRunner } from '../commands/job-runner.ts';
import { TidemarkError } from '../errors.ts';
import type { Runtime } from '../runtime.ts';
import type { CliContext } from './context.ts';
import { errorLines } from './report.ts';

/** Carries out commands as they come, until `work` has ended. */
export async function besideCommands(context: CliContext, runtime: Runtime, work: () => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const options = listenerOptions(context, runtime, signal);
  const listening = listen(options, signal);
  try {
    await work();
  } finally {
    stop.abort(new TidemarkError('INTERRUPTED', 'the worker ends'));
    await listening.catch(() => undefined); // the signal's reason
    await options.queue.close();
    await options.runner.idle();
  }
}

/** Carries out what waits now. @returns false when something stays, which is reported */
export async function doWaitingCommands(context: CliContext, runtime: Runtime): Promise<boolean> {
  const options = listenerOptions(context, runtime, context.signal);
  try {
    await handleWaiting(options, context.signal);
    return true;
  } catch (error) {
    context.signal.throwIfAborted();
    options.report(error);
    return false;
  } finally {
    await options.queue.close();
  }
}

function listenerOptions(context: CliContext, runtime: Runtime, signal: AbortSignal): ListenerOptions {
  const { commands, ports } = runtime;
  const { clock } = ports;
  const random = Math.random;
  return {
    queue: runtime.openCommandQueue(),
    commands,
    runner: createJobRunner({ commands, sleep: (ms, until) => clock.sleep(ms, until), random, signal }),
    clock,
    random,
    report: (error) => {
      context.stderr.write(`commands: ${errorLines(error)}`);
    },
  };
}
