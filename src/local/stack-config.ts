/** What `azurite.json` says: ports, accounts and folders of the local stack. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import { caFileOf } from './arm/certificate.ts';
import { accountConnectionString } from './connection-string.ts';

const port = z.int().min(1).max(65_535);

const account = z.strictObject({
  /** Azure's rule for storage account names. */
  name: z.string().regex(/^[a-z0-9]{3,24}$/),
  /** Base64 of 64 bytes, as Azure's own account keys. A key for one machine's loopback address, no secret. */
  key: z.base64().refine((key) => Buffer.from(key, 'base64').length === 64, 'must be base64 of 64 bytes'),
});

const stackConfigSchema = z.strictObject({
  blobPort: port,
  brokerPort: port,
  armPort: port,
  /** Name of Azurite's folder inside the home folder; `local up --fresh` deletes it. */
  dataFolder: z.string().regex(/^[A-Za-z0-9_-]+$/),
  /** The broker's entities, in the Service Bus emulator's format; relative to the project root. */
  brokerConfig: z.string().min(1),
  accounts: z.strictObject({ cache: account, replica: account }),
});

export type StackConfig = z.infer<typeof stackConfigSchema>;

export interface StackPorts {
  readonly blob: number;
  readonly broker: number;
  readonly arm: number;
}

/** Names of the messaging entities in `infra/service-bus/Config.json`. */
export const MONITORING_TOPIC = 'monitoring';
export const COMMAND_QUEUE = 'commands';
export const REPLY_QUEUE = 'replies';
export const CACHE_EVENTS_QUEUE = 'cache-events';

/** The one key of Microsoft's Service Bus emulator; ours takes the same, so that a connection string fits both. */
export const BROKER_SAS_KEY = 'SAS_KEY_VALUE';

export const PROJECT_ROOT: string = fileURLToPath(new URL('../../', import.meta.url));

export const STACK_CONFIG_FILE = `${PROJECT_ROOT}azurite.json`;

/** Reads `azurite.json` in the project root. @throws TidemarkError CONFIG_INVALID */
export function readStackConfig(file: string = STACK_CONFIG_FILE): StackConfig {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new TidemarkError('CONFIG_INVALID', `cannot read ${file}`, { cause });
  }
  const result = stackConfigSchema.safeParse(parsed);
  if (!result.success) throw new TidemarkError('CONFIG_INVALID', `${file}: ${z.prettifyError(result.error)}`);
  return result.data;
}

/** Ports as `azurite.json` has them, or `portBase`, `portBase + 1` … in the same order. */
export function stackPorts(config: StackConfig, portBase: number | undefined): StackPorts {
  if (portBase === undefined) {
    return { blob: config.blobPort, broker: config.brokerPort, arm: config.armPort };
  }
  if (!Number.isInteger(portBase) || portBase < 1 || portBase > 65_533) {
    throw new TidemarkError('CONFIG_INVALID', `TIDEMARK_PORT_BASE is ${portBase}; it must be a port from 1 to 65533`);
  }
  return { blob: portBase, broker: portBase + 1, arm: portBase + 2 };
}

/** Where the emulator keeps its resources: any subscription and group will do, these are what `local env` names. */
const LOCAL_SUBSCRIPTION_ID = '00000000-0000-0000-0000-000000000000';
const LOCAL_RESOURCE_GROUP = 'tidemark-local';
const LOCAL_LOCATION = 'westeurope';

/** Folder of the ARM emulator's certificate and state. */
export const armFolder = (home: string): string => join(resolve(home), 'arm');

/**
 * The environment that points a worker, or any Azure SDK program, at the local stack.
 * @param home of the stack: there is the certificate to trust
 */
export function stackEnvironment(config: StackConfig, ports: StackPorts, home: string): Record<string, string> {
  const { cache, replica } = config.accounts;
  const group = `/subscriptions/${LOCAL_SUBSCRIPTION_ID}/resourceGroups/${LOCAL_RESOURCE_GROUP}`;
  return {
    TIDEMARK_CACHE_CONNECTION_STRING: accountConnectionString(cache, ports.blob),
    TIDEMARK_REPLICA_CONNECTION_STRING: accountConnectionString(replica, ports.blob),
    TIDEMARK_SERVICE_BUS_CONNECTION_STRING: brokerConnectionString(ports.broker),
    TIDEMARK_MONITORING_TOPIC: MONITORING_TOPIC,
    TIDEMARK_COMMAND_QUEUE: COMMAND_QUEUE,
    TIDEMARK_REPLY_QUEUE: REPLY_QUEUE,
    TIDEMARK_CACHE_EVENTS_QUEUE: CACHE_EVENTS_QUEUE,
    TIDEMARK_ARM_ENDPOINT: `https://127.0.0.1:${ports.arm}`,
    TIDEMARK_ARM_CA_FILE: caFileOf(armFolder(home)),
    TIDEMARK_SUBSCRIPTION_ID: LOCAL_SUBSCRIPTION_ID,
    TIDEMARK_RESOURCE_GROUP: LOCAL_RESOURCE_GROUP,
    TIDEMARK_LOCATION: LOCAL_LOCATION,
    TIDEMARK_REPLICA_ACCOUNT_ID: `${group}/providers/Microsoft.Storage/storageAccounts/${replica.name}`,
  };
}

/** `UseDevelopmentEmulator=true` makes the SDK speak plain TCP on the endpoint's port. */
export const brokerConnectionString = (port: number): string =>
  `Endpoint=sb://127.0.0.1:${port};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=${BROKER_SAS_KEY};UseDevelopmentEmulator=true;`;
