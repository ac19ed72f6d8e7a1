/** The queue of commands: messages in sessions, one session per group, each held by one listener at a time. */

/** As it was received; nothing of it is checked yet. */
export interface CommandMessage {
  readonly messageId: string;
  /** What it is about; commands have none. */
  readonly subject: string | undefined;
  /** When the queue took it, by the queue's clock. */
  readonly enqueuedAtMs: number;
  readonly contentType: string | undefined;
  /** Undefined when the body is no bytes. */
  readonly body: Buffer | undefined;
  readonly replyTo: string | undefined;
  readonly replyToSessionId: string | undefined;
  readonly correlationId: string | undefined;
  /** Application property `requested-by`; whoever may send may say anything here. */
  readonly requestedBy: string | undefined;
  /** Given by the queue: the same at each delivery, and never given twice. */
  readonly sequence: string;
  /** How often it was delivered before, and not settled. */
  readonly earlierDeliveries: number;
}

export interface ReplyMessage {
  /** Fixed for one reply to one message: duplicate detection keys on it. */
  readonly messageId: string;
  readonly correlationId: string;
  readonly sessionId: string | undefined;
  readonly subject: string;
  readonly body: unknown;
}

/**
 * A session in one listener's hands; its lock is renewed until it is closed. A message that is not settled before is delivered again, to
 * whoever has the session then. All throw TidemarkError MESSAGING_UNAVAILABLE, MESSAGING_REFUSED.
 */
export interface CommandSession {
  /** The group. */
  readonly id: string;
  /** Aborts when the lock is lost: whoever has the session now may be at work already. */
  readonly lost: AbortSignal;
  /** The oldest message, or undefined when none comes within about a second; behind another one, a tenth of it. */
  receive(signal: AbortSignal): Promise<CommandMessage | undefined>;
  complete(message: CommandMessage, signal: AbortSignal): Promise<void>;
  /** Gives it back, to be delivered again. */
  abandon(message: CommandMessage, signal: AbortSignal): Promise<void>;
  deadLetter(
    message: CommandMessage,
    reason: { readonly code: string; readonly description: string },
    signal: AbortSignal,
  ): Promise<void>;
  /** Bounded in time. */
  close(): Promise<void>;
}

export interface CommandQueue {
  readonly name: string;
  /** Whether no message is there, in whatever hands. @throws TidemarkError MESSAGING_UNAVAILABLE, MESSAGING_REFUSED */
  isEmpty(signal: AbortSignal): Promise<boolean>;
  /** The next session with messages that nobody holds, or undefined when there is none for a few seconds. @throws as `isEmpty` */
  nextSession(signal: AbortSignal): Promise<CommandSession | undefined>;
  /** At least once. @throws as `isEmpty`, MESSAGE_TOO_LARGE */
  reply(queue: string, message: ReplyMessage, signal: AbortSignal): Promise<void>;
  /** Bounded in time; sessions that are still open are given back. */
  close(): Promise<void>;
}
