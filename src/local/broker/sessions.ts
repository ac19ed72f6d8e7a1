/** The sessions of one queue: who holds which, until when, and who waits for the next free one. */
import type { MessageRecord } from './entity.ts';
import { Fault, sessionLockLost } from './fault.ts';
import type { Cancel, Timers } from './timers.ts';

/** A receiving link as the queue sees it. */
export interface Consumer {
  /** Receive-and-delete: a message is gone once it is sent. */
  readonly deletesOnSend: boolean;
  /** The session it holds, when it is a session receiver. */
  session: Session | undefined;
  /** Open, and the peer has given credit. */
  canSend(): boolean;
  /** @returns false when the message was queued but the peer's credit was not used up, so that nothing more fits. */
  send(record: MessageRecord): boolean;
  close(fault: Fault): void;
}

export interface Session {
  readonly id: string;
  /** Messages to deliver, by sequence. */
  readonly ready: MessageRecord[];
  /** Messages its holder has, not settled yet. */
  readonly inFlight: Set<MessageRecord>;
  /** What the application keeps with the session; null when nothing. */
  state: unknown;
  holder: Consumer | undefined;
  lockedUntilMs: number;
  cancelExpiry: Cancel | undefined;
}

/** A receiver that waits for the next session with messages. */
export interface SessionWaiter {
  grant(session: Session): void;
}

export interface SessionTableOptions {
  readonly lockMs: number;
  readonly timers: Timers;
  /** Puts a message back into its session's ready list, or where failed messages go. */
  readonly giveBack: (record: MessageRecord, failed: boolean) => void;
  /** Delivers what the session has, now that it may have a new holder. */
  readonly pump: (session: Session) => void;
}

export class SessionTable {
  readonly #sessions = new Map<string, Session>();
  readonly #waiters = new Set<SessionWaiter>();
  readonly #options: SessionTableOptions;

  constructor(options: SessionTableOptions) {
    this.#options = options;
  }

  all(): Iterable<Session> {
    return this.#sessions.values();
  }

  find(id: string): Session | undefined {
    return this.#sessions.get(id);
  }

  /** The session, made when there is none yet. */
  open(id: string): Session {
    const existing = this.#sessions.get(id);
    if (existing !== undefined) return existing;
    const session: Session = {
      id,
      ready: [],
      inFlight: new Set(),
      state: null,
      holder: undefined,
      lockedUntilMs: 0,
      cancelExpiry: undefined,
    };
    this.#sessions.set(id, session);
    return session;
  }

  /** @throws Fault com.microsoft:session-lock-lost unless somebody holds the session. */
  requireHeld(id: string): Session {
    const session = this.#sessions.get(id);
    if (session?.holder === undefined) throw sessionLockLost(id);
    return session;
  }

  /** A session with messages that nobody holds. */
  nextFree(): Session | undefined {
    for (const session of this.#sessions.values()) {
      if (session.holder === undefined && session.ready.length > 0) return session;
    }
    return undefined;
  }

  /** @throws Fault com.microsoft:session-cannot-be-locked */
  openFree(id: string): Session {
    const session = this.open(id);
    if (session.holder === undefined) return session;
    throw new Fault(
      'com.microsoft:session-cannot-be-locked',
      `The requested session '${id}' cannot be accepted. It may be locked by another receiver.`,
      410,
    );
  }

  lock(session: Session, holder: Consumer): void {
    session.holder = holder;
    holder.session = session;
    this.#arm(session);
  }

  /** The new end of the lock, ms since 1970. @throws Fault com.microsoft:session-lock-lost */
  renew(id: string): number {
    const session = this.requireHeld(id);
    this.#arm(session);
    for (const { lock } of session.inFlight) if (lock !== undefined) lock.untilMs = session.lockedUntilMs;
    return session.lockedUntilMs;
  }

  /** Takes the session from its holder. `failed` counts a delivery against each of its messages. */
  free(session: Session, failed: boolean): void {
    session.cancelExpiry?.();
    if (session.holder !== undefined) session.holder.session = undefined;
    session.holder = undefined;
    for (const record of session.inFlight) this.#options.giveBack(record, failed);
    this.#sessions.delete(session.id);
    if (session.ready.length === 0 && session.state === null) return;
    this.#sessions.set(session.id, session); // behind the others: they have their turn first
    this.#options.pump(session);
  }

  wait(waiter: SessionWaiter): void {
    this.#waiters.add(waiter);
  }

  stopWaiting(waiter: SessionWaiter): void {
    this.#waiters.delete(waiter);
  }

  /** Gives a free session with messages to whoever has waited longest. */
  offer(session: Session): void {
    if (session.holder !== undefined || session.ready.length === 0) return;
    const [waiter] = this.#waiters;
    if (waiter === undefined) return;
    this.#waiters.delete(waiter);
    waiter.grant(session);
  }

  #arm(session: Session): void {
    session.cancelExpiry?.();
    session.lockedUntilMs = this.#options.timers.now() + this.#options.lockMs;
    session.cancelExpiry = this.#options.timers.later(this.#options.lockMs, () => {
      const { holder } = session;
      this.free(session, true);
      holder?.close(sessionLockLost(session.id));
    });
  }
}
