import type { MessageTopic, OutgoingMessage, ReceivedMessage, TailOptions } from './message-topic.ts';
import { type RetryPolicy, withRetries } from '../retry.ts';

/**
 * Sends again when the topic was unavailable. Safe because message ids are fixed: what an earlier attempt got through is dropped by
 * duplicate detection. A tail knows best where it stopped, so adapters retry its reads themselves.
 */
export class RetryingTopic implements MessageTopic {
  readonly #topic: MessageTopic;
  readonly #policy: RetryPolicy;

  constructor(topic: MessageTopic, policy: RetryPolicy) {
    this.#topic = topic;
    this.#policy = policy;
  }

  send(messages: readonly OutgoingMessage[], signal: AbortSignal): Promise<void> {
    return withRetries(this.#policy, signal, () => this.#topic.send(messages, signal));
  }

  tail(signal: AbortSignal, options?: TailOptions): AsyncIterable<ReceivedMessage> {
    return this.#topic.tail(signal, options);
  }

  close(): Promise<void> {
    return this.#topic.close();
  }
}
