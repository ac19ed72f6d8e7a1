/** From a configuration to the outside world: the storage accounts, the topic, Azure Compute, the clock and a worker's settings. */
import { STANDARD_PAGE_BLOB } from './apply/rate-limit.ts';
import { connect } from './azure/connect.ts';
import { lazyCompute } from './azure/lazy-compute.ts';
import { openMonitoringTopic } from './azure/service-bus-topic.ts';
import type { Configuration } from './config.ts';
import type { LogUpload } from './drain/log-store.ts';
import { TidemarkError } from './errors.ts';
import type { Compute } from './failover/compute.ts';
import { createLogKey } from './log/seal.ts';
import { systemClock } from './system-clock.ts';
import type { WorkerPorts, WorkerSettings } from './worker/ports.ts';

export interface Runtime {
  readonly ports: WorkerPorts & { readonly logUpload: LogUpload };
  readonly settings: WorkerSettings;
  /** Undefined when the configuration says nothing about it. */
  readonly compute: Compute | undefined;
  close(): Promise<void>;
}

/** Opens nothing: connections are made by the first call that needs one. @throws TidemarkError for malformed connection strings */
export function openRuntime(configuration: Configuration): Runtime {
  const storage = connect(configuration);
  const topic = openMonitoringTopic(configuration.serviceBusConnectionString, configuration.monitoringTopic);
  const { worker, logKey, compute } = configuration;
  return {
    ports: { ...storage, topic, clock: systemClock, random: Math.random },
    settings: {
      payloadBudgetBytes: worker.payloadBudgetBytes,
      requestsPerDisk: worker.requestsPerDisk,
      requestsPerAccount: worker.requestsPerAccount,
      rate: worker.limitPageBlobRates ? STANDARD_PAGE_BLOB : undefined,
      key: logKey === undefined ? undefined : createLogKey(logKey),
    },
    compute: compute === undefined ? undefined : lazyCompute(compute),
    close: async () => {
      await topic.close();
      storage.close();
    },
  };
}

/** @throws TidemarkError CONFIG_MISSING */
export function requireCompute({ compute }: Pick<Runtime, 'compute'>): Compute {
  if (compute !== undefined) return compute;
  throw new TidemarkError(
    'CONFIG_MISSING',
    'TIDEMARK_SUBSCRIPTION_ID, TIDEMARK_RESOURCE_GROUP, TIDEMARK_LOCATION, TIDEMARK_REPLICA_ACCOUNT_ID not set',
  );
}
