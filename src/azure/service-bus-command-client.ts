import { setTimeout as delay } from 'node:timers/promises';
import type { ServiceBusClient } from '@azure/service-bus';
import type { CommandClient, OutgoingCommand } from '../commands/command-client.ts';
import { replySchema, type Reply } from '../commands/messages.ts';
import { CALL_TIMEOUT_MS, callServiceBus, serviceBusClient, withinTime } from './service-bus-calls.ts';

/** How long one look for a reply waits. */
const LOOK_MS = 1000;

export interface CommandQueues {
  readonly connectionString: string;
  readonly commandQueue: string;
  /** With sessions. */
  readonly replyQueue: string;
}

export function openCommandClient(queues: CommandQueues): CommandClient {
  const client = serviceBusClient(queues.connectionString);
  return {
    send: (command, signal) => send(client, queues, command, signal),
    replies: (session, correlationId, signal) => replies(client, { queues, session, correlationId }, signal),
    close: () => withinTime(client.close(), (ms, signal) => delay(ms, undefined, { signal })),
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

async function* replies(
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
      await callServiceBus(limits, signal, () => receiver.completeMessage(message));
      const reply = replySchema.safeParse(message.body);
      if (!reply.success || message.correlationId !== correlationId) continue;
      yield reply.data;
      if (reply.data.reply !== 'accepted') return;
    }
  } finally {
    await receiver.close().catch(() => undefined);
  }
}
