/** Keeps an owner's leases: renews them at a third of their term, and stops the owner when a renewal fails or is late. */
import { LEASE_SECONDS, type Lease } from '../catalog/catalog.ts';
import { TidemarkError } from '../errors.ts';
import type { Clock } from './ports.ts';

const RENEW_AFTER_MS = (LEASE_SECONDS * 1000) / 3;
/** From the last good renewal: what is left of the term is the margin for a request that is already on its way. */
const STOP_AFTER_MS = 2 * RENEW_AFTER_MS;

/**
 * How long a worker that ends waits for its leases to be given back. Together with what the topic (3 s) and open sockets (1 s) may take,
 * it is well below the ten seconds in which a service manager expects a process to be gone.
 */
export const RELEASE_LIMIT_MS = 3000;

export interface KeptLeases {
  /** Aborts when the leases may no longer be held; its reason is the error. */
  readonly signal: AbortSignal;
  /** Ends the renewals. */
  stop(): Promise<void>;
}

export function keepLeases(
  owned: { readonly group: string; readonly leases: readonly Pick<Lease, 'renew'>[] },
  clock: Clock,
  signal: AbortSignal,
): KeptLeases {
  const lost = new AbortController();
  const stopped = new AbortController();
  const ending = AbortSignal.any([signal, stopped.signal]);
  const done = (async () => {
    while (!ending.aborted) {
      const renewedAtMs = clock.nowMs();
      await clock.sleep(RENEW_AFTER_MS, ending);
      const late = new AbortController();
      const watch = clock
        .sleep(STOP_AFTER_MS - (clock.nowMs() - renewedAtMs), AbortSignal.any([ending, late.signal]))
        .then(() => late.abort(leaseLate(owned.group)))
        .catch(() => undefined);
      const renewing = AbortSignal.any([ending, late.signal]);
      await Promise.all(owned.leases.map((lease) => lease.renew(renewing)));
      late.abort();
      await watch;
    }
  })().catch((error: unknown) => {
    if (!ending.aborted) lost.abort(error);
  });
  return {
    signal: AbortSignal.any([signal, lost.signal]),
    stop: async () => {
      stopped.abort();
      await done;
    },
  };
}

const leaseLate = (group: string): TidemarkError =>
  new TidemarkError('OWNERSHIP_LOST', `the leases of group ${group} could not be renewed in time`);
