import { setTimeout as delay } from 'node:timers/promises';
import type {
  ServiceBusClient,
  ServiceBusMessage,
  ServiceBusMessageBatch,
  ServiceBusReceivedMessage,
  ServiceBusSender,
} from '@azure/service-bus';
import { TidemarkError } from '../errors.ts';
import type { MessageTopic, OutgoingMessage, ReceivedMessage, TailOptions } from '../monitoring/message-topic.ts';
import { MESSAGING_RETRY, type RetryPolicy, withRetries } from '../retry.ts';
import { RetryingTopic } from '../monitoring/retrying-topic.ts';
import type { MessagingObserver } from '../telemetry/adapter-observer.ts';
import type { ServiceBusAccess } from './access.ts';
import { CALL_TIMEOUT_MS, callServiceBus, observedClient, serviceBusClient, withinTime } from './service-bus-calls.ts';

export { serviceBusClient } from './service-bus-calls.ts';

/** The subscription without a filter that `tail` looks into. */
export const TAIL_SUBSCRIPTION = 'all';
/** What the AMQP binding of CloudEvents asks for in structured mode. */
const CONTENT_TYPE = 'application/cloudevents+json; charset=utf-8';
/** How often an idle tail looks again. */
const POLL_MS = 1000;
/** Messages per look; Service Bus gives fewer when they are large. */
const PEEK_COUNT = 100;

export interface ServiceBusTopicOptions {
  /** Makes a client; every client made is closed again here. */
  readonly connect: () => ServiceBusClient;
  readonly topic: string;
  /** For the looks of a tail; sends are tried once (see RetryingTopic). */
  readonly retry: RetryPolicy;
  readonly callTimeoutMs?: number;
  readonly pollMs?: number;
}

/** The topic as workers and commands use it: sends are repeated with jittered backoff. */
export function openMonitoringTopic(
  access: ServiceBusAccess,
  topic: string,
  observer?: MessagingObserver,
): MessageTopic {
  const retry: RetryPolicy = {
    ...MESSAGING_RETRY,
    sleep: (milliseconds, signal) => delay(milliseconds, undefined, { signal }),
    random: Math.random,
  };
  return new RetryingTopic(
    new ServiceBusTopic({
      connect: () => observedClient(serviceBusClient(access), observer),
      topic,
      retry,
    }),
    retry,
  );
}

/** The monitoring topic on Azure Service Bus or anything that speaks like it. Needs a topic with duplicate detection. */
export class ServiceBusTopic implements MessageTopic {
  readonly #options: Required<ServiceBusTopicOptions>;
  readonly #clients = new Set<ServiceBusClient>();
  #sender: ServiceBusSender | undefined;
  #closed = false;

  constructor(options: ServiceBusTopicOptions) {
    this.#options = { callTimeoutMs: CALL_TIMEOUT_MS, pollMs: POLL_MS, ...options };
  }

  async send(messages: readonly OutgoingMessage[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (messages.length === 0) return;
    const sender = (this.#sender ??= this.#connect().createSender(this.#options.topic));
    let batch = await this.#newBatch(sender, signal);
    for (const message of messages) {
      const outgoing = toServiceBus(message);
      if (batch.tryAddMessage(outgoing)) continue;
      if (batch.count > 0) {
        await this.#sendBatch(sender, batch, signal);
        batch = await this.#newBatch(sender, signal);
        if (batch.tryAddMessage(outgoing)) continue;
      }
      throw new TidemarkError(
        'MESSAGE_TOO_LARGE',
        `message ${message.messageId} does not fit into ${batch.maxSizeInBytes} bytes`,
      );
    }
    await this.#sendBatch(sender, batch, signal);
  }

  #newBatch(sender: ServiceBusSender, signal: AbortSignal): Promise<ServiceBusMessageBatch> {
    return this.#call(signal, (abortSignal) => sender.createMessageBatch({ abortSignal }));
  }

  #sendBatch(sender: ServiceBusSender, batch: ServiceBusMessageBatch, signal: AbortSignal): Promise<void> {
    return this.#call(signal, (abortSignal) => sender.sendMessages(batch, { abortSignal }));
  }

  async *tail(signal: AbortSignal, { follow = true }: TailOptions = {}): AsyncIterable<ReceivedMessage> {
    const { topic, retry, pollMs } = this.#options;
    // Receivers of one client share the place where a look without a number goes on, so each tail has a client of its own.
    const client = this.#connect();
    const receiver = client.createReceiver(topic, TAIL_SUBSCRIPTION);
    let next: ServiceBusReceivedMessage['sequenceNumber'];
    const look = (abortSignal: AbortSignal) =>
      receiver.peekMessages(PEEK_COUNT, { abortSignal, ...(next === undefined ? {} : { fromSequenceNumber: next }) });
    try {
      while (!signal.aborted) {
        const found = await withRetries(retry, signal, () => this.#call(signal, look));
        for (const message of found) {
          next = message.sequenceNumber?.add(1) ?? next;
          if (message.state === 'scheduled') continue;
          yield toReceived(message);
          if (signal.aborted) return;
        }
        if (found.length > 0) continue;
        if (!follow) return;
        await retry.sleep(pollMs, signal);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      await this.#disconnect(client);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#sender = undefined;
    await Promise.all([...this.#clients].map((client) => this.#disconnect(client)));
  }

  #connect(): ServiceBusClient {
    if (this.#closed) throw new TidemarkError('MESSAGING_UNAVAILABLE', 'the topic is closed');
    const client = this.#options.connect();
    this.#clients.add(client);
    return client;
  }

  async #disconnect(client: ServiceBusClient): Promise<void> {
    this.#clients.delete(client);
    await withinTime(client.close(), (ms, signal) => this.#options.retry.sleep(ms, signal));
  }

  #call<T>(signal: AbortSignal, run: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    const { callTimeoutMs, topic } = this.#options;
    return callServiceBus({ entity: `topic ${topic}`, timeoutMs: callTimeoutMs }, signal, run);
  }
}

function toServiceBus(message: OutgoingMessage): ServiceBusMessage {
  return {
    messageId: message.messageId,
    subject: message.subject,
    body: message.body,
    contentType: CONTENT_TYPE,
    applicationProperties: { ...message.applicationProperties },
  };
}

function toReceived(message: ServiceBusReceivedMessage): ReceivedMessage {
  const properties = Object.entries(message.applicationProperties ?? {});
  return {
    messageId: String(message.messageId ?? ''),
    subject: message.subject ?? '',
    body: message.body as unknown,
    applicationProperties: Object.fromEntries(
      properties.flatMap(([key, value]) => (value === null || typeof value === 'object' ? [] : [[key, value]])),
    ),
    enqueuedAt: message.enqueuedTimeUtc ?? new Date(0),
  };
}
