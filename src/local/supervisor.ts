/**
 * The process behind `tidemark local up --detach`: starts the stack, says so over IPC, and keeps it up until SIGTERM.
 * When whoever started it goes away before the stack is up, it gives up.
 *
 * usage: node supervisor.ts OPTIONS, with OPTIONS = JSON of {@link SupervisorOptions}
 */
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import { startStack } from './stack.ts';

const optionsSchema = z.object({ home: z.string(), portBase: z.number().optional(), fresh: z.boolean() });
export type SupervisorOptions = z.infer<typeof optionsSchema>;

/** What the supervisor tells its parent, once. */
export type SupervisorReport =
  | { readonly status: 'ready' }
  | { readonly status: 'failed'; readonly code: string; readonly message: string };

const stopRequest = new AbortController();
const giveUp = (): void => stopRequest.abort(new TidemarkError('INTERRUPTED', 'asked to stop'));
process.on('SIGTERM', giveUp).on('SIGINT', giveUp).on('disconnect', giveUp);

/** Sends the report, then lets go of the parent. */
async function report(message: SupervisorReport): Promise<void> {
  process.off('disconnect', giveUp);
  await new Promise<void>((resolve) => {
    if (process.send === undefined || !process.connected) resolve();
    else process.send(message, undefined, undefined, () => resolve());
  });
  if (process.connected) process.disconnect();
}

try {
  const options = optionsSchema.parse(JSON.parse(process.argv[2] ?? '{}'));
  const stack = await startStack({ ...options, signal: stopRequest.signal });
  await report({ status: 'ready' });
  const stopped = new Promise<undefined>((resolve) => {
    if (stopRequest.signal.aborted) resolve(undefined);
    else stopRequest.signal.addEventListener('abort', () => resolve(undefined));
  });
  const failure = await Promise.race([stack.ended, stopped]);
  await stack.stop();
  if (failure !== undefined) throw failure;
} catch (error) {
  const { code, message } = error instanceof TidemarkError ? error : { code: 'UNEXPECTED', message: String(error) };
  process.stderr.write(`error[${code}]: ${message}\n`);
  await report({ status: 'failed', code, message });
  process.exitCode = 1;
}
