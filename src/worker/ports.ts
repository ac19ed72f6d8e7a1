/** What a worker is given: the outside world, and the settings of its limits. */
import type { Rate, Waiting } from '../apply/rate-limit.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { CopyStore } from '../copies/copy-store.ts';
import type { LogStore } from '../drain/log-store.ts';
import type { LogKey } from '../log/seal.ts';
import type { MessageTopic } from '../monitoring/message-topic.ts';
import type { SeedStore } from '../seed/seed-store.ts';

/** Wall-clock time in microseconds since 1970, and a way to let it pass. */
export interface Clock extends Waiting {
  nowUs(): number;
}

export interface WorkerPorts {
  readonly logStore: LogStore;
  readonly seeds: SeedStore;
  readonly copies: CopyStore;
  readonly catalog: Catalog;
  readonly topic: MessageTopic;
  readonly clock: Clock;
  /** In [0, 1): spreads retries, and decides nothing else. */
  readonly random: () => number;
}

/** Groups drained at the same time unless said otherwise. */
export const GROUPS_AT_ONCE = 4;

export interface WorkerSettings {
  /** Payload in memory over all disks of all groups that are drained at once. */
  readonly payloadBudgetBytes: number;
  readonly requestsPerDisk: number;
  /** Page writes in flight to the replica account, over all groups of a worker. */
  readonly requestsPerAccount: number;
  /** Undefined: no limit (the local stack has none). */
  readonly rate: Rate | undefined;
  readonly key: LogKey | undefined;
}
