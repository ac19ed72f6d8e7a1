import { setTimeout as delay } from 'node:timers/promises';
import {
  isServiceBusError,
  ServiceBusClient,
  type ServiceBusMessage,
  type ServiceBusMessageBatch,
  type ServiceBusReceivedMessage,
  type ServiceBusSender,
} from '@azure/service-bus';
import { TidemarkError } from '../errors.ts';
import type { MessageTopic, OutgoingMessage, ReceivedMessage, TailOptions } from '../monitoring/message-topic.ts';
import { MESSAGING_RETRY, type RetryPolicy, withRetries } from '../retry.ts';
import { RetryingTopic } from '../monitoring/retrying-topic.ts';

/** The subscription without a filter that `tail` looks into. */
export const TAIL_SUBSCRIPTION = 'all';
/** What the AMQP binding of CloudEvents asks for in structured mode. */
const CONTENT_TYPE = 'application/cloudevents+json; charset=utf-8';
/** How often an idle tail looks again. */
const POLL_MS = 1000;
/** Messages per look; Service Bus gives fewer when they are large. */
const PEEK_COUNT = 100;
/** Longer than any healthy call; the SDK's own defaults add up to minutes. */
const CALL_TIMEOUT_MS = 10_000;
/** Closing waits for answers that a dying peer never gives. */
const CLOSE_TIMEOUT_MS = 3000;

export interface ServiceBusTopicOptions {
  /** Makes a client; every client made is closed again here. */
  readonly connect: () => ServiceBusClient;
  readonly topic: string;
  /** For the looks of a tail; sends are tried once (see RetryingTopic). */
  readonly retry: RetryPolicy;
  readonly callTimeoutMs?: number;
  readonly pollMs?: number;
}

/** A client whose calls fail early: retries with known bounds are made around it, not inside. */
export function serviceBusClient(connectionString: string): ServiceBusClient {
  try {
    return new ServiceBusClient(connectionString, { retryOptions: { maxRetries: 0, timeoutInMs: CALL_TIMEOUT_MS } });
  } catch (cause) {
    // The string holds a key, so it is not repeated here.
    throw new TidemarkError('MESSAGING_REFUSED', 'the Service Bus connection string is malformed', { cause });
  }
}

/** The topic as workers and commands use it: sends are repeated with jittered backoff. */
export function openMonitoringTopic(connectionString: string, topic: string): MessageTopic {
  const retry: RetryPolicy = {
    ...MESSAGING_RETRY,
    sleep: (milliseconds, signal) => delay(milliseconds, undefined, { signal }),
    random: Math.random,
  };
  return new RetryingTopic(
    new ServiceBusTopic({ connect: () => serviceBusClient(connectionString), topic, retry }),
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
    await withinTime(client.close(), this.#options.retry);
  }

  /** One call with its own deadline. */
  async #call<T>(signal: AbortSignal, run: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const { callTimeoutMs, topic } = this.#options;
    const deadline = AbortSignal.timeout(callTimeoutMs);
    try {
      return await run(AbortSignal.any([signal, deadline]));
    } catch (cause) {
      signal.throwIfAborted();
      if (!deadline.aborted) throw messagingError(cause, topic);
      throw new TidemarkError('MESSAGING_UNAVAILABLE', `topic ${topic}: no answer within ${callTimeoutMs} ms`, {
        cause,
      });
    }
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

const REFUSALS: ReadonlySet<string> = new Set([
  'UnauthorizedAccess',
  'MessagingEntityNotFound',
  'MessagingEntityDisabled',
]);

/** Faults of the SDK's caller stay what they are: retrying cannot help. */
function messagingError(error: unknown, topic: string): unknown {
  if (error instanceof TypeError || error instanceof RangeError || error instanceof TidemarkError) return error;
  const code = isServiceBusError(error) ? error.code : undefined;
  const message = error instanceof Error ? error.message : String(error);
  if (code === 'MessageSizeExceeded') {
    return new TidemarkError('MESSAGE_TOO_LARGE', `topic ${topic}: ${message}`, { cause: error });
  }
  return new TidemarkError(
    code !== undefined && REFUSALS.has(code) ? 'MESSAGING_REFUSED' : 'MESSAGING_UNAVAILABLE',
    `topic ${topic}: ${message}`,
    { cause: error, details: { topic, ...(code === undefined ? {} : { serviceBusCode: code }) } },
  );
}

/** Waits for `closing`, but not for ever. What fails while closing has no consequence: nothing is sent then. */
async function withinTime(closing: Promise<void>, { sleep }: RetryPolicy): Promise<void> {
  const timer = new AbortController();
  await Promise.race([closing.catch(() => undefined), sleep(CLOSE_TIMEOUT_MS, timer.signal).catch(() => undefined)]);
  timer.abort();
}
