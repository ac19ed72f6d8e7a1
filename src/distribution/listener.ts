/**
 * Takes sessions of the queue, which are groups, and does what their messages ask for, one after the other: turns of the worker, and commands.
 */
import type { CommandMessage, CommandSession } from '../commands/command-queue.ts';
import { handleCommand, MAX_DELIVERIES, type CommandOptions } from '../commands/handle-command.ts';
import { TidemarkError } from '../errors.ts';
import { backoffMs, LOOP_PAUSE } from '../retry.ts';
import { GROUPS_AT_ONCE, type Clock } from '../worker/ports.ts';
import { isOrder, JOB_SUBJECT } from './orders.ts';
import type { Turns } from './turns.ts';

/** After so many messages of one group another one has its turn. */
const MESSAGES_OF_A_TURN = 100;
/** While all sessions that may be held are held. */
const BEAT_MS = 10_000;
/** Failures to reach the queue in a row before work goes on without it: a short outage is waited for. */
const UNREACHED_AFTER = 3;

export interface ListenerOptions extends CommandOptions {
  /** Told of what stops messages from being worked on, once per streak of failures, and of replies that nobody takes. */
  readonly report: (error: unknown) => void;
  /** What does the orders among the messages; undefined: they are done with, as whoever listens does all groups in another way. */
  readonly turns?: Turns;
  readonly sessionsAtOnce?: number;
  /** Aborts when no more sessions are to be taken, and those in hand given back as soon as their message is done with. */
  readonly draining?: AbortSignal;
  /** Called again and again while the queue cannot be reached. Must not throw. */
  readonly whileUnreached?: (signal: AbortSignal) => Promise<void>;
  /** Called while the loop goes round, about every {@link BEAT_MS}. */
  readonly beat?: () => void;
}

/**
 * Takes sessions until the signal (or `draining`) aborts, a bounded number at once; one is asked for at a time. When the signal aborts,
 * messages in hand are given back, and their jobs stay where they are. Never throws.
 */
export async function listen(options: ListenerOptions, signal: AbortSignal): Promise<void> {
  const { queue, sessionsAtOnce = GROUPS_AT_ONCE } = options;
  const taking = options.draining === undefined ? signal : AbortSignal.any([signal, options.draining]);
  const inHand = new Set<Promise<void>>();
  const streak = { failures: 0 };
  let unreached = 0;
  while (!taking.aborted) {
    options.beat?.();
    if (inHand.size >= sessionsAtOnce) {
      await untilOneEnds(inHand, options.clock);
      continue;
    }
    try {
      const session = await queue.nextSession(taking);
      unreached = 0;
      if (session === undefined) continue;
      const work = workOn(options, session, streak, signal).finally(() => inHand.delete(work));
      inHand.add(work);
    } catch (error) {
      if (taking.aborted) break;
      await pauseAfter(options, error, streak, taking);
      if (++unreached >= UNREACHED_AFTER) await options.whileUnreached?.(taking);
    }
  }
  await Promise.all(inHand);
}

/** Or until it is time for a beat. */
async function untilOneEnds(inHand: ReadonlySet<Promise<void>>, clock: Clock): Promise<void> {
  const timer = new AbortController();
  await Promise.race([...inHand, clock.sleep(BEAT_MS, timer.signal).catch(() => undefined)]);
  timer.abort();
}

/** Failures in a row, over all sessions. */
interface Streak {
  failures: number;
}

/** Never throws. A session whose message was given back is kept for a while, so that the message does not come again at once. */
async function workOn(
  options: ListenerOptions,
  session: CommandSession,
  streak: Streak,
  signal: AbortSignal,
): Promise<void> {
  try {
    const failure = await drainSession(options, session, signal);
    if (failure === undefined) streak.failures = 0;
    else await pauseAfter(options, failure, streak, signal);
  } catch (error) {
    if (!signal.aborted) await pauseAfter(options, error, streak, signal);
  } finally {
    await options.turns?.giveBack(session.id);
    await session.close();
  }
}

async function pauseAfter(
  options: ListenerOptions,
  error: unknown,
  streak: Streak,
  signal: AbortSignal,
): Promise<void> {
  const { clock, random, report } = options;
  if (++streak.failures === 1) report(error);
  await clock.sleep(backoffMs({ ...LOOP_PAUSE, random }, streak.failures), signal).catch(() => undefined);
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
    try {
      const failure = await drainSession(options, session, signal);
      if (failure !== undefined) failures.set(session.id, failure);
    } finally {
      await session.close();
    }
  }
  const [first] = failures.values();
  if (first !== undefined) throw first;
}

/** @returns why the message in hand was given back; undefined when none was */
async function drainSession(
  options: ListenerOptions,
  session: CommandSession,
  signal: AbortSignal,
): Promise<TidemarkError | undefined> {
  const isStopping = (): boolean => signal.aborted || options.draining?.aborted === true;
  for (let count = 0; count < MESSAGES_OF_A_TURN && !isStopping(); count++) {
    const message = await session.receive(signal);
    if (message === undefined) return undefined;
    const failure = await handleMessage(options, session, message, signal);
    if (failure !== undefined) return failure;
  }
  return undefined;
}

/**
 * What one message asks for, to its end.
 * @returns what passes, when the message was given back because of it @throws as `Turns.take` and `handleCommand`
 */
export async function handleMessage(
  options: Omit<ListenerOptions, 'sessionsAtOnce' | 'draining' | 'beat'>,
  session: CommandSession,
  message: CommandMessage,
  signal: AbortSignal,
): Promise<TidemarkError | undefined> {
  const { turns } = options;
  const { subject } = message;
  if (isOrder(subject)) {
    await turns?.take(session, message, subject, signal);
    await session.complete(message, signal);
    return undefined;
  }
  await turns?.giveBack(session.id); // a command takes its group over by itself
  if (subject === JOB_SUBJECT) return goOnWithJob(options, session, message, signal);
  return handleCommand({ ...options, session, message, signal });
}

/** Whoever executes it meanwhile goes on with it. An order is given up before a job is: its journal stays, to be resumed. */
async function goOnWithJob(
  { runner, report }: Pick<ListenerOptions, 'runner' | 'report'>,
  session: CommandSession,
  message: CommandMessage,
  signal: AbortSignal,
): Promise<TidemarkError | undefined> {
  try {
    await runner.execute({ group: session.id, job: message.correlationId ?? '' });
  } catch (error) {
    signal.throwIfAborted();
    const failure = error instanceof TidemarkError ? error : undefined;
    if (failure?.code !== 'OWNERSHIP_LOST') {
      if (failure?.class === 'retry' && message.earlierDeliveries + 1 < MAX_DELIVERIES) {
        await session.abandon(message, signal);
        return failure;
      }
      report(error);
    }
  }
  await session.complete(message, signal);
  return undefined;
}
