import { setTimeout as delay } from 'node:timers/promises';
import {
  isServiceBusError,
  type ServiceBusClient,
  type ServiceBusReceivedMessage,
  type ServiceBusSender,
  type ServiceBusSessionReceiver,
} from '@azure/service-bus';
import type { CommandMessage, CommandQueue, CommandSession, ReplyMessage } from '../commands/command-queue.ts';
import { assert, TidemarkError } from '../errors.ts';
import type { MessagingObserver } from '../telemetry/adapter-observer.ts';
import type { ServiceBusAccess } from './access.ts';
import { CALL_TIMEOUT_MS, callServiceBus, observedClient, serviceBusClient, withinTime } from './service-bus-calls.ts';

/** How long the queue is asked for a session before it is asked again; the SDK does not let itself be interrupted in it. */
const ACCEPT_MS = 5000;
/** How long the first message of a session is waited for, and each one behind it. */
const FIRST_MS = 1000;
const NEXT_MS = 100;
/** Senders kept open; the one that was opened first goes first. */
const MAX_SENDERS = 16;
/** Of what is left of a lock, before it is renewed; and never more often than the second figure. */
const RENEW = { share: 1 / 3, leastMs: 500 } as const;
/** Service Bus takes no longer description. */
const MAX_DESCRIPTION_CHARS = 4096;

const sleep = (milliseconds: number, signal: AbortSignal): Promise<void> => delay(milliseconds, undefined, { signal });

export function openCommandQueue(access: ServiceBusAccess, queue: string, observer?: MessagingObserver): CommandQueue {
  return new ServiceBusCommandQueue(() => observedClient(serviceBusClient(access, ACCEPT_MS), observer), queue);
}

/** A queue with sessions and duplicate detection on Azure Service Bus or anything that speaks like it. */
export class ServiceBusCommandQueue implements CommandQueue {
  readonly name: string;
  readonly #connect: () => ServiceBusClient;
  readonly #senders = new Map<string, ServiceBusSender>();
  #client: ServiceBusClient | undefined;
  /** Looks of one client go on behind the message that was seen last, unless they are told to begin here. */
  #zero: ServiceBusReceivedMessage['sequenceNumber'];
  #isClosed = false;

  /** `connect` makes a client, which is closed again here; its time-out is how long a session is waited for. */
  constructor(connect: () => ServiceBusClient, queue: string) {
    this.#connect = connect;
    this.name = queue;
  }

  async isEmpty(signal: AbortSignal): Promise<boolean> {
    const receiver = this.#open().createReceiver(this.name);
    try {
      const from = this.#zero === undefined ? {} : { fromSequenceNumber: this.#zero };
      const [found] = await this.#call(signal, (abortSignal) => receiver.peekMessages(1, { abortSignal, ...from }));
      this.#zero ??= found?.sequenceNumber?.sub(found.sequenceNumber);
      return found === undefined;
    } finally {
      await withinTime(receiver.close(), sleep);
    }
  }

  async nextSession(signal: AbortSignal): Promise<CommandSession | undefined> {
    signal.throwIfAborted();
    const accepting = this.#accept();
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([accepting, aborted]);
    } catch (error) {
      // Given while nobody waits any more: back to the queue with it.
      void accepting.then((late) => late?.close()).catch(() => undefined);
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #accept(): Promise<CommandSession | undefined> {
    const options = { maxAutoLockRenewalDurationInMs: 0, skipParsingBodyAsJson: true };
    const never = new AbortController().signal;
    const accepting = this.#open()
      .acceptNextSession(this.name, options)
      .catch((error: unknown) => {
        if (isServiceBusError(error) && error.code === 'ServiceTimeout') return undefined;
        throw error;
      });
    const limits = { entity: `queue ${this.name}`, timeoutMs: ACCEPT_MS + 2 * CALL_TIMEOUT_MS };
    const receiver = await callServiceBus(limits, never, () => accepting);
    return receiver === undefined ? undefined : new ServiceBusCommandSession(this.name, receiver);
  }

  async reply(queue: string, message: ReplyMessage, signal: AbortSignal): Promise<void> {
    const sender = this.#sender(queue);
    const { messageId, correlationId, sessionId, subject, body } = message;
    const outgoing = {
      messageId,
      correlationId,
      subject,
      body,
      contentType: 'application/json',
      ...(sessionId !== undefined && { sessionId }),
    };
    const limits = { entity: `queue ${queue}`, timeoutMs: CALL_TIMEOUT_MS };
    await callServiceBus(limits, signal, (abortSignal) => sender.sendMessages(outgoing, { abortSignal }));
  }

  #sender(queue: string): ServiceBusSender {
    const known = this.#senders.get(queue);
    if (known !== undefined) return known;
    const [oldest] = this.#senders;
    if (oldest !== undefined && this.#senders.size >= MAX_SENDERS) {
      this.#senders.delete(oldest[0]);
      void withinTime(oldest[1].close(), sleep);
    }
    const sender = this.#open().createSender(queue);
    this.#senders.set(queue, sender);
    return sender;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const client = this.#client;
    this.#client = undefined;
    if (client !== undefined) await withinTime(client.close(), sleep);
  }

  #open(): ServiceBusClient {
    if (this.#isClosed) throw new TidemarkError('MESSAGING_UNAVAILABLE', `queue ${this.name} is closed`);
    return (this.#client ??= this.#connect());
  }

  #call<T>(signal: AbortSignal, run: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    return callServiceBus({ entity: `queue ${this.name}`, timeoutMs: CALL_TIMEOUT_MS }, signal, run);
  }
}

class ServiceBusCommandSession implements CommandSession {
  readonly id: string;
  readonly #entity: string;
  readonly #receiver: ServiceBusSessionReceiver;
  readonly #closing = new AbortController();
  readonly #lost = new AbortController();
  readonly #renewing: Promise<void>;
  /** The one in hand: a session gives one after the other. */
  #current: { readonly message: CommandMessage; readonly received: ServiceBusReceivedMessage } | undefined;

  constructor(queue: string, receiver: ServiceBusSessionReceiver) {
    this.id = receiver.sessionId;
    this.#entity = `session ${receiver.sessionId} of queue ${queue}`;
    this.#receiver = receiver;
    this.#renewing = this.#renew();
  }

  /** Until the session is closed, or the lock cannot be renewed: then settling fails, and the message comes again. */
  async #renew(): Promise<void> {
    const { signal } = this.#closing;
    try {
      for (;;) {
        const leftMs = this.#receiver.sessionLockedUntilUtc.getTime() - Date.now();
        await sleep(Math.max(RENEW.leastMs, leftMs * RENEW.share), signal);
        await this.#call(signal, (abortSignal) => this.#receiver.renewSessionLock({ abortSignal })).catch(
          (error: unknown) => {
            // One that fails is tried again while there is time.
            if (leftMs < RENEW.leastMs) throw error;
          },
        );
      }
    } catch (cause) {
      if (signal.aborted) return;
      this.#lost.abort(new TidemarkError('OWNERSHIP_LOST', `the lock of ${this.#entity} is lost`, { cause }));
    }
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async receive(signal: AbortSignal): Promise<CommandMessage | undefined> {
    const [received] = await this.#call(signal, (abortSignal) =>
      this.#receiver.receiveMessages(1, {
        maxWaitTimeInMs: this.#current === undefined ? FIRST_MS : NEXT_MS,
        abortSignal,
      }),
    );
    if (received === undefined) return undefined;
    const message = toCommandMessage(received);
    this.#current = { message, received };
    return message;
  }

  complete(message: CommandMessage, signal: AbortSignal): Promise<void> {
    const received = this.#inHand(message);
    return this.#call(signal, () => this.#receiver.completeMessage(received));
  }

  abandon(message: CommandMessage, signal: AbortSignal): Promise<void> {
    const received = this.#inHand(message);
    return this.#call(signal, () => this.#receiver.abandonMessage(received));
  }

  deadLetter(
    message: CommandMessage,
    { code, description }: { readonly code: string; readonly description: string },
    signal: AbortSignal,
  ): Promise<void> {
    const received = this.#inHand(message);
    const reason = {
      deadLetterReason: code,
      deadLetterErrorDescription: description.slice(0, MAX_DESCRIPTION_CHARS),
    };
    return this.#call(signal, () => this.#receiver.deadLetterMessage(received, reason));
  }

  #inHand(message: CommandMessage): ServiceBusReceivedMessage {
    assert(this.#current?.message === message, 'only the message in hand is settled');
    return this.#current.received;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#renewing;
    await withinTime(this.#receiver.close(), sleep);
  }

  /** Settling takes no signal, so the deadline races with it. */
  #call<T>(signal: AbortSignal, run: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    return callServiceBus({ entity: this.#entity, timeoutMs: CALL_TIMEOUT_MS }, signal, (abortSignal) =>
      Promise.race([run(abortSignal), rejectionOf(abortSignal)]),
    );
  }
}

/** Rejects when the signal aborts. */
function rejectionOf(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  return promise;
}

function toCommandMessage(received: ServiceBusReceivedMessage): CommandMessage {
  const requestedBy = received.applicationProperties?.['requested-by'];
  const { messageId, correlationId, body } = received;
  return {
    messageId: messageId === undefined ? '' : String(messageId),
    subject: received.subject,
    enqueuedAtMs: received.enqueuedTimeUtc?.getTime() ?? 0,
    contentType: received.contentType,
    body: Buffer.isBuffer(body) ? body : undefined,
    replyTo: received.replyTo,
    replyToSessionId: received.replyToSessionId,
    correlationId: correlationId === undefined ? undefined : String(correlationId),
    requestedBy: requestedBy === undefined ? undefined : String(requestedBy),
    sequence: String(received.sequenceNumber ?? ''),
    earlierDeliveries: received.deliveryCount ?? 0,
  };
}
