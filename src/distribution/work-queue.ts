/** The other ends of the queue that groups are worked on through: who gives orders, and who hints at them. */
import type { Order } from './orders.ts';

/** All throw TidemarkError MESSAGING_UNAVAILABLE, MESSAGING_REFUSED. */
export interface WorkQueue {
  /** Groups for which an order waits: kept back, in line, or in somebody's hands. */
  waiting(signal: AbortSignal): Promise<ReadonlySet<string>>;
  /** At least once each. An order whose id came within the queue's window of duplicate detection is dropped. */
  send(orders: readonly Order[], signal: AbortSignal): Promise<void>;
  /** Bounded in time. */
  close(): Promise<void>;
}

export interface CacheEvents {
  /** Their bodies, as JSON. */
  readonly bodies: readonly unknown[];
  /** They are not given again; without it they are, once their locks have ended. @throws as `receive` */
  complete(signal: AbortSignal): Promise<void>;
}

export interface CacheEventQueue {
  /** What is there, or what comes within some seconds; undefined when nothing does. @throws TidemarkError MESSAGING_UNAVAILABLE, MESSAGING_REFUSED */
  receive(signal: AbortSignal): Promise<CacheEvents | undefined>;
  /** Bounded in time. */
  close(): Promise<void>;
}
