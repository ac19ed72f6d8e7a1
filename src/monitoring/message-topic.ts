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

/** The monitoring topic. */
export interface MessageTopic {
  /**
   * At least once: after an error some, all or none may have been accepted, and the same ids may be sent again.
   * Splits into as many batches as the size limit asks for; keeps their order.
   * @throws TidemarkError MESSAGING_UNAVAILABLE
   */
  send(messages: readonly OutgoingMessage[], signal: AbortSignal): Promise<void>;
  /** Messages of the topic's `all` subscription as they come, until the signal aborts. Reading does not consume them. */
  tail(signal: AbortSignal): AsyncIterable<ReceivedMessage>;
  close(): Promise<void>;
}
