/** What failover jobs are given of the outside world. */
import { TidemarkError } from '../errors.ts';
import type { CreatedPoint, Moment } from '../worker/on-demand.ts';
import type { WorkerPorts } from '../worker/ports.ts';
import type { Compute } from './compute.ts';

export interface FailoverPorts extends Omit<WorkerPorts, 'logStore'> {
  /** Undefined when the configuration says nothing about it: then there are no failovers. */
  readonly compute: Compute | undefined;
  /** A point at the group's watermark, or at a moment in microseconds of source time. `created` is false when there is one already. */
  createPoint(group: string, at: Moment, signal: AbortSignal): Promise<CreatedPoint>;
  /** A new id: letters, digits and dashes, at most 40 characters, never given before. */
  newId(): string;
  /** In [0, 1). */
  random(): number;
}

/** @throws TidemarkError CONFIG_MISSING */
export function requireCompute({ compute }: Pick<FailoverPorts, 'compute'>): Compute {
  if (compute !== undefined) return compute;
  throw new TidemarkError(
    'CONFIG_MISSING',
    'TIDEMARK_SUBSCRIPTION_ID, TIDEMARK_RESOURCE_GROUP, TIDEMARK_LOCATION, TIDEMARK_REPLICA_ACCOUNT_ID not set',
  );
}
