/** Links on which the peer receives from the broker: queues, subscriptions, sessions, and answers to requests. */
import { randomBytes } from 'node:crypto';
import type { Connection, Delivery, Sender } from 'rhea';
import type { Directory } from './directory.ts';
import type { MessageRecord } from './entity.ts';
import { amqpErrorOf, type Fault, notAllowed } from './fault.ts';
import { Queue } from './queue.ts';
import { answerEveryDrain, forgetDelivery, holdAttach, sendQueued, setAttach } from './rhea-internals.ts';
import type { Consumer, Session, SessionWaiter } from './sessions.ts';
import type { Timers } from './timers.ts';
import { acceptedOutcome, rejectedOutcome, swapGuid, ticks, toNumber, wireMessage, withoutNulls } from './wire.ts';

const SESSION_FILTER = 'com.microsoft:session-filter';
/** How long a receiver waits for the next session, unless its link says otherwise; the real service's default. */
const DEFAULT_SESSION_WAIT_MS = 60_000;
/** AMQP's sender settle mode `settled`: receive-and-delete. */
const SETTLED = 1;

export type Outcome = 'accepted' | 'rejected' | 'released' | 'modified';

/** What a connection of a peer has open. */
interface Peer {
  readonly replies: Map<string, Sender>;
  readonly links: Set<Sender>;
}

/** A receiving link of the peer; rhea calls our end of it a sender. */
class LinkConsumer implements Consumer {
  readonly queue: Queue;
  readonly deletesOnSend: boolean;
  session: Session | undefined;
  readonly #sender: Sender;
  readonly #tokens: WeakMap<Delivery, string>;

  constructor(queue: Queue, sender: Sender, tokens: WeakMap<Delivery, string>) {
    this.queue = queue;
    this.deletesOnSend = sender.snd_settle_mode === SETTLED;
    this.#sender = sender;
    this.#tokens = tokens;
  }

  canSend(): boolean {
    return this.#sender.is_open() && this.#sender.sendable();
  }

  send(record: MessageRecord): boolean {
    const { lock } = record;
    return sendQueued(this.#sender, () => {
      // The delivery tag is the lock token, as the SDK expects.
      const tag = lock === undefined ? randomBytes(16) : swapGuid(lock.id);
      const delivery = this.#sender.send(wireMessage(record), tag);
      if (lock !== undefined) this.#tokens.set(delivery, lock.token);
    });
  }

  close(fault: Fault): void {
    this.#sender.close(amqpErrorOf(fault));
  }
}

export class OutgoingLinks {
  readonly #directory: Directory;
  readonly #timers: Timers;
  readonly #peers = new WeakMap<Connection, Peer>();
  readonly #consumers = new WeakMap<Sender, LinkConsumer>();
  /** Stops the wait of a link that has no session yet. */
  readonly #waits = new WeakMap<Sender, () => void>();
  /** Lock tokens of deliveries under way. */
  readonly #tokens = new WeakMap<Delivery, string>();

  constructor(directory: Directory, timers: Timers) {
    this.#directory = directory;
    this.#timers = timers;
  }

  replyLink(connection: Connection, address: string | undefined): Sender | undefined {
    return address === undefined ? undefined : this.#peer(connection).replies.get(address);
  }

  attach(sender: Sender): void {
    const address = sender.source?.address ?? '';
    const { replies, links } = this.#peer(sender.connection);
    if (address === '$cbs' || address.endsWith('/$management')) {
      sender.set_source({ address });
      replies.set(sender.name, sender);
      if (sender.target?.address) replies.set(sender.target.address, sender);
      return;
    }
    answerEveryDrain(sender);
    setAttach(sender, { rcv_settle_mode: sender.rcv_settle_mode });
    if (sender.snd_settle_mode === SETTLED) setAttach(sender, { snd_settle_mode: SETTLED });
    links.add(sender);
    try {
      this.#attachToQueue(sender, address);
    } catch (error) {
      sender.close(amqpErrorOf(error));
    }
  }

  /** The peer gave credit. */
  flow(sender: Sender): void {
    const consumer = this.#consumers.get(sender);
    consumer?.queue.pump(consumer);
  }

  /** The peer reports what became of a delivery; it gets an answer, since it settles second. */
  settle(sender: Sender, delivery: Delivery, outcome: Outcome): void {
    const token = this.#tokens.get(delivery);
    const consumer = this.#consumers.get(sender);
    if (token === undefined || consumer === undefined || delivery.settled) return;
    let reply = acceptedOutcome();
    try {
      applyOutcome(consumer.queue, token, outcome, delivery.remote_state ?? {});
    } catch (error) {
      reply = rejectedOutcome(amqpErrorOf(error));
    }
    delivery.update(true, reply);
    forgetDelivery(delivery);
  }

  detach(sender: Sender): void {
    this.#peer(sender.connection).links.delete(sender);
    this.#waits.get(sender)?.();
    const consumer = this.#consumers.get(sender);
    this.#consumers.delete(sender);
    consumer?.queue.detach(consumer);
  }

  detachAll(connection: Connection): void {
    for (const sender of this.#peer(connection).links) this.detach(sender);
  }

  #peer(connection: Connection): Peer {
    let peer = this.#peers.get(connection);
    if (peer === undefined) this.#peers.set(connection, (peer = { replies: new Map(), links: new Set() }));
    return peer;
  }

  #attachToQueue(sender: Sender, address: string): void {
    const queue = this.#directory.entity(address);
    if (!(queue instanceof Queue)) throw notAllowed(`Cannot receive from topic '${address}'; use a subscription.`);
    const filters: Record<string, unknown> = sender.source.filter ?? {};
    const wantsSession = SESSION_FILTER in filters;
    if (wantsSession && !queue.requiresSession) {
      throw notAllowed(
        `A sessionful message receiver cannot be created on an entity that does not require sessions: '${address}'.`,
      );
    }
    if (!wantsSession && queue.requiresSession) {
      throw notAllowed(
        `It is not possible for an entity that requires sessions to create a non-sessionful message receiver: '${address}'.`,
      );
    }
    if (!wantsSession) {
      sender.set_source({ address });
      queue.consumers.add(this.#consume(queue, sender));
      return;
    }
    const wanted = sessionIdOf(filters[SESSION_FILTER]);
    const session = wanted === undefined ? queue.sessions.nextFree() : queue.sessions.openFree(wanted);
    if (session === undefined) this.#waitForSession(queue, sender, address);
    else this.#hold(queue, sender, session);
  }

  #consume(queue: Queue, sender: Sender): LinkConsumer {
    const consumer = new LinkConsumer(queue, sender, this.#tokens);
    this.#consumers.set(sender, consumer);
    return consumer;
  }

  #hold(queue: Queue, sender: Sender, session: Session): void {
    queue.sessions.lock(session, this.#consume(queue, sender));
    sender.set_source({ address: queue.path, filter: { [SESSION_FILTER]: session.id } });
    setAttach(sender, { properties: { 'com.microsoft:locked-until-utc': ticks(session.lockedUntilMs) } });
  }

  /** A long poll: the answer to the attach is held back until there is a session, or the wait ends. */
  #waitForSession(queue: Queue, sender: Sender, address: string): void {
    holdAttach(sender);
    const waiter: SessionWaiter = {
      grant: (session) => {
        cancelTimeout();
        this.#waits.delete(sender);
        this.#hold(queue, sender, session);
        sender.open();
      },
    };
    const waitMs = toNumber(sender.properties?.['com.microsoft:timeout'] ?? DEFAULT_SESSION_WAIT_MS);
    const cancelTimeout = this.#timers.later(waitMs, () => {
      queue.sessions.stopWaiting(waiter);
      this.#waits.delete(sender);
      sender.set_source({ address });
      sender.open();
      sender.close({
        condition: 'com.microsoft:timeout',
        description: 'The operation did not complete within the allotted timeout: no unlocked session was available.',
      });
    });
    this.#waits.set(sender, () => {
      cancelTimeout();
      queue.sessions.stopWaiting(waiter);
    });
    queue.sessions.wait(waiter);
  }
}

function applyOutcome(queue: Queue, token: string, outcome: Outcome, state: Record<string, unknown>): void {
  switch (outcome) {
    case 'accepted':
      return queue.settle(token, 'complete');
    case 'released':
      return queue.settle(token, 'release');
    case 'modified':
      return queue.settle(
        token,
        state['undeliverable_here'] === true ? 'defer' : 'abandon',
        withoutNulls(state['message_annotations']),
      );
    case 'rejected': {
      const error = state['error'] as { info?: unknown } | undefined;
      return queue.settle(token, 'dead-letter', withoutNulls(error?.info));
    }
  }
}

/** The session that the filter asks for; undefined for the next free one. */
function sessionIdOf(filter: unknown): string | undefined {
  const value: unknown = typeof filter === 'object' && filter !== null && 'value' in filter ? filter.value : filter;
  return typeof value === 'string' ? value : undefined;
}
