/** What failover jobs are given of the outside world. */
import type { CreatedPoint, Moment } from '../worker/on-demand.ts';
import type { WorkerPorts } from '../worker/ports.ts';
import type { Compute } from './compute.ts';

export interface FailoverPorts extends Omit<WorkerPorts, 'logStore'> {
  readonly compute: Compute;
  /** A point at the group's watermark, or at a moment in microseconds of source time. `created` is false when there is one already. */
  createPoint(group: string, at: Moment, signal: AbortSignal): Promise<CreatedPoint>;
  /** A new id: letters, digits and dashes, at most 40 characters, never given before. */
  newId(): string;
  /** In [0, 1). */
  random(): number;
}
