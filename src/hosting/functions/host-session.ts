/** The host of functions holds session and message; here is what it says about them, in the form that the listener's parts know. */
import type { CommandMessage, CommandSession } from '../../commands/command-queue.ts';
import { TidemarkError } from '../../errors.ts';

/** The trigger's metadata, as far as it is read. Nothing of it is checked: whoever may send may say anything there. */
interface Metadata {
  readonly sessionId?: unknown;
  readonly messageId?: unknown;
  readonly subject?: unknown;
  readonly enqueuedTime?: unknown;
  readonly contentType?: unknown;
  readonly replyTo?: unknown;
  readonly replyToSessionId?: unknown;
  readonly correlationId?: unknown;
  readonly applicationProperties?: Readonly<Record<string, unknown>>;
  readonly sequenceNumber?: unknown;
  /** 1 at the first delivery. */
  readonly deliveryCount?: unknown;
}

export interface HostSession extends CommandSession {
  /** Why the message is refused for good. The host cannot be told: the function fails until the queue gives the message up. */
  readonly refusal: TidemarkError | undefined;
}

export interface HostMessage {
  readonly session: HostSession;
  readonly message: CommandMessage;
}

/** `body`: JSON that the library has parsed, or bytes. */
export function fromHost(body: unknown, metadata: Metadata = {}): HostMessage {
  const requestedBy = textOf(metadata.applicationProperties?.['requested-by']);
  return {
    session: hostSession(textOf(metadata.sessionId) ?? ''),
    message: {
      messageId: textOf(metadata.messageId) ?? '',
      subject: textOf(metadata.subject),
      enqueuedAtMs: Date.parse(String(metadata.enqueuedTime)) || 0,
      contentType: textOf(metadata.contentType),
      body: body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(textOf(body) ?? ''),
      replyTo: textOf(metadata.replyTo),
      replyToSessionId: textOf(metadata.replyToSessionId),
      correlationId: textOf(metadata.correlationId),
      requestedBy,
      sequence: textOf(metadata.sequenceNumber) ?? '',
      earlierDeliveries: Math.max(0, Number(metadata.deliveryCount ?? 1) - 1),
    },
  };
}

/** The library takes every text that is JSON for what it means: `"7"` comes as the number 7. */
function textOf(value: unknown): string | undefined {
  if (value === undefined || value === null || typeof value === 'string') return value ?? undefined;
  return JSON.stringify(value);
}

/** A message is completed by the function's success, and given back by its failure. */
function hostSession(id: string): HostSession {
  let refusal: TidemarkError | undefined;
  return {
    id,
    lost: new AbortController().signal, // the host renews it, and tells of nothing
    receive: async () => undefined,
    complete: async () => undefined,
    abandon: async () => undefined,
    deadLetter: async (_message, { code, description }) => {
      refusal = new TidemarkError('COMMAND_INVALID', `${code}: ${description}`);
    },
    close: async () => undefined,
    get refusal() {
      return refusal;
    },
  };
}
