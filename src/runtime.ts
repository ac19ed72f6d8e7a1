/** From a configuration to the outside world: the storage accounts, the topic, Azure Compute, the clock and a worker's settings. */
import { randomUUID } from 'node:crypto';
import { STANDARD_PAGE_BLOB } from './apply/rate-limit.ts';
import { accountAccess, serviceBusAccess } from './azure/access.ts';
import { connect } from './azure/connect.ts';
import { type Credential, openCredential, typedCredential } from './azure/credentials.ts';
import { lazyCompute } from './azure/lazy-compute.ts';
import { openCommandClient } from './azure/service-bus-command-client.ts';
import { openCommandQueue } from './azure/service-bus-commands.ts';
import { openMonitoringTopic } from './azure/service-bus-topic.ts';
import { openCacheEventQueue, openWorkQueue } from './azure/service-bus-work.ts';
import type { CommandClient } from './commands/command-client.ts';
import type { CommandService } from './commands/commands.ts';
import type { Configuration } from './config.ts';
import type { Queues, Scheduling } from './distribution/work.ts';
import type { LogUpload } from './drain/log-store.ts';
import type { Compute } from './failover/compute.ts';
import { createCommandService } from './failover/service.ts';
import { createLogKey, type LogKey } from './log/seal.ts';
import type { ReplicaSurvey } from './rebuild/survey.ts';
import { systemClock } from './system-clock.ts';
import { observers } from './telemetry/adapter-observer.ts';
import { adapterMetrics } from './telemetry/instruments.ts';
import { createRequestTally, type RequestTally } from './telemetry/request-tally.ts';
import { apiTelemetry, type Telemetry } from './telemetry/telemetry.ts';
import { tracedCommands } from './telemetry/traced-commands.ts';
import { tracedCatalog, tracedSeeds } from './telemetry/traced-ports.ts';
import type { WorkerPorts, WorkerSettings } from './worker/ports.ts';
import { Worker } from './worker/worker.ts';

export { requireCompute } from './failover/ports.ts';

export interface Runtime extends Queues {
  readonly ports: WorkerPorts & { readonly logUpload: LogUpload; readonly survey: ReplicaSurvey };
  readonly settings: WorkerSettings;
  /** Undefined when the configuration says nothing about it. */
  readonly compute: Compute | undefined;
  /** What every door gives its commands to. */
  readonly commands: CommandService;
  readonly scheduling: Scheduling;
  /** What was asked of storage and Service Bus since the runtime was opened. */
  readonly requests: RequestTally;
  /** Has a connection of its own, and is the caller's to close. */
  openCommandClient(): CommandClient;
  close(): Promise<void>;
}

export interface RuntimeOptions {
  /** Signs in everywhere, instead of the identities that the configuration names. */
  readonly credential?: Credential;
  /** Gets metrics and spans; by default what a host of this process has registered, if anything. */
  readonly telemetry?: Telemetry;
}

/** Opens nothing: connections are made by the first call that needs one. @throws TidemarkError for malformed connection strings */
export function openRuntime(configuration: Configuration, options: RuntimeOptions = {}): Runtime {
  const { worker, identity } = configuration;
  const { telemetry = apiTelemetry() } = options;
  const requests = createRequestTally();
  const observer = observers(requests, adapterMetrics(telemetry.instruments));
  const { credential, computeCredential } = credentialsOf(configuration, options);
  const storage = connect({
    cache: accountAccess(configuration.cache, credential, identity.cloud),
    replica: accountAccess(configuration.replica, credential, identity.cloud),
    observer,
  });
  const access = serviceBusAccess(configuration.serviceBus, credential);
  const topic = openMonitoringTopic(access, configuration.monitoringTopic, observer);
  const ports = {
    ...storage,
    catalog: tracedCatalog(storage.catalog, telemetry),
    seeds: tracedSeeds(storage.seeds, telemetry),
    topic,
    clock: systemClock,
    random: Math.random,
  };
  const settings: WorkerSettings = {
    payloadBudgetBytes: worker.payloadBudgetBytes,
    requestsPerDisk: worker.requestsPerDisk,
    requestsPerAccount: worker.requestsPerAccount,
    rate: worker.limitPageBlobRates ? STANDARD_PAGE_BLOB : undefined,
    key: logKeys(configuration),
  };
  const compute =
    configuration.compute === undefined ? undefined : lazyCompute(configuration.compute, computeCredential);
  const service = createCommandService({
    ...ports,
    compute,
    createPoint: (group, at, signal) =>
      new Worker({ ports, settings, groups: [group], report: () => undefined }).createPoint(group, at, signal),
    newId: randomUUID,
  });
  return {
    ports,
    settings,
    compute,
    commands: tracedCommands(service, telemetry),
    requests,
    scheduling: { periodMs: configuration.cyclePeriodMs, groupsAtOnce: worker.groupsAtOnce },
    openCommandQueue: () => openCommandQueue(access, configuration.commandQueue, observer),
    openWorkQueue: () => openWorkQueue(access, configuration.commandQueue, observer),
    openCacheEvents: () => openCacheEventQueue(access, configuration.cacheEventsQueue, observer),
    openCommandClient: () => openCommandClient({ ...configuration, access }, observer),
    close: async () => {
      await topic.close();
      storage.close();
    },
  };
}

function logKeys({ logKey, previousLogKey }: Configuration): LogKey | undefined {
  if (logKey === undefined) return undefined;
  return createLogKey(logKey, previousLogKey === undefined ? undefined : createLogKey(previousLogKey));
}

/** One credential for each identity, so that its tokens are kept once. */
function credentialsOf(
  { identity, compute }: Configuration,
  { credential: given }: RuntimeOptions,
): { readonly credential: Credential; readonly computeCredential: Credential } {
  const credential = given === undefined ? openCredential(identity) : typedCredential(given);
  const own = compute?.identityClientId;
  if (given !== undefined || own === undefined || own === identity.clientId) {
    return { credential, computeCredential: credential };
  }
  return { credential, computeCredential: openCredential({ cloud: identity.cloud, clientId: own }) };
}
