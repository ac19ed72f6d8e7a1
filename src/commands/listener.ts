/**
 * Commands that come as messages. A message stays in its listener's hands until its job has ended; what becomes of a message whose
 * listener dies is the next one's to do, which finds the same job by the message's id.
 */
import { TidemarkError } from '../errors.ts';
import { backoffMs, MESSAGING_RETRY, withRetries, type RetryPolicy } from '../retry.ts';
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

/** Groups whose commands are worked on at once. */
export const SESSIONS_AT_ONCE = 4;
/** After so many messages of one group another one has its turn. */
const MESSAGES_OF_A_TURN = 100;
/** Of the queue, as infra/service-bus/Config.json has it: after the last delivery, the queue would give the message up without a word. */
export const MAX_DELIVERIES = 5;
/** Pause after a failure, doubled each time up to the second figure. */
const PAUSE = { attempts: Infinity, firstDelayMs: 1000, maxDelayMs: 30_000 } as const;
/** How often, and how long, a job is looked at that another executor has taken over; then it is taken back. */
const FOLLOW = { everyMs: 1000, looks: 300 } as const;

export interface ListenerOptions {
  readonly queue: CommandQueue;
  readonly commands: CommandService;
  readonly runner: JobRunner;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  /** Told of what stops messages from being worked on, once per streak of failures, and of replies that nobody takes. */
  readonly report: (error: unknown) => void;
}

/** Until the signal aborts; messages in hand are given back then, and their jobs stay where they are. */
export async function listen(options: ListenerOptions, signal: AbortSignal): Promise<void> {
  await Promise.all(Array.from({ length: SESSIONS_AT_ONCE }, () => lane(options, signal)));
}

/**
 * Works on what waits now, one group after the other. A message that cannot be done yet stays, with those behind it.
 * @throws TidemarkError MESSAGING_UNAVAILABLE, MESSAGING_REFUSED; what kept a message from being done
 */
export async function handleWaiting(options: ListenerOptions, signal: AbortSignal): Promise<void> {
  const { queue } = options;
  const failures = new Map<string, TidemarkError>();
  while (!(await queue.isEmpty(signal))) {
    const session = await queue.nextSession(signal);
    if (session === undefined) break; // what is there is in other hands
    if (failures.has(session.id)) {
      await session.close();
      break;
    }
    const failure = await drainSession(options, session, signal);
    if (failure !== undefined) failures.set(session.id, failure);
  }
  const [first] = failures.values();
  if (first !== undefined) throw first;
}

async function lane(options: ListenerOptions, signal: AbortSignal): Promise<void> {
  const { queue, clock, random, report } = options;
  const sleep = (ms: number, stop: AbortSignal): Promise<void> => clock.sleep(ms, stop);
  let failures = 0;
  while (!signal.aborted) {
    try {
      const session = await queue.nextSession(signal);
      const failure = session === undefined ? undefined : await drainSession(options, session, signal);
      if (failure !== undefined) throw failure;
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      failures++;
      if (failures === 1) report(error);
      await sleep(backoffMs({ ...PAUSE, random }, failures), signal).catch(() => undefined);
    }
  }
}

/** @returns why the message in hand was given back; undefined when none was */
async function drainSession(
  options: ListenerOptions,
  session: CommandSession,
  signal: AbortSignal,
): Promise<TidemarkError | undefined> {
  try {
    for (let count = 0; count < MESSAGES_OF_A_TURN && !signal.aborted; count++) {
      const message = await session.receive(signal);
      if (message === undefined) return undefined;
      const failure = await handle({ ...options, session, message, signal });
      if (failure !== undefined) return failure;
    }
    return undefined;
  } finally {
    await session.close();
  }
}

interface Handling extends ListenerOptions {
  readonly session: CommandSession;
  readonly message: CommandMessage;
  readonly signal: AbortSignal;
}

/** @returns what passes, when the message was given back because of it */
async function handle(handling: Handling): Promise<TidemarkError | undefined> {
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

const policyOf = ({ clock, random }: Pick<ListenerOptions, 'clock' | 'random'>): RetryPolicy => ({
  ...MESSAGING_RETRY,
  sleep: (ms, signal) => clock.sleep(ms, signal),
  random,
});

function asTidemarkError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new TidemarkError('UNEXPECTED', text, { cause: error });
}
