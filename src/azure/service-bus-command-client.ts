import { setTimeout as delay } from 'node:timers/promises';
import type { ServiceBusClient } from '@azure/service-bus';
import type { CommandClient, OutgoingCommand } from '../commands/command-client.ts';
import { replySchema, type Reply } from '../commands/messages.ts';
import { TidemarkError } from '../errors.ts';
import { MESSAGING_RETRY, withRetries, type RetryPolicy } from '../retry.ts';
import type { MessagingObserver } from '../telemetry/adapter-observer.ts';
import type { ServiceBusAccess } from './access.ts';
import { CALL_TIMEOUT_MS, callServiceBus, observedClient, serviceBusClient, withinTime } from './service-bus-calls.ts';

/** How long one look for a reply waits. */
const LOOK_MS = 1000;
/** Before the session is taken anew. */
const PAUSE_MS = 1000;

const sleep = (milliseconds: number, signal: AbortSignal): Promise<void> => delay(milliseconds, undefined, { signal });

const RETRY: RetryPolicy = { ...MESSAGING_RETRY, sleep, random: Math.random };

export interface CommandQueues {
  readonly access: ServiceBusAccess;
  readonly commandQueue: string;
  /** With sessions. */
  readonly replyQueue: string;
}

export function openCommandClient(queues: CommandQueues, observer?: MessagingObserver): CommandClient {
  const client = observedClient(serviceBusClient(queues.access), observer);
  return {
    // The same message id again is dropped by the queue.
    send: (command, signal) => withRetries(RETRY, signal, () => send(client, queues, command, signal)),
    replies: (session, correlationId, signal) => replies(client, { queues, session, correlationId }, signal),
    close: () => withinTime(client.close(), sleep),
  };
}

async function send(
  client: ServiceBusClient,
  { commandQueue, replyQueue }: CommandQueues,
  { group, messageId, body, requestedBy, replySession }: OutgoingCommand,
  signal: AbortSignal,
): Promise<void> {
  const sender = client.createSender(commandQueue);
  const message = {
    body,
    messageId,
    sessionId: group,
    contentType: 'application/json',
    applicationProperties: { 'requested-by': requestedBy },
    ...(replySession !== undefined && { replyTo: replyQueue, replyToSessionId: replySession }),
  };
  await callServiceBus({ entity: `queue ${commandQueue}`, timeoutMs: CALL_TIMEOUT_MS }, signal, (abortSignal) =>
    sender.sendMessages(message, { abortSignal }),
  );
}

interface Wanted {
  readonly queues: CommandQueues;
  readonly session: string;
  readonly correlationId: string;
}

/** Service Bus that does not answer is asked again, for as long as the caller wants to wait. */
async function* replies(client: ServiceBusClient, wanted: Wanted, signal: AbortSignal): AsyncIterable<Reply> {
  for (;;) {
    try {
      for await (const reply of repliesOfSession(client, wanted, signal)) {
        yield reply;
        if (reply.reply !== 'accepted') return;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TidemarkError) || error.class !== 'retry') throw error;
    }
    await sleep(PAUSE_MS, signal);
  }
}

async function* repliesOfSession(
  client: ServiceBusClient,
  { queues: { replyQueue }, session, correlationId }: Wanted,
  signal: AbortSignal,
): AsyncIterable<Reply> {
  const limits = { entity: `queue ${replyQueue}`, timeoutMs: CALL_TIMEOUT_MS };
  const receiver = await callServiceBus(limits, signal, (abortSignal) =>
    client.acceptSession(replyQueue, session, { abortSignal }),
  );
  try {
    for (;;) {
      const [message] = await callServiceBus(limits, signal, (abortSignal) =>
        receiver.receiveMessages(1, { maxWaitTimeInMs: LOOK_MS, abortSignal }),
      );
      if (message === undefined) continue;
      const reply = replySchema.safeParse(message.body);
      // Taken off first, so that it is not there for the next command under this key; when that fails it has come all the same.
      const taken = callServiceBus(limits, signal, () => receiver.completeMessage(message));
      const failure = await taken.then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      if (reply.success && message.correlationId === correlationId) yield reply.data;
      if (failure !== undefined) throw failure.error;
    }
  } finally {
    await withinTime(receiver.close(), sleep);
  }
}
