/** What `azurite.json` says: ports, accounts and folders of the local stack. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';

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
}

/** Names of the messaging entities in `infra/service-bus/Config.json`. */
export const MONITORING_TOPIC = 'monitoring';
export const COMMAND_QUEUE = 'commands';

/** The one key of Microsoft's Service Bus emulator; ours takes the same, so that a connection string fits both. */
export const BROKER_SAS_KEY = 'SAS_KEY_VALUE';

export const PROJECT_ROOT: string = fileURLToPath(new URL('../../', import.meta.url));

/** Reads `azurite.json` in the project root. @throws TidemarkError CONFIG_INVALID */
export function readStackConfig(file: string = `${PROJECT_ROOT}azurite.json`): StackConfig {
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
  if (portBase === undefined) return { blob: config.blobPort, broker: config.brokerPort };
  if (!Number.isInteger(portBase) || portBase < 1 || portBase > 65_534) {
    throw new TidemarkError('CONFIG_INVALID', `TIDEMARK_PORT_BASE is ${portBase}; it must be a port from 1 to 65534`);
  }
  return { blob: portBase, broker: portBase + 1 };
}

/** The environment that points a worker, or any Azure SDK program, at the local stack. */
export function stackEnvironment(config: StackConfig, ports: StackPorts): Record<string, string> {
  const blob = ({ name, key }: StackConfig['accounts']['cache']): string =>
    `DefaultEndpointsProtocol=http;AccountName=${name};AccountKey=${key};BlobEndpoint=http://127.0.0.1:${ports.blob}/${name};`;
  return {
    TIDEMARK_CACHE_CONNECTION_STRING: blob(config.accounts.cache),
    TIDEMARK_REPLICA_CONNECTION_STRING: blob(config.accounts.replica),
    TIDEMARK_SERVICE_BUS_CONNECTION_STRING: brokerConnectionString(ports.broker),
    TIDEMARK_MONITORING_TOPIC: MONITORING_TOPIC,
    TIDEMARK_COMMAND_QUEUE: COMMAND_QUEUE,
  };
}

/** `UseDevelopmentEmulator=true` makes the SDK speak plain TCP on the endpoint's port. */
export const brokerConnectionString = (port: number): string =>
  `Endpoint=sb://127.0.0.1:${port};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=${BROKER_SAS_KEY};UseDevelopmentEmulator=true;`;
