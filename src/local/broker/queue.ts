/** A queue or a subscription: locks, settling, dead letters, delivery. In memory. */
import { randomBytes } from 'node:crypto';
import type { Message } from 'rhea';
import type { QueueProperties } from './config.ts';
import { parseDurationMs } from './durations.ts';
import { Entity, type Lock, type MessageRecord, type Neighbours } from './entity.ts';
import { Fault, messageLockLost, messageNotFound, notAllowed } from './fault.ts';
import { type Consumer, type Session, SessionTable } from './sessions.ts';
import type { Cancel, Timers } from './timers.ts';

/** The emulator's defaults. */
const DEFAULT_LOCK_MS = 60_000;
const DEFAULT_MAX_DELIVERIES = 3;

export type Settlement = 'complete' | 'abandon' | 'release' | 'defer' | 'dead-letter';

/** Application properties that settling adds to a message. */
export type AddedProperties = Readonly<Record<string, unknown>>;

export interface QueueOptions {
  readonly neighbours: Neighbours;
  readonly timers: Timers;
  /** True for the dead-letter queue of another: no expiry, no delivery limit, no sending by peers. */
  readonly isDeadLetter?: boolean;
}

export class Queue extends Entity {
  readonly isDeadLetter: boolean;
  readonly requiresSession: boolean;
  /** The queue's dead-letter queue; a dead-letter queue has none. */
  readonly deadLetters: Queue | undefined;
  /** Receivers without a session, the one that has waited longest first. */
  readonly consumers = new Set<Consumer>();
  readonly sessions: SessionTable;
  readonly #lockMs: number;
  readonly #maxDeliveries: number;
  readonly #deadLettersExpired: boolean;
  readonly #forwardTo: string;
  readonly #forwardDeadLettersTo: string;
  readonly #neighbours: Neighbours;
  /** Messages to deliver without a session, by sequence. */
  readonly #ready: MessageRecord[] = [];
  readonly #locked = new Map<string, MessageRecord>();

  constructor(path: string, properties: QueueProperties, options: QueueOptions) {
    super(path, properties, options.timers);
    this.isDeadLetter = options.isDeadLetter ?? false;
    this.requiresSession = properties.RequiresSession ?? false;
    this.#lockMs = parseDurationMs(properties.LockDuration, DEFAULT_LOCK_MS);
    this.#maxDeliveries = this.isDeadLetter ? Infinity : (properties.MaxDeliveryCount ?? DEFAULT_MAX_DELIVERIES);
    this.#deadLettersExpired = properties.DeadLetteringOnMessageExpiration ?? false;
    this.#forwardTo = properties.ForwardTo ?? '';
    this.#forwardDeadLettersTo = properties.ForwardDeadLetteredMessagesTo ?? '';
    this.#neighbours = options.neighbours;
    this.sessions = new SessionTable({
      lockMs: this.#lockMs,
      timers: options.timers,
      giveBack: (record, failed) => this.#giveBack(record, failed),
      pump: (session) => this.#pumpSession(session),
    });
    if (!this.isDeadLetter) {
      const { LockDuration } = properties;
      this.deadLetters = new Queue(`${path}/$DeadLetterQueue`, LockDuration === undefined ? {} : { LockDuration }, {
        ...options,
        isDeadLetter: true,
      });
    }
  }

  override requireAcceptable(message: Message): void {
    if (this.#forwardTo !== '') return this.#neighbours.entity(this.#forwardTo).requireAcceptable(message);
    super.requireAcceptable(message);
    if (this.requiresSession && (message.group_id === undefined || message.group_id === null)) {
      throw notAllowed(
        `The SessionId was not set on a message, and it cannot be sent to the entity '${this.path}' because it requires sessions.`,
      );
    }
  }

  accept(message: Message, deliveries = 0): void {
    if (this.#forwardTo !== '') return this.#neighbours.entity(this.#forwardTo).send(message);
    const nowMs = this.timers.now();
    const ttlMs = Math.min(message.ttl === undefined || message.ttl === 0 ? Infinity : message.ttl, this.ttlMs);
    const record = this.newRecord(message, {
      state: 'active',
      enqueuedAtMs: nowMs,
      expiresAtMs: this.isDeadLetter ? Infinity : nowMs + ttlMs,
    });
    record.deliveries = deliveries;
    this.#makeReady(record);
  }

  /** Removes expired messages that nobody asks for. */
  sweep(): void {
    for (const list of [this.#ready, ...[...this.sessions.all()].map(({ ready }) => ready)]) {
      const kept = list.filter((record) => !this.#expire(record));
      list.length = 0;
      for (const record of kept) list.push(record);
    }
  }

  /** @throws Fault com.microsoft:message-lock-lost */
  settle(token: string, how: Settlement, added: AddedProperties = {}): void {
    const record = this.#locked.get(token);
    if (record === undefined) throw messageLockLost();
    if (how === 'abandon' || how === 'defer') addProperties(record, added);
    if (how === 'abandon' || how === 'release') return this.#giveBack(record, how === 'abandon');
    this.#unlock(record);
    if (how === 'complete') this.messages.delete(record.sequence);
    else if (how === 'dead-letter') this.#deadLetter(record, added);
    else {
      record.state = 'deferred';
      record.wasDeferred = true;
    }
  }

  /** The new end of a message lock, ms since 1970. @throws Fault com.microsoft:message-lock-lost */
  renewLock(token: string): number {
    const record = this.#locked.get(token);
    if (record?.lock === undefined) throw messageLockLost();
    if (record.lock.session !== undefined) throw notAllowed('A message of a session has no lock of its own to renew.');
    return this.#arm(record, record.lock);
  }

  /** @throws Fault com.microsoft:message-not-found unless the message is deferred. */
  requireDeferred(sequence: number): MessageRecord {
    const record = this.messages.get(sequence);
    if (record?.state === 'deferred') return record;
    throw messageNotFound(`Message with sequence number ${sequence} is not deferred or does not exist.`);
  }

  lockRecord(record: MessageRecord, session: Session | undefined): Lock {
    const id = randomBytes(16);
    const lock: Lock = {
      id,
      token: id.toString('hex'),
      session,
      untilMs: session?.lockedUntilMs ?? 0,
      cancelExpiry: undefined,
    };
    record.state = 'locked';
    record.lock = lock;
    this.#locked.set(lock.token, record);
    if (session === undefined) this.#arm(record, lock);
    else session.inFlight.add(record);
    return lock;
  }

  /** Takes a receiver away. Its session is freed; without a session its locks stay until they expire, as in the real service. */
  detach(consumer: Consumer): void {
    this.consumers.delete(consumer);
    if (consumer.session !== undefined) this.sessions.free(consumer.session, false);
  }

  /** Delivers what `consumer` may have. */
  pump(consumer: Consumer): void {
    if (consumer.session === undefined) this.#pumpPlain();
    else this.#pumpSession(consumer.session);
  }

  #pumpPlain(): void {
    if (this.requiresSession) return;
    // Delivering moves a consumer to the end of the set, so that the messages go round.
    for (const consumer of Array.from(this.consumers)) this.#drain(this.#ready, consumer);
  }

  #pumpSession(session: Session): void {
    this.sessions.offer(session);
    if (session.holder !== undefined) this.#drain(session.ready, session.holder);
  }

  #drain(ready: MessageRecord[], consumer: Consumer): void {
    while (consumer.canSend()) {
      const record = ready.shift();
      if (record === undefined) return;
      if (!this.#expire(record) && !this.#deliver(record, consumer)) return;
    }
  }

  #deliver(record: MessageRecord, consumer: Consumer): boolean {
    if (consumer.deletesOnSend) this.messages.delete(record.sequence);
    else this.lockRecord(record, consumer.session);
    if (this.consumers.delete(consumer)) this.consumers.add(consumer);
    return consumer.send(record);
  }

  #arm(record: MessageRecord, lock: Lock): number {
    lock.cancelExpiry?.();
    lock.untilMs = this.timers.now() + this.#lockMs;
    const cancel: Cancel = this.timers.later(this.#lockMs, () => this.#giveBack(record, true));
    lock.cancelExpiry = cancel;
    return lock.untilMs;
  }

  #unlock(record: MessageRecord): void {
    const { lock } = record;
    if (lock === undefined) return;
    lock.cancelExpiry?.();
    lock.session?.inFlight.delete(record);
    this.#locked.delete(lock.token);
    record.lock = undefined;
  }

  /** Back to its place, or to the dead-letter queue when it has failed too often. */
  #giveBack(record: MessageRecord, failed: boolean): void {
    this.#unlock(record);
    if (failed && ++record.deliveries >= this.#maxDeliveries) {
      this.#deadLetter(record, {
        DeadLetterReason: 'MaxDeliveryCountExceeded',
        DeadLetterErrorDescription: `Message could not be consumed after ${record.deliveries} delivery attempts.`,
      });
    } else if (record.wasDeferred) record.state = 'deferred';
    else this.#makeReady(record);
  }

  /** Keeps sequence order: an abandoned message goes back to its own place. */
  #makeReady(record: MessageRecord): void {
    record.state = 'active';
    const session = this.requiresSession ? this.sessions.open(record.message.group_id ?? '') : undefined;
    const list = session?.ready ?? this.#ready;
    list.splice(list.findLastIndex(({ sequence }) => sequence < record.sequence) + 1, 0, record);
    if (session === undefined) this.#pumpPlain();
    else this.#pumpSession(session);
  }

  #expire(record: MessageRecord): boolean {
    if (record.expiresAtMs > this.timers.now()) return false;
    if (this.#deadLettersExpired) {
      this.#deadLetter(record, {
        DeadLetterReason: 'TTLExpiredException',
        DeadLetterErrorDescription: 'The message expired and was dead lettered.',
      });
    } else this.messages.delete(record.sequence);
    return true;
  }

  #deadLetter(record: MessageRecord, added: AddedProperties): void {
    this.messages.delete(record.sequence);
    addProperties(record, added);
    const { message } = record;
    if (this.#forwardDeadLettersTo !== '') {
      const annotations = { ...message.message_annotations, 'x-opt-deadletter-source': this.path };
      try {
        return this.#neighbours
          .entity(this.#forwardDeadLettersTo)
          .send({ ...message, message_annotations: annotations });
      } catch (error) {
        // The other entity refuses it (full, or it wants a session): the message stays here.
        if (!(error instanceof Fault)) throw error;
      }
    }
    (this.deadLetters ?? this).accept(message, record.deliveries);
  }
}

function addProperties(record: MessageRecord, added: AddedProperties): void {
  if (Object.keys(added).length === 0) return;
  const { message } = record;
  record.message = { ...message, application_properties: { ...message.application_properties, ...added } };
}
