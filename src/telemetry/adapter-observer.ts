/** What the adapters tell of their traffic, to whoever counts it. Calls of an observer never throw and take no time. */

/** The storage account that is asked. */
export type AccountRole = 'cache' | 'replica';

export interface SentRequest {
  readonly account: AccountRole;
  /** `PutPage`, `ListBlobs`: src/azure/storage-operation.ts has them all. */
  readonly operation: string;
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  /** Until the headers of the answer. */
  readonly durationMs: number;
}

export interface Refusal {
  readonly account: AccountRole;
  /** 429 or 503. */
  readonly status: number;
  /** How long nothing is sent from now on. */
  readonly pauseMs: number;
}

/** `lost`: a renewal was refused, since another owner has taken the lease or the blob is gone. */
export type LeaseEvent = 'taken' | 'renewed' | 'lost' | 'released';

export interface StorageObserver {
  /** An HTTP request was sent, repetitions included. */
  onRequest(request: SentRequest): void;
  onThrottled(refusal: Refusal): void;
  onLease(lease: { readonly account: AccountRole; readonly container: string; readonly event: LeaseEvent }): void;
}

export type MessagingOperation = 'send' | 'receive' | 'settle' | 'peek' | 'accept-session' | 'renew-lock';

export interface MessagingCall {
  readonly operation: MessagingOperation;
  /** Messages that went over; 0 when the call failed. */
  readonly messages: number;
  readonly ok: boolean;
}

export interface MessagingObserver {
  onMessaging(call: MessagingCall): void;
}

export type AdapterObserver = StorageObserver & MessagingObserver;

/** Tells all of them. */
export const observers = (...all: readonly AdapterObserver[]): AdapterObserver => ({
  onRequest: (request) => all.forEach((each) => each.onRequest(request)),
  onThrottled: (refusal) => all.forEach((each) => each.onThrottled(refusal)),
  onLease: (lease) => all.forEach((each) => each.onLease(lease)),
  onMessaging: (call) => all.forEach((each) => each.onMessaging(call)),
});
