/** What queues and topics share: duplicate detection, scheduled messages, a limit. */
import { randomUUID } from 'node:crypto';
import type { Message } from 'rhea';
import type { EntityProperties } from './config.ts';
import { parseDurationMs } from './durations.ts';
import { Fault, messageNotFound } from './fault.ts';
import type { Session } from './sessions.ts';
import type { Cancel, Timers } from './timers.ts';

/** The emulator's defaults. */
const DEFAULT_TTL_MS = 3_600_000;
const DEFAULT_DUPLICATE_WINDOW_MS = 20_000;
/** Messages one entity holds before it refuses more; stands in for the real service's size limit of 1 GiB. */
export const MAX_MESSAGES = 200_000;
/** When a due message finds its queue full, it tries again after this. */
const FULL_RETRY_MS = 1000;

export type RecordState = 'active' | 'locked' | 'deferred' | 'scheduled';

/** A message inside an entity. */
export interface MessageRecord {
  /** Counts from 1 within the entity; the order of delivery. */
  readonly sequence: number;
  message: Message;
  state: RecordState;
  readonly enqueuedAtMs: number;
  /** Failed deliveries so far. */
  deliveries: number;
  /** Infinity when the message never expires. */
  readonly expiresAtMs: number;
  lock: Lock | undefined;
  wasDeferred: boolean;
  cancelSchedule: Cancel | undefined;
}

export interface Lock {
  /** 16 random bytes; the peer sees them as a GUID. */
  readonly id: Buffer;
  /** `id` as hex. */
  readonly token: string;
  readonly session: Session | undefined;
  untilMs: number;
  cancelExpiry: Cancel | undefined;
}

/** How entities reach their neighbours: forwarding, and the topic's subscriptions. */
export interface Neighbours {
  /** @throws Fault amqp:not-found */
  entity(path: string): Entity;
}

export abstract class Entity {
  readonly path: string;
  /** Everything the entity holds, by sequence, in insertion order. */
  readonly messages = new Map<number, MessageRecord>();
  protected readonly timers: Timers;
  protected readonly ttlMs: number;
  readonly #duplicateWindowMs: number;
  /** When each message id was seen, oldest first. */
  readonly #seenAtMs = new Map<string, number>();
  #sequence = 0;

  constructor(path: string, properties: EntityProperties, timers: Timers) {
    this.path = path;
    this.timers = timers;
    this.ttlMs = parseDurationMs(properties.DefaultMessageTimeToLive, DEFAULT_TTL_MS);
    this.#duplicateWindowMs =
      properties.RequiresDuplicateDetection === true
        ? parseDurationMs(properties.DuplicateDetectionHistoryTimeWindow, DEFAULT_DUPLICATE_WINDOW_MS)
        : 0;
  }

  /** Takes a message that is due now. */
  abstract accept(message: Message, deliveries?: number): void;

  /** @throws Fault when the entity cannot take `message`; nothing has changed then. */
  requireAcceptable(_message: Message): void {
    if (this.messages.size >= MAX_MESSAGES) {
      throw new Fault(
        'amqp:resource-limit-exceeded',
        `The entity '${this.path}' holds ${MAX_MESSAGES} messages already.`,
      );
    }
  }

  /** Takes a message from a sender: drops it when it is a duplicate, keeps it back when it is scheduled. */
  send(message: Message): void {
    this.requireAcceptable(message);
    // The real service sets an id as well, and the SDK's lock renewer is keyed by it.
    message.message_id ??= randomUUID().replaceAll('-', '');
    if (this.#isDuplicate(message)) return;
    const dueAtMs = scheduledTimeMs(message);
    if (dueAtMs !== undefined && dueAtMs > this.timers.now()) this.#schedule(message, dueAtMs);
    else this.accept(message);
  }

  /** The sequence of the scheduled message, 0 when it was a duplicate. */
  schedule(message: Message): number {
    this.requireAcceptable(message);
    const dueAtMs = scheduledTimeMs(message);
    if (dueAtMs === undefined) throw new Fault('amqp:not-allowed', 'The message has no scheduled enqueue time.');
    return this.#isDuplicate(message) ? 0 : this.#schedule(message, dueAtMs);
  }

  /** @throws Fault com.microsoft:message-not-found */
  cancelScheduled(sequence: number): void {
    const record = this.messages.get(sequence);
    if (record?.state !== 'scheduled') throw messageNotFound(`Failed to find scheduled message ${sequence}.`);
    record.cancelSchedule?.();
    this.messages.delete(sequence);
  }

  protected newRecord(
    message: Message,
    fields: Pick<MessageRecord, 'state' | 'enqueuedAtMs' | 'expiresAtMs'>,
  ): MessageRecord {
    const record: MessageRecord = {
      sequence: ++this.#sequence,
      message,
      deliveries: 0,
      lock: undefined,
      wasDeferred: false,
      cancelSchedule: undefined,
      ...fields,
    };
    this.messages.set(record.sequence, record);
    return record;
  }

  #schedule(message: Message, dueAtMs: number): number {
    const record = this.newRecord(message, { state: 'scheduled', enqueuedAtMs: dueAtMs, expiresAtMs: Infinity });
    const arm = (delayMs: number): void => {
      record.cancelSchedule = this.timers.later(delayMs, () => {
        // A timer may fire early, or stand for a wait longer than a timer can hold.
        if (this.timers.now() < dueAtMs) return arm(dueAtMs - this.timers.now());
        if (!this.#hasRoomFor(message)) return arm(FULL_RETRY_MS);
        this.messages.delete(record.sequence);
        this.accept(message);
      });
    };
    arm(dueAtMs - this.timers.now());
    return record.sequence;
  }

  #hasRoomFor(message: Message): boolean {
    try {
      this.requireAcceptable(message);
      return true;
    } catch (error) {
      if (error instanceof Fault) return false;
      throw error;
    }
  }

  #isDuplicate(message: Message): boolean {
    if (this.#duplicateWindowMs === 0 || message.message_id === undefined) return false;
    const nowMs = this.timers.now();
    const key = String(message.message_id);
    const seenAtMs = this.#seenAtMs.get(key);
    if (seenAtMs !== undefined && nowMs - seenAtMs < this.#duplicateWindowMs) return true;
    this.#seenAtMs.delete(key);
    this.#seenAtMs.set(key, nowMs);
    for (const [oldest, atMs] of this.#seenAtMs) {
      if (nowMs - atMs < this.#duplicateWindowMs) break;
      this.#seenAtMs.delete(oldest);
    }
    return false;
  }
}

function scheduledTimeMs(message: Message): number | undefined {
  const value: unknown = message.message_annotations?.['x-opt-scheduled-enqueue-time'];
  if (value === undefined || value === null) return undefined;
  const timeMs = value instanceof Date ? value.getTime() : Number(value);
  return Number.isFinite(timeMs) ? timeMs : undefined;
}
