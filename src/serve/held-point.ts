/** Keeps a point from being pruned while it is in use: a pin with an end, which is set again before it comes. */
import type { Catalog } from '../catalog/catalog.ts';
import { pinPoint, releasePin } from '../catalog/groups.ts';
import { TidemarkError } from '../errors.ts';
import type { Clock } from '../worker/ports.ts';

/** How long a pin outlives a process that was killed. */
export const PIN_MS = 3_600_000;
/** Leaves time for a catalog that is away to come back. */
export const RENEW_AFTER_MS = PIN_MS / 4;
const RETRY_AFTER_MS = 60_000;
/** For giving the pin back at the end; one that stays ends by itself. */
const RELEASE_LIMIT_MS = 3000;

export interface HoldOptions {
  readonly catalog: Catalog;
  readonly clock: Pick<Clock, 'nowUs' | 'sleep'>;
  readonly group: string;
  readonly point: string;
  readonly owner: string;
  readonly reason: string;
  readonly signal: AbortSignal;
}

export interface HeldPoint {
  /** Aborts when the point is held no longer; its reason is the error. */
  readonly lost: AbortSignal;
  /** Gives the pin back. @throws TidemarkError when the catalog does not take it in time: the pin then ends by itself */
  release(): Promise<void>;
}

/** @throws as `pinPoint` */
export async function holdPoint(options: HoldOptions): Promise<HeldPoint> {
  const { catalog, clock, group, point, owner, signal } = options;
  const lost = new AbortController();
  const stopped = new AbortController();
  const ending = AbortSignal.any([signal, stopped.signal]);
  let endsAtUs = await pin(options, ending);
  const renewing = (async () => {
    for (let waitMs = RENEW_AFTER_MS; ;) {
      await clock.sleep(waitMs, ending);
      try {
        endsAtUs = await pin(options, ending);
        waitMs = RENEW_AFTER_MS;
      } catch (error) {
        const passes = error instanceof TidemarkError && error.class === 'retry';
        if (!passes || clock.nowUs() + RETRY_AFTER_MS * 1000 >= endsAtUs) throw error;
        waitMs = RETRY_AFTER_MS;
      }
    }
  })().catch((error: unknown) => {
    if (!ending.aborted) lost.abort(error);
  });
  return {
    lost: lost.signal,
    async release() {
      stopped.abort(new TidemarkError('INTERRUPTED', `point ${point} is no longer in use`));
      await renewing;
      await releasePin(catalog, { group, point, owner }, AbortSignal.timeout(RELEASE_LIMIT_MS));
    },
  };
}

/** @returns when the pin ends */
async function pin({ catalog, clock, ...request }: HoldOptions, signal: AbortSignal): Promise<number> {
  const { group, point, owner, reason } = request;
  const nowUs = clock.nowUs();
  const expiresAtUs = nowUs + PIN_MS * 1000;
  await pinPoint(catalog, { group, point, owner, reason, nowUs, expiresAtUs }, signal);
  return expiresAtUs;
}
