/** The `$management` node of an entity: what the SDK asks for by request and reply instead of by links. */
import type { Message } from 'rhea';
import type { Entity, MessageRecord } from './entity.ts';
import { notAllowed, notSupported } from './fault.ts';
import { Queue, type Settlement } from './queue.ts';
import {
  decodeMessage,
  encodeMessage,
  longArray,
  map,
  timestamp,
  timestampArray,
  toNumber,
  uuid,
  wireMessage,
  withoutNulls,
} from './wire.ts';

/** A request's or an answer's body: an AMQP map. */
export type Fields = Record<string, unknown>;

/** Messages that one peek returns at most. */
const MAX_PEEKED = 1000;

const SETTLEMENTS: Readonly<Record<string, Settlement>> = {
  completed: 'complete',
  abandoned: 'abandon',
  defered: 'defer',
  suspended: 'dead-letter',
};

type Operation = (entity: Entity, body: Fields) => Fields | undefined;

const OPERATIONS: Readonly<Record<string, Operation>> = {
  'schedule-message': (entity, body) => {
    const messages = (body['messages'] as { message: Buffer }[]).map(({ message }) => decodeMessage(message));
    for (const message of messages) entity.requireAcceptable(message);
    return { 'sequence-numbers': longArray(messages.map((message) => entity.schedule(message))) };
  },
  'cancel-scheduled-message': (entity, body) => {
    for (const sequence of list(body, 'sequence-numbers')) entity.cancelScheduled(toNumber(sequence));
    return {};
  },
  'peek-message': peek,
  'renew-lock': (entity, body) => {
    const queue = requireQueue(entity);
    return { expirations: timestampArray(lockTokens(body).map((token) => queue.renewLock(token))) };
  },
  'update-disposition': (entity, body) => {
    const queue = requireQueue(entity);
    const how = SETTLEMENTS[String(body['disposition-status'])];
    if (how === undefined) throw notSupported(`The disposition '${String(body['disposition-status'])}'`);
    const added = withoutNulls({
      ...withoutNulls(body['properties-to-modify']),
      ...(how === 'dead-letter' && {
        DeadLetterReason: body['deadletter-reason'],
        DeadLetterErrorDescription: body['deadletter-description'],
      }),
    });
    for (const token of lockTokens(body)) queue.settle(token, how, added);
    return {};
  },
  'receive-by-sequence-number': receiveDeferred,
  'renew-session-lock': (entity, body) => ({
    expiration: timestamp(requireQueue(entity).sessions.renew(String(body['session-id']))),
  }),
  'set-session-state': (entity, body) => {
    requireQueue(entity).sessions.requireHeld(String(body['session-id'])).state = body['session-state'] ?? null;
    return {};
  },
  'get-session-state': (entity, body) => ({
    'session-state': requireQueue(entity).sessions.find(String(body['session-id']))?.state ?? null,
  }),
};

/**
 * Answers one request. Undefined means there is nothing (status 204).
 * @throws Fault when the request fails; amqp:not-implemented for operations that the broker does not have
 */
export function manage(entity: Entity, request: Message): Fields | undefined {
  const name = String(request.application_properties?.['operation']).replace('com.microsoft:', '');
  const operation = Object.hasOwn(OPERATIONS, name) ? OPERATIONS[name] : undefined;
  if (operation === undefined) throw notSupported(`The operation '${name}'`);
  return operation(entity, (request.body ?? {}) as Fields);
}

function peek(entity: Entity, body: Fields): Fields | undefined {
  const from = toNumber(body['from-sequence-number']);
  const limit = Math.min(toNumber(body['message-count']), MAX_PEEKED);
  const sessionId: unknown = body['session-id'] ?? undefined;
  const found: unknown[] = [];
  for (const record of entity.messages.values()) {
    if (found.length >= limit) break;
    if (record.sequence < from || (sessionId !== undefined && record.message.group_id !== sessionId)) continue;
    found.push(map({ message: encode(record) }));
  }
  return found.length === 0 ? undefined : { messages: found };
}

function receiveDeferred(entity: Entity, body: Fields): Fields {
  const queue = requireQueue(entity);
  const records = list(body, 'sequence-numbers').map((sequence) => queue.requireDeferred(toNumber(sequence)));
  const sessionId = body['session-id'] as string | null | undefined;
  const session = typeof sessionId === 'string' ? queue.sessions.requireHeld(sessionId) : undefined;
  const deletes = toNumber(body['receiver-settle-mode']) === 0;
  const messages = records.map((record) => {
    if (deletes) {
      queue.messages.delete(record.sequence);
      return map({ message: encode(record) });
    }
    const { id } = queue.lockRecord(record, session);
    return map({ message: encode(record), 'lock-token': uuid(id) });
  });
  return { messages };
}

function requireQueue(entity: Entity): Queue {
  if (entity instanceof Queue) return entity;
  throw notAllowed(`The topic '${entity.path}' holds no messages to receive; use a subscription.`);
}

const list = (body: Fields, name: string): unknown[] => body[name] as unknown[];

const lockTokens = (body: Fields): string[] =>
  list(body, 'lock-tokens').map((token) => Buffer.from(token as Buffer).toString('hex'));

const encode = (record: MessageRecord): Buffer => encodeMessage(wireMessage(record));
