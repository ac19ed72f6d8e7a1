/** The other side of the command queue: sends a command, and reads what is replied. */
import type { Reply } from './messages.ts';

export interface OutgoingCommand {
  readonly group: string;
  /** Idempotency key. */
  readonly messageId: string;
  /** The body's bytes, as they are. */
  readonly body: Buffer;
  readonly requestedBy: string;
  /** Session of the reply queue; undefined when no replies are wanted. */
  readonly replySession: string | undefined;
}

export interface CommandClient {
  /** @throws TidemarkError MESSAGING_UNAVAILABLE, MESSAGING_REFUSED, MESSAGE_TOO_LARGE */
  send(command: OutgoingCommand, signal: AbortSignal): Promise<void>;
  /**
   * Replies of one session in their order, at least once each; those to other messages are left out. Ends with the last reply that a
   * message gets.
   * @throws TidemarkError MESSAGING_REFUSED; the signal's reason
   */
  replies(session: string, correlationId: string, signal: AbortSignal): AsyncIterable<Reply>;
  /** Bounded in time. */
  close(): Promise<void>;
}
