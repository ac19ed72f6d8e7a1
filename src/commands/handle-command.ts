/**
 * One command that came as a message. It stays in its listener's hands until its job has ended; what becomes of a message whose listener
 * dies is the next one's to do, which finds the same job by the message's id.
 */
import { TidemarkError } from '../errors.ts';
import { MESSAGING_RETRY, withRetries, type RetryPolicy } from '../retry.ts';
import type { Clock } from '../worker/ports.ts';
import type { CommandMessage, CommandQueue, CommandSession } from './command-queue.ts';
import type { CommandService, JobView } from './commands.ts';
import type { JobRunner } from './job-runner.ts';
import { hasEnded } from './job-view.ts';
import {
  jobReply,
  refusal,
  replyAddressOf,
  replyMessage,
  requestOf,
  type CommandRequest,
  type Reply,
  type ReplyAddress,
} from './messages.ts';

/** Of the queue, as infra/service-bus/Config.json has it: after the last delivery, the queue would give the message up without a word. */
export const MAX_DELIVERIES = 5;
/** How often, and how long, a job is looked at that another executor has taken over; then it is taken back. */
const FOLLOW = { everyMs: 1000, looks: 300 } as const;

export interface CommandOptions {
  readonly queue: CommandQueue;
  readonly commands: CommandService;
  readonly runner: JobRunner;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  /** Told of replies that nobody takes. */
  readonly report: (error: unknown) => void;
}

interface Handling extends CommandOptions {
  readonly session: CommandSession;
  readonly message: CommandMessage;
  readonly signal: AbortSignal;
}

/** @returns what passes, when the message was given back because of it */
export async function handleCommand(handling: Handling): Promise<TidemarkError | undefined> {
  const { queue, session, message, signal } = handling;
  let address: ReplyAddress | undefined;
  let request: CommandRequest;
  try {
    address = replyAddressOf(message, queue.name);
    request = requestOf(session.id, message);
  } catch (error) {
    await giveUp(handling, address, asTidemarkError(error));
    return undefined;
  }
  try {
    await perform(handling, request, address);
    await session.complete(message, signal);
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    const failure = asTidemarkError(error);
    if (failure.class === 'operator') {
      await reply(handling, address, refusal(failure));
      await session.complete(message, signal);
    } else if (failure.class !== 'retry' || message.earlierDeliveries + 1 >= MAX_DELIVERIES) {
      await giveUp(handling, address, failure);
    } else {
      await session.abandon(message, signal);
      return failure;
    }
    return undefined;
  }
}

async function giveUp(handling: Handling, address: ReplyAddress | undefined, error: TidemarkError): Promise<void> {
  const { session, message, signal } = handling;
  await reply(handling, address, refusal(error));
  await session.deadLetter(message, { code: error.code, description: error.message }, signal);
}

async function perform(handling: Handling, request: CommandRequest, address: ReplyAddress | undefined): Promise<void> {
  const { commands, signal } = handling;
  const { command, key, requestedBy } = request;
  const job = await withRetries(policyOf(handling), signal, () =>
    commands.submit(command, { idempotencyKey: key, requestedBy }, signal),
  );
  await reply(handling, address, jobReply('accepted', job));
  const ended = hasEnded(job) ? job : await toItsEnd(handling, job);
  await reply(handling, address, jobReply('finished', ended));
}

/** Here, or in the hands of an executor that has taken it over. @throws TidemarkError OWNERSHIP_LOST when that one does not end either */
async function toItsEnd({ runner, commands, clock, signal }: Handling, { group, job }: JobView): Promise<JobView> {
  try {
    return await runner.execute({ group, job });
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== 'OWNERSHIP_LOST') throw error;
    for (let look = 0; look < FOLLOW.looks; look++) {
      const view = await commands.job(group, job, signal);
      if (hasEnded(view)) return view;
      await clock.sleep(FOLLOW.everyMs, signal);
    }
    throw error;
  }
}

/** A reply is a courtesy: the job is what counts. Where nobody may take it, it is reported and left out. */
async function reply(handling: Handling, address: ReplyAddress | undefined, body: Reply): Promise<void> {
  if (address === undefined) return;
  const { queue, session, message, report, signal } = handling;
  const outgoing = replyMessage(session.id, message, address, body);
  try {
    await withRetries(policyOf(handling), signal, () => queue.reply(address.queue, outgoing, signal));
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.class === 'retry') throw error;
    report(error);
  }
}

const policyOf = ({ clock, random }: Pick<CommandOptions, 'clock' | 'random'>): RetryPolicy => ({
  ...MESSAGING_RETRY,
  sleep: (ms, signal) => clock.sleep(ms, signal),
  random,
});

function asTidemarkError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new TidemarkError('UNEXPECTED', text, { cause: error });
}
