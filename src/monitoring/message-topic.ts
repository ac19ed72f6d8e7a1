/** A message as it leaves; `body` is a CloudEvents 1.0 JSON document. */
export interface OutgoingMessage {
  /** Fixed for ever for one fact: duplicate detection keys on it. */
  readonly messageId: string;
  readonly subject: string;
  readonly body: unknown;
  readonly applicationProperties: Readonly<Record<string, string | number | boolean>>;
}

export interface ReceivedMessage extends OutgoingMessage {
  readonly enqueuedAt: Date;
}

export interface TailOptions {
  /** Wait for more behind the last message (the default), or end there. */
  readonly follow?: boolean;
}

/** What one message may have, with its properties: the limit of the Standard tier of Service Bus. */
export const MAX_MESSAGE_BYTES = 256 * 1024;

/** The monitoring topic. */
export interface MessageTopic {
  /**
   * At least once: after an error some, all or none may have been accepted, and the same ids may be sent again.
   * Splits into as many batches as the size limit asks for; keeps their order.
   * @throws TidemarkError MESSAGING_UNAVAILABLE; MESSAGING_REFUSED when the topic is missing or closed to this identity;
   * MESSAGE_TOO_LARGE when a message alone is beyond the limit
   */
  send(messages: readonly OutgoingMessage[], signal: AbortSignal): Promise<void>;
  /**
   * Messages of the topic's `all` subscription from the oldest one kept on, in order, each once, as they come, until the signal
   * aborts (then it ends). Reading does not consume them.
   * @throws TidemarkError as `send`
   */
  tail(signal: AbortSignal, options?: TailOptions): AsyncIterable<ReceivedMessage>;
  /** Bounded in time. The topic is of no use afterwards. */
  close(): Promise<void>;
}
