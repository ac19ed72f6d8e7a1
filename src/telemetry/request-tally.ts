/** What this process has asked of storage and Service Bus, by kind: plain counts, kept whether or not anything is exported. */
import type { AccountRole, AdapterObserver, LeaseEvent, MessagingOperation } from './adapter-observer.ts';

type Counts<K extends string> = Readonly<Partial<Record<K, number>>>;

/** As JSON; kinds that did not occur are left out. */
export interface RequestCounts {
  readonly storage: Readonly<Record<AccountRole, Readonly<Record<string, number>>>>;
  /** Refused for now (429, 503); they are in `storage` too. */
  readonly throttled: Counts<AccountRole>;
  readonly leases: Counts<LeaseEvent>;
  readonly serviceBus: Counts<MessagingOperation>;
  readonly messages: Counts<'sent' | 'received' | 'peeked'>;
}

export interface RequestTally extends AdapterObserver {
  /** The counts since the tally was made. */
  snapshot(): RequestCounts;
}

const MESSAGES_OF = { send: 'sent', receive: 'received', peek: 'peeked' } as const;

export function createRequestTally(): RequestTally {
  const storage = { cache: new Tally<string>(), replica: new Tally<string>() };
  const throttled = new Tally<AccountRole>();
  const leases = new Tally<LeaseEvent>();
  const serviceBus = new Tally<MessagingOperation>();
  const messages = new Tally<'sent' | 'received' | 'peeked'>();
  return {
    onRequest: ({ account, operation }) => storage[account].add(operation),
    onThrottled: ({ account }) => throttled.add(account),
    onLease: ({ event }) => leases.add(event),
    onMessaging: ({ operation, messages: count }) => {
      serviceBus.add(operation);
      if (operation === 'send' || operation === 'receive' || operation === 'peek') {
        messages.add(MESSAGES_OF[operation], count);
      }
    },
    snapshot: () => ({
      storage: {
        cache: storage.cache.counts() as Record<string, number>,
        replica: storage.replica.counts() as Record<string, number>,
      },
      throttled: throttled.counts(),
      leases: leases.counts(),
      serviceBus: serviceBus.counts(),
      messages: messages.counts(),
    }),
  };
}

class Tally<K extends string> {
  readonly #counts = new Map<K, number>();

  add(key: K, count = 1): void {
    if (count > 0) this.#counts.set(key, (this.#counts.get(key) ?? 0) + count);
  }

  /** In the order of their names. */
  counts(): Counts<K> {
    const entries = [...this.#counts].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries) as Counts<K>;
  }
}
