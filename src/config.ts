/** Configuration: parsed once, by the composition root, from the environment; everything else gets it passed in. */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { CLOUDS } from './azure/clouds.ts';
import type { Identity } from './azure/credentials.ts';
import { isLocalStorage, requireArmEndpoint } from './azure/endpoints.ts';
import type { ComputeConnection } from './azure/open-compute.ts';
import { type Connections, connectionsOf, hasConnections } from './connections.ts';
import { TidemarkError } from './errors.ts';
import {
  CACHE_EVENTS_QUEUE,
  COMMAND_QUEUE,
  MONITORING_TOPIC,
  readStackConfig,
  REPLY_QUEUE,
  stackEnvironment,
} from './local/stack-config.ts';
import { DEFAULT_HOME, readStack } from './local/stack-state.ts';
import { MIB } from './model/sizes.ts';
import { GROUPS_AT_ONCE } from './worker/ports.ts';
import { LOG_LEVELS, type LogLevel } from './telemetry/log-levels.ts';

export interface Configuration extends Connections {
  /** Who signs in to storage and Service Bus where there is no connection string. */
  readonly identity: Identity;
  readonly monitoringTopic: string;
  /** Queues with sessions: commands by group, replies by who asked. */
  readonly commandQueue: string;
  readonly replyQueue: string;
  /** Queue that Event Grid tells of new segments by. */
  readonly cacheEventsQueue: string;
  /** Distance of two turns of a group of which nothing is heard, milliseconds. */
  readonly cyclePeriodMs: number;
  readonly api: ApiConfiguration;
  readonly hosting: HostingConfiguration;
  /** Folder of the local stack; relative to the working directory unless absolute. */
  readonly home: string;
  /** True when the storage accounts are on this machine: an emulator without Azure's limits and guarantees. */
  readonly isLocal: boolean;
  /** Where failovers make disks and machines; undefined when nothing is said about it. */
  readonly compute?: ComputeConnection;
  /** 32 bytes, for sealed replication logs. */
  readonly logKey?: Buffer;
  /** The one before it, for segments that were sealed before it was changed. */
  readonly previousLogKey?: Buffer;
  readonly telemetry: TelemetryConfiguration;
  readonly worker: {
    /** Payload that a worker keeps in memory at most. */
    readonly payloadBudgetBytes: number;
    /** Requests in flight per seed disk. */
    readonly requestsPerDisk: number;
    /** Requests in flight per storage account. */
    readonly requestsPerAccount: number;
    /** Groups that a worker owns at once; the payload budget is shared among them. */
    readonly groupsAtOnce: number;
    /** Keep to Azure's 500 requests/s and 60 MiB/s per page blob. */
    readonly limitPageBlobRates: boolean;
  };
}

/** Of the long-lived hosts: container and function app. */
export interface HostingConfiguration {
  /** What a container does. */
  readonly roles: readonly Role[];
  /** 0: any that is free. */
  readonly httpPort: number;
  /** What a container is given to end after SIGTERM. */
  readonly drainMs: number;
  /** What the host gives one invocation of a function. */
  readonly functionTimeoutMs: number;
}

export const ROLES = ['worker', 'scheduler', 'api'] as const;
export type Role = (typeof ROLES)[number];

export interface TelemetryConfiguration {
  /** Of the JSON log of hosts. */
  readonly logLevel: LogLevel;
  /** Where metrics and traces go, by OTLP over HTTP; nothing is exported without it. */
  readonly otlpEndpoint?: string;
  /** What the environment says of that endpoint. */
  readonly otlpProtocol?: string;
}

/** Whose tokens the HTTP door takes. */
export interface ApiConfiguration {
  readonly tokenFile?: string;
  readonly entra?: {
    readonly tenantId: string;
    readonly audience: string;
    readonly issuer: string;
    readonly keysUrl: string;
  };
}

/** The documented limits of worker settings. */
const MAX_PAYLOAD_BUDGET_MIB = 16_384;
const MAX_REQUESTS = 256;
const MAX_GROUPS_AT_ONCE = 64;
/** The window in which the emulator's queues know an order again. */
const MAX_CYCLE_SECONDS = 300;
/** A turn costs requests on Azure, and nothing on this machine, where nobody tells of new segments. */
const CYCLE_SECONDS = { local: 2, azure: 60 } as const;
const LOG_KEY_BYTES = 32;
/** Of Container Apps: a replica may take ten minutes to end. */
const MAX_DRAIN_SECONDS = 600;
/** Below the 30 seconds that Container Apps gives by default. */
const DRAIN_SECONDS = 25;

/** What Azure Compute needs: all of them, or none. */
const COMPUTE_NAMES = [
  'TIDEMARK_SUBSCRIPTION_ID',
  'TIDEMARK_RESOURCE_GROUP',
  'TIDEMARK_LOCATION',
  'TIDEMARK_REPLICA_ACCOUNT_ID',
] as const;

const wholeNumber = (max: number, min = 1) =>
  z.string().regex(/^\d+$/, 'must be a whole number').transform(Number).pipe(z.number().min(min).max(max));

const count = (max: number, fallback: number) => wholeNumber(max).default(fallback);

const flag = z
  .enum(['true', 'false', '1', '0'])
  .transform((value) => value === 'true' || value === '1')
  .optional();

const clientId = z.guid('is no client id').optional();

const environmentSchema = z.object({
  TIDEMARK_CACHE_ACCOUNT_URL: z.string().optional(),
  TIDEMARK_CACHE_CONNECTION_STRING: z.string().optional(),
  TIDEMARK_REPLICA_ACCOUNT_URL: z.string().optional(),
  TIDEMARK_REPLICA_CONNECTION_STRING: z.string().optional(),
  TIDEMARK_SERVICE_BUS_NAMESPACE: z.string().optional(),
  TIDEMARK_SERVICE_BUS_CONNECTION_STRING: z.string().optional(),
  TIDEMARK_MONITORING_TOPIC: z.string().min(1).default(MONITORING_TOPIC),
  TIDEMARK_COMMAND_QUEUE: z.string().min(1).default(COMMAND_QUEUE),
  TIDEMARK_REPLY_QUEUE: z.string().min(1).default(REPLY_QUEUE),
  TIDEMARK_CACHE_EVENTS_QUEUE: z.string().min(1).default(CACHE_EVENTS_QUEUE),
  TIDEMARK_CYCLE_SECONDS: wholeNumber(MAX_CYCLE_SECONDS).optional(),
  TIDEMARK_API_TOKEN_FILE: z.string().optional(),
  TIDEMARK_API_TENANT_ID: z.guid('is no tenant id').optional(),
  TIDEMARK_API_AUDIENCE: z.string().min(1).max(500).optional(),
  TIDEMARK_ROLES: z
    .string()
    .transform((text) => text.split(',').map((role) => role.trim()))
    .pipe(z.array(z.enum(ROLES)).min(1))
    .default([...ROLES]),
  TIDEMARK_HTTP_PORT: wholeNumber(65_535, 0).default(8080),
  TIDEMARK_DRAIN_SECONDS: count(MAX_DRAIN_SECONDS, DRAIN_SECONDS),
  // The platform's own name for a setting of host.json; the default is what the file says.
  AzureFunctionsJobHost__functionTimeout: z
    .string()
    .regex(/^\d\d:[0-5]\d:[0-5]\d$/, 'is no time such as 00:30:00')
    .default('00:30:00'),
  TIDEMARK_HOME: z.string().min(1).default(DEFAULT_HOME),
  TIDEMARK_LOG_KEY: z.string().optional(),
  TIDEMARK_LOG_KEY_FILE: z.string().optional(),
  TIDEMARK_PREVIOUS_LOG_KEY: z.string().optional(),
  TIDEMARK_PREVIOUS_LOG_KEY_FILE: z.string().optional(),
  TIDEMARK_PAYLOAD_BUDGET_MIB: count(MAX_PAYLOAD_BUDGET_MIB, 256),
  TIDEMARK_REQUESTS_PER_DISK: count(MAX_REQUESTS, 4),
  TIDEMARK_REQUESTS_PER_ACCOUNT: count(MAX_REQUESTS, 8),
  TIDEMARK_GROUPS_AT_ONCE: count(MAX_GROUPS_AT_ONCE, GROUPS_AT_ONCE),
  TIDEMARK_LIMIT_PAGE_BLOB_RATES: flag,
  TIDEMARK_LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  OTEL_EXPORTER_OTLP_ENDPOINT: z.url({ protocol: /^https?$/, error: 'is no http(s) URL' }).optional(),
  OTEL_EXPORTER_OTLP_PROTOCOL: z.string().optional(),
  TIDEMARK_CLOUD: z.enum(Object.keys(CLOUDS) as (keyof typeof CLOUDS)[]).default('AzureCloud'),
  TIDEMARK_SUBSCRIPTION_ID: z.guid('is no subscription id').optional(),
  TIDEMARK_RESOURCE_GROUP: z
    .string()
    .regex(/^[\p{L}\p{N}._()-]{1,90}$/u, 'is no name of a resource group')
    .optional(),
  TIDEMARK_LOCATION: z
    .string()
    .regex(/^[a-z0-9]+$/, 'is no location such as westeurope')
    .optional(),
  TIDEMARK_REPLICA_ACCOUNT_ID: z
    .string()
    .regex(
      /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.Storage\/storageAccounts\/[a-z0-9]{3,24}$/i,
      'is no resource id of a storage account',
    )
    .optional(),
  // Tokens are never sent in the clear.
  TIDEMARK_ARM_ENDPOINT: z.url({ protocol: /^https$/, error: 'is no https URL' }).optional(),
  TIDEMARK_ARM_CA_FILE: z.string().optional(),
  TIDEMARK_MANAGED_IDENTITY_CLIENT_ID: clientId,
  TIDEMARK_COMPUTE_IDENTITY_CLIENT_ID: clientId,
});

export type Environment = Readonly<Record<string, string | undefined>>;

/** Folder of the local stack. */
export const homeOf = (environment: Environment): string => environment['TIDEMARK_HOME'] || DEFAULT_HOME;

/**
 * `TIDEMARK_PORT_BASE`, undefined when it is not set.
 * @throws TidemarkError CONFIG_INVALID
 */
export function portBaseOf(environment: Environment): number | undefined {
  const text = environment['TIDEMARK_PORT_BASE'];
  if (text === undefined || text === '') return undefined;
  if (/^\d{1,5}$/.test(text)) return Number(text);
  throw new TidemarkError('CONFIG_INVALID', `TIDEMARK_PORT_BASE is ${JSON.stringify(text)}; it must be a port`);
}

/**
 * When nothing says where storage and Service Bus are, the local stack that runs in `TIDEMARK_HOME` is used. Empty variables count as not set.
 * @throws TidemarkError CONFIG_MISSING, CONFIG_INVALID
 */
export function parseConfiguration(environment: Environment): Configuration {
  const given = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''),
  );
  const complete = withConnections(given);
  const result = environmentSchema.safeParse(complete);
  if (!result.success) {
    const what = result.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`).join('; ');
    throw new TidemarkError('CONFIG_INVALID', what);
  }
  const values = result.data;
  const cloud = values.TIDEMARK_CLOUD;
  const connections = connectionsOf(values, cloud);
  const isLocal = isLocalStorage(connections.replica);
  const signIn = values.TIDEMARK_MANAGED_IDENTITY_CLIENT_ID;
  const compute = computeOf(values);
  const logKey = readLogKey(values, 'TIDEMARK_LOG_KEY');
  const previousLogKey = readLogKey(values, 'TIDEMARK_PREVIOUS_LOG_KEY');
  if (previousLogKey !== undefined && logKey === undefined) {
    throw new TidemarkError('CONFIG_MISSING', 'TIDEMARK_LOG_KEY not set, but TIDEMARK_PREVIOUS_LOG_KEY');
  }
  return {
    ...connections,
    identity: { cloud, ...(signIn !== undefined && { clientId: signIn }) },
    monitoringTopic: values.TIDEMARK_MONITORING_TOPIC,
    commandQueue: values.TIDEMARK_COMMAND_QUEUE,
    replyQueue: values.TIDEMARK_REPLY_QUEUE,
    cacheEventsQueue: values.TIDEMARK_CACHE_EVENTS_QUEUE,
    cyclePeriodMs: (values.TIDEMARK_CYCLE_SECONDS ?? CYCLE_SECONDS[isLocal ? 'local' : 'azure']) * 1000,
    api: apiOf(values),
    hosting: hostingOf(values),
    home: values.TIDEMARK_HOME,
    isLocal,
    ...(compute !== undefined && { compute }),
    ...(logKey !== undefined && { logKey }),
    ...(previousLogKey !== undefined && { previousLogKey }),
    telemetry: telemetryOf(values),
    worker: {
      payloadBudgetBytes: values.TIDEMARK_PAYLOAD_BUDGET_MIB * MIB,
      requestsPerDisk: values.TIDEMARK_REQUESTS_PER_DISK,
      requestsPerAccount: values.TIDEMARK_REQUESTS_PER_ACCOUNT,
      groupsAtOnce: values.TIDEMARK_GROUPS_AT_ONCE,
      limitPageBlobRates: values.TIDEMARK_LIMIT_PAGE_BLOB_RATES ?? !isLocal,
    },
  };
}

function hostingOf(values: z.infer<typeof environmentSchema>): HostingConfiguration {
  const [hours = 0, minutes = 0, seconds = 0] = values.AzureFunctionsJobHost__functionTimeout.split(':').map(Number);
  return {
    roles: [...new Set(values.TIDEMARK_ROLES)],
    httpPort: values.TIDEMARK_HTTP_PORT,
    drainMs: values.TIDEMARK_DRAIN_SECONDS * 1000,
    functionTimeoutMs: ((hours * 60 + minutes) * 60 + seconds) * 1000,
  };
}

function telemetryOf(values: z.infer<typeof environmentSchema>): TelemetryConfiguration {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: otlpEndpoint, OTEL_EXPORTER_OTLP_PROTOCOL: otlpProtocol } = values;
  return {
    logLevel: values.TIDEMARK_LOG_LEVEL,
    ...(otlpEndpoint !== undefined && { otlpEndpoint }),
    ...(otlpProtocol !== undefined && { otlpProtocol }),
  };
}

/** @throws TidemarkError CONFIG_MISSING when only a part of it is set */
function computeOf(values: z.infer<typeof environmentSchema>): ComputeConnection | undefined {
  const missing = COMPUTE_NAMES.filter((name) => values[name] === undefined);
  const [subscriptionId, resourceGroup, location, replicaAccountId] = COMPUTE_NAMES.map((name) => values[name]);
  if (missing.length === COMPUTE_NAMES.length) return undefined;
  if (
    subscriptionId === undefined ||
    resourceGroup === undefined ||
    location === undefined ||
    replicaAccountId === undefined
  ) {
    throw new TidemarkError('CONFIG_MISSING', `${missing.join(', ')} not set`);
  }
  const { TIDEMARK_CLOUD: cloud, TIDEMARK_ARM_ENDPOINT: given, TIDEMARK_ARM_CA_FILE: caFile } = values;
  const endpoint =
    given === undefined ? undefined : requireArmEndpoint({ name: 'TIDEMARK_ARM_ENDPOINT', value: given }, cloud);
  const identityClientId = values.TIDEMARK_COMPUTE_IDENTITY_CLIENT_ID ?? values.TIDEMARK_MANAGED_IDENTITY_CLIENT_ID;
  return {
    cloud,
    subscriptionId,
    resourceGroup,
    location,
    replicaAccountId,
    ...(endpoint !== undefined && { endpoint }),
    ...(caFile !== undefined && { caFile }),
    ...(identityClientId !== undefined && { identityClientId }),
  };
}

/** @throws TidemarkError CONFIG_MISSING when only one half of what tokens of Entra ID need is set */
function apiOf(values: z.infer<typeof environmentSchema>): ApiConfiguration {
  const { TIDEMARK_API_TOKEN_FILE: tokenFile, TIDEMARK_API_TENANT_ID: tenant } = values;
  const { TIDEMARK_API_AUDIENCE: audience, TIDEMARK_CLOUD: cloud } = values;
  const file = tokenFile === undefined ? {} : { tokenFile };
  if (tenant === undefined && audience === undefined) return file;
  if (tenant === undefined || audience === undefined) {
    const missing = tenant === undefined ? 'TIDEMARK_API_TENANT_ID' : 'TIDEMARK_API_AUDIENCE';
    throw new TidemarkError('CONFIG_MISSING', `${missing} not set`);
  }
  const authority = `${CLOUDS[cloud].tokenIssuerHost}/${tenant.toLowerCase()}`;
  return {
    ...file,
    entra: {
      tenantId: tenant,
      audience,
      issuer: `${authority}/v2.0`,
      keysUrl: `${authority}/discovery/v2.0/keys`,
    },
  };
}

/** The environment with all places: its own, or those of the running local stack. */
function withConnections(environment: Environment): Environment {
  if (hasConnections(environment)) return environment;
  const home = homeOf(environment);
  const stack = readStack(home);
  if (stack === undefined) {
    throw new TidemarkError('CONFIG_MISSING', `no TIDEMARK_*_ACCOUNT_URL is set and no local stack runs in ${home}`);
  }
  return { ...stackEnvironment(readStackConfig(), stack.ports, home), ...environment };
}

function readLogKey(
  values: z.infer<typeof environmentSchema>,
  name: 'TIDEMARK_LOG_KEY' | 'TIDEMARK_PREVIOUS_LOG_KEY',
): Buffer | undefined {
  const { [name]: text, [`${name}_FILE` as const]: file } = values;
  if (text !== undefined && file !== undefined) {
    throw new TidemarkError('CONFIG_INVALID', `${name} and ${name}_FILE exclude each other`);
  }
  if (text !== undefined) return requireKey(name, decodeKey(text));
  if (file === undefined) return undefined;
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    throw new TidemarkError('CONFIG_INVALID', `${name}_FILE: cannot read ${file}`, { cause });
  }
  const key = bytes.length === LOG_KEY_BYTES ? bytes : decodeKey(bytes.toString('latin1'));
  return requireKey(`${name}_FILE`, key);
}

/** 64 hex digits or base64 of 32 bytes; undefined when it is neither. */
function decodeKey(text: string): Buffer | undefined {
  const trimmed = text.trim();
  if (/^[0-9a-fA-F]{64}$/.test(trimmed)) return Buffer.from(trimmed, 'hex');
  if (/^[A-Za-z0-9+/]{43}=?$/.test(trimmed)) return Buffer.from(trimmed, 'base64');
  return undefined;
}

/** Never quotes the key. */
function requireKey(name: string, key: Buffer | undefined): Buffer {
  if (key?.length === LOG_KEY_BYTES) return key;
  throw new TidemarkError('CONFIG_INVALID', `${name} must be ${LOG_KEY_BYTES} bytes as 64 hex digits or base64`);
}
