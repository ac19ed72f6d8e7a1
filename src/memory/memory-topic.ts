import { TidemarkError } from '../errors.ts';
import {
  MAX_MESSAGE_BYTES,
  type MessageTopic,
  type OutgoingMessage,
  type ReceivedMessage,
  type TailOptions,
} from '../monitoring/message-topic.ts';

export interface MemoryTopicOptions {
  readonly now: () => Date;
  /** How long an id is remembered; Service Bus takes 20 s to 7 days. */
  readonly duplicateWindowMs: number;
  /** Messages kept before sending fails, as a topic has a quota. */
  readonly maxMessages?: number;
}

/** A topic with one subscription that nobody consumes, with duplicate detection by message id. */
export class MemoryTopic implements MessageTopic {
  readonly #options: Required<MemoryTopicOptions>;
  readonly #messages: ReceivedMessage[] = [];
  /** Message id to when it was first seen, oldest first. */
  readonly #seen = new Map<string, number>();
  #arrival = Promise.withResolvers<void>();
  #closed = false;

  constructor(options: MemoryTopicOptions) {
    this.#options = { maxMessages: 100_000, ...options };
  }

  async send(messages: readonly OutgoingMessage[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#requireOpen();
    for (const message of messages) {
      const bytes = Buffer.byteLength(JSON.stringify(message));
      if (bytes > MAX_MESSAGE_BYTES) {
        throw new TidemarkError('MESSAGE_TOO_LARGE', `message ${message.messageId} has ${bytes} bytes`);
      }
      this.#accept(message);
    }
    this.#announce();
  }

  #accept(message: OutgoingMessage): void {
    const enqueuedAt = this.#options.now();
    for (const [id, atMs] of this.#seen) {
      if (enqueuedAt.getTime() - atMs < this.#options.duplicateWindowMs) break;
      this.#seen.delete(id);
    }
    if (this.#seen.has(message.messageId)) return;
    if (this.#messages.length >= this.#options.maxMessages) {
      throw new TidemarkError('MESSAGING_UNAVAILABLE', `the topic is full: ${this.#messages.length} messages`);
    }
    this.#seen.set(message.messageId, enqueuedAt.getTime());
    this.#messages.push({ ...structuredClone(message), enqueuedAt });
  }

  async *tail(signal: AbortSignal, { follow = true }: TailOptions = {}): AsyncIterable<ReceivedMessage> {
    const aborted = Promise.withResolvers<void>();
    const onAbort = () => aborted.resolve();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for (let position = 0; !signal.aborted; position++) {
        this.#requireOpen();
        if (follow) await this.#arrivalOf(position, signal, aborted.promise);
        const message = this.#messages[position];
        if (message === undefined || signal.aborted) return;
        yield structuredClone(message);
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #arrivalOf(position: number, signal: AbortSignal, aborted: Promise<void>): Promise<void> {
    while (position >= this.#messages.length && !signal.aborted && !this.#closed) {
      await Promise.race([this.#arrival.promise, aborted]);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#announce();
  }

  #announce(): void {
    this.#arrival.resolve();
    this.#arrival = Promise.withResolvers();
  }

  #requireOpen(): void {
    if (this.#closed) throw new TidemarkError('MESSAGING_UNAVAILABLE', 'the topic is closed');
  }
}
