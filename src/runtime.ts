/** From a configuration to the outside world: the storage accounts, the topic, the clock and a worker's settings. */
import { STANDARD_PAGE_BLOB } from './apply/rate-limit.ts';
import { connect } from './azure/connect.ts';
import { openMonitoringTopic } from './azure/service-bus-topic.ts';
import type { Configuration } from './config.ts';
import type { LogUpload } from './drain/log-store.ts';
import { createLogKey } from './log/seal.ts';
import { systemClock } from './system-clock.ts';
import type { WorkerPorts, WorkerSettings } from './worker/ports.ts';

export interface Runtime {
  readonly ports: WorkerPorts & { readonly logUpload: LogUpload };
  readonly settings: WorkerSettings;
  close(): Promise<void>;
}

/** Opens nothing: connections are made by the first call that needs one. @throws TidemarkError for malformed connection strings */
export function openRuntime(configuration: Configuration): Runtime {
  const storage = connect(configuration);
  const topic = openMonitoringTopic(configuration.serviceBusConnectionString, configuration.monitoringTopic);
  const { worker, logKey } = configuration;
  return {
    ports: { ...storage, topic, clock: systemClock, random: Math.random },
    settings: {
      payloadBudgetBytes: worker.payloadBudgetBytes,
      requestsPerDisk: worker.requestsPerDisk,
      requestsPerAccount: worker.requestsPerAccount,
      rate: worker.limitPageBlobRates ? STANDARD_PAGE_BLOB : undefined,
      key: logKey === undefined ? undefined : createLogKey(logKey),
    },
    close: async () => {
      await topic.close();
      storage.close();
    },
  };
}
