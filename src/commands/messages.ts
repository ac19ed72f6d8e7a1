/** Pure. Command messages and their replies: what must be in them, and how they are read. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import { idempotencyKeySchema, type Command, type JobView } from './commands.ts';
import type { CommandMessage, ReplyMessage } from './command-queue.ts';
import { commandFor, jobErrorSchema, jobViewSchema, MAX_COMMAND_BYTES } from './job-view.ts';

/** Room for the rest of a message within 256 KiB, the limit of the Standard tier. */
export const MAX_REPLY_BYTES = 192 * 1024;
/** Service Bus: names of queues, correlation ids and session ids. */
const QUEUE_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?$/;
const MAX_ID_CHARS = 128;
const REQUESTER = /^[^\p{Cc}]{1,120}$/u;

export const replySchema = z.discriminatedUnion('reply', [
  z.strictObject({
    reply: z.enum(['accepted', 'finished']),
    job: jobViewSchema,
    /** Steps and result were left out, since they do not fit into a message. */
    isShortened: z.boolean(),
  }),
  z.strictObject({ reply: z.literal('refused'), problem: jobErrorSchema }),
]);

export type Reply = z.infer<typeof replySchema>;

/** Where replies go; undefined when none are wanted. */
export interface ReplyAddress {
  readonly queue: string;
  readonly sessionId: string | undefined;
  readonly correlationId: string;
}

export interface CommandRequest {
  readonly command: Command;
  readonly key: string;
  readonly requestedBy: string;
}

/** @throws TidemarkError REQUEST_INVALID when it cannot be replied to what the message names */
export function replyAddressOf(message: CommandMessage, commandQueue: string): ReplyAddress | undefined {
  const { replyTo, replyToSessionId: sessionId, correlationId, messageId } = message;
  if (replyTo === undefined || replyTo === '') return undefined;
  if (!QUEUE_NAME.test(replyTo) || replyTo.toLowerCase() === commandQueue.toLowerCase()) {
    throw new TidemarkError('REQUEST_INVALID', 'reply-to is no name of a queue for replies');
  }
  if ([sessionId, correlationId].some((id) => id !== undefined && id.length > MAX_ID_CHARS)) {
    throw new TidemarkError('REQUEST_INVALID', `an id has more than ${MAX_ID_CHARS} characters`);
  }
  return { queue: replyTo, sessionId, correlationId: correlationId ?? messageId };
}

/** @throws TidemarkError MEDIA_TYPE, REQUEST_TOO_LARGE, REQUEST_INVALID, COMMAND_INVALID */
export function requestOf(group: string, message: CommandMessage): CommandRequest {
  const { contentType = '', body, messageId, requestedBy = 'unknown' } = message;
  if (!isJson(contentType)) {
    throw new TidemarkError('MEDIA_TYPE', `content type ${JSON.stringify(contentType.slice(0, 80))} is not JSON`);
  }
  if (body === undefined) throw new TidemarkError('REQUEST_INVALID', 'the body is no bytes');
  if (body.length > MAX_COMMAND_BYTES) {
    throw new TidemarkError('REQUEST_TOO_LARGE', `the body has ${body.length} bytes, more than ${MAX_COMMAND_BYTES}`);
  }
  if (!idempotencyKeySchema.safeParse(messageId).success) {
    throw new TidemarkError('REQUEST_INVALID', 'message id: 1 to 128 printable characters without spaces');
  }
  if (!REQUESTER.test(requestedBy)) throw new TidemarkError('REQUEST_INVALID', 'requested-by is no line of text');
  return {
    command: commandFor(group, parseJson(body)),
    key: messageId,
    requestedBy: `${requestedBy} (message)`,
  };
}

/** `application/json`, with UTF-8 or without saying so. */
export const isJson = (contentType: string): boolean =>
  /^application\/json(?:\s*;\s*charset=(?:"utf-8"|utf-8))?$/i.test(contentType.trim());

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch (cause) {
    throw new TidemarkError('REQUEST_INVALID', 'the body is no JSON text', { cause });
  }
}

/** @param group and `message` of the request: together they name it for ever */
export function replyMessage(
  group: string,
  message: Pick<CommandMessage, 'messageId' | 'sequence'>,
  { correlationId, sessionId }: ReplyAddress,
  reply: Reply,
): ReplyMessage {
  const id = createHash('sha256').update(`${group}\n${message.messageId}\n${message.sequence}`).digest('hex');
  return {
    messageId: `${id.slice(0, 32)}-${reply.reply}`,
    correlationId,
    sessionId,
    subject: `command-${reply.reply}`,
    body: reply,
  };
}

export function jobReply(reply: 'accepted' | 'finished', job: JobView): Reply {
  const whole: Reply = { reply, job: { ...job, steps: [...job.steps] }, isShortened: false };
  if (Buffer.byteLength(JSON.stringify(whole)) <= MAX_REPLY_BYTES) return whole;
  return { reply, job: { ...job, steps: [], result: null }, isShortened: true };
}

export const refusal = ({ code, message, hint }: TidemarkError): Reply => ({
  reply: 'refused',
  problem: { code, message, hint },
});
