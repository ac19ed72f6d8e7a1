/** The orders' side of the queue of commands, and the queue of cache events. */
import { setTimeout as delay } from 'node:timers/promises';
import type {
  ServiceBusClient,
  ServiceBusMessage,
  ServiceBusReceivedMessage,
  ServiceBusReceiver,
  ServiceBusSender,
} from '@azure/service-bus';
import { isOrder, type Order } from '../distribution/orders.ts';
import type { CacheEventQueue, CacheEvents, WorkQueue } from '../distribution/work-queue.ts';
import { assert } from '../errors.ts';
import { MESSAGING_RETRY, withRetries, type RetryPolicy } from '../retry.ts';
import type { MessagingObserver } from '../telemetry/adapter-observer.ts';
import type { ServiceBusAccess } from './access.ts';
import { CALL_TIMEOUT_MS, callServiceBus, observedClient, serviceBusClient, withinTime } from './service-bus-calls.ts';

const PEEK_COUNT = 250;
/** Beyond so many messages the rest is taken for not waiting: duplicate detection, and what is contained in a turn, bound them too. */
const MAX_PEEKS = 40;
/** Events of one batch, and how long the first one is waited for. */
const EVENTS_AT_ONCE = 200;
const EVENTS_WAIT_MS = 20_000;

const sleep = (milliseconds: number, signal: AbortSignal): Promise<void> => delay(milliseconds, undefined, { signal });

const RETRY: RetryPolicy = { ...MESSAGING_RETRY, sleep, random: Math.random };

export function openWorkQueue(access: ServiceBusAccess, queue: string, observer?: MessagingObserver): WorkQueue {
  return new ServiceBusWorkQueue(observedClient(serviceBusClient(access), observer), queue);
}

class ServiceBusWorkQueue implements WorkQueue {
  readonly #client: ServiceBusClient;
  readonly #queue: string;
  readonly #call: Call;
  /** Looks of one client go on behind the message that was seen last, unless they are told to begin here. */
  #zero: ServiceBusReceivedMessage['sequenceNumber'];
  #sender: ServiceBusSender | undefined;

  constructor(client: ServiceBusClient, queue: string) {
    this.#client = client;
    this.#queue = queue;
    this.#call = caller(`queue ${queue}`);
  }

  waiting(signal: AbortSignal): Promise<ReadonlySet<string>> {
    return withRetries(RETRY, signal, () => this.#look(signal));
  }

  async #look(signal: AbortSignal): Promise<ReadonlySet<string>> {
    const groups = new Set<string>();
    const receiver = this.#client.createReceiver(this.#queue);
    try {
      let from = this.#zero;
      for (let peek = 0; peek < MAX_PEEKS; peek++) {
        const options = from === undefined ? {} : { fromSequenceNumber: from };
        const found = await this.#call(signal, (abortSignal) =>
          receiver.peekMessages(PEEK_COUNT, { abortSignal, ...options }),
        );
        for (const { subject, sessionId } of found) {
          if (isOrder(subject) && sessionId !== undefined) groups.add(sessionId);
        }
        const last = found.at(-1)?.sequenceNumber;
        if (last === undefined) break;
        this.#zero ??= last.sub(last);
        from = last.add(1);
      }
      return groups;
    } finally {
      await withinTime(receiver.close(), sleep);
    }
  }

  /** The same ids again are dropped by the queue. */
  send(orders: readonly Order[], signal: AbortSignal): Promise<void> {
    return withRetries(RETRY, signal, () => this.#send(orders.map(toMessage), signal));
  }

  async #send(messages: readonly ServiceBusMessage[], signal: AbortSignal): Promise<void> {
    const sender = (this.#sender ??= this.#client.createSender(this.#queue));
    let sent = 0;
    while (sent < messages.length) {
      const batch = await this.#call(signal, (abortSignal) => sender.createMessageBatch({ abortSignal }));
      for (const message of messages.slice(sent)) if (!batch.tryAddMessage(message)) break;
      assert(batch.count > 0, 'an order fits into a message');
      await this.#call(signal, (abortSignal) => sender.sendMessages(batch, { abortSignal }));
      sent += batch.count;
    }
  }

  close(): Promise<void> {
    return withinTime(this.#client.close(), sleep);
  }
}

function toMessage({ group, subject, job, messageId, notBeforeMs }: Order): ServiceBusMessage {
  return {
    messageId,
    sessionId: group,
    subject,
    body: {},
    contentType: 'application/json',
    ...(job !== undefined && { correlationId: job }),
    ...(notBeforeMs !== undefined && { scheduledEnqueueTimeUtc: new Date(notBeforeMs) }),
  };
}

export function openCacheEventQueue(
  access: ServiceBusAccess,
  queue: string,
  observer?: MessagingObserver,
): CacheEventQueue {
  const client = observedClient(serviceBusClient(access), observer);
  const call = caller(`queue ${queue}`);
  let receiver: ServiceBusReceiver | undefined;
  return {
    async receive(signal): Promise<CacheEvents | undefined> {
      const open = (receiver ??= client.createReceiver(queue));
      const found = await callServiceBus(
        { entity: `queue ${queue}`, timeoutMs: EVENTS_WAIT_MS + CALL_TIMEOUT_MS },
        signal,
        (abortSignal) => open.receiveMessages(EVENTS_AT_ONCE, { maxWaitTimeInMs: EVENTS_WAIT_MS, abortSignal }),
      );
      if (found.length === 0) return undefined;
      return {
        bodies: found.map(({ body }): unknown => body),
        complete: async (completing) => {
          await call(completing, () => Promise.all(found.map((message) => open.completeMessage(message))));
        },
      };
    },
    close: () => withinTime(client.close(), sleep),
  };
}

type Call = <T>(signal: AbortSignal, run: (abortSignal: AbortSignal) => Promise<T>) => Promise<T>;

const caller =
  (entity: string): Call =>
  (signal, run) =>
    callServiceBus({ entity, timeoutMs: CALL_TIMEOUT_MS }, signal, run);
