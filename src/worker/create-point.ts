/** From the request for a point to the point: owning the group where it must be owned, and trying again when it was taken away. */
import { TidemarkError } from '../errors.ts';
import { buildPoint } from './build-point.ts';
import type { GroupSession } from './group-session.ts';
import { beginPoint, dropPoint, finishPoint, type CreatedPoint, type Moment } from './on-demand.ts';
import type { WorkerPorts, WorkerSettings } from './ports.ts';

/** A worker that runs elsewhere takes the group back within seconds; every step is repeatable and goes on where the last one ended. */
const MAX_TRIES = 8;
/** Pause before a repetition, longer each time by as much. */
const PAUSE_MS = 500;

export interface CreatePointOptions {
  readonly group: string;
  readonly at: Moment;
  readonly ports: WorkerPorts;
  readonly settings: WorkerSettings;
  /** Owns the group while `work` runs. */
  readonly own: <T>(work: (session: GroupSession) => Promise<T>) => Promise<T>;
  readonly signal: AbortSignal;
}

/** @throws TidemarkError POINT_UNREACHABLE, GROUP_DISABLED, GROUP_NOT_FOUND, what the ports throw */
export async function createPoint(options: CreatePointOptions): Promise<CreatedPoint> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt(options);
    } catch (error) {
      options.signal.throwIfAborted();
      if (!isTakenAway(error) || tries >= MAX_TRIES) throw error;
      await options.ports.clock.sleep(tries * PAUSE_MS, options.signal);
    }
  }
}

/** Somebody else owns the group, or the copies, by now. */
const isTakenAway = (error: unknown): boolean =>
  error instanceof TidemarkError &&
  (error.code === 'OWNERSHIP_LOST' || error.code === 'CONFLICT' || error.code === 'BLOB_MISSING');

async function attempt({ group, at, ports, settings, own, signal }: CreatePointOptions): Promise<CreatedPoint> {
  const begun = await own((session) => session.onDemand((options) => beginPoint(options, at)));
  if ('point' in begun) return begun;
  const built = await buildPoint({ group, plan: begun, ports, settings, signal }).catch(async (error: unknown) => {
    if (error instanceof TidemarkError && error.code === 'POINT_UNREACHABLE') {
      await own((session) => session.onDemand((options) => dropPoint(options, begun)));
    }
    throw error;
  });
  try {
    return await own((session) => session.onDemand((options) => finishPoint(options, begun, built.disks)));
  } finally {
    await built.close();
  }
}
