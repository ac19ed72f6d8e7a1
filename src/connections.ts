/** Pure. The settings that say where storage and Service Bus are: one of two for each, all of them or none. */
import type { CloudName } from './azure/clouds.ts';
import {
  requireAccountUrl,
  requireNamespace,
  requireServiceBusEmulator,
  requireStorageEmulator,
  type ServiceBusEndpoint,
  type StorageEndpoint,
} from './azure/endpoints.ts';
import { TidemarkError } from './errors.ts';

type Values = Readonly<Record<string, unknown>>;

/** Of each place: the setting for Azure, and the one for an emulator. */
const PLACES = {
  cache: { azure: 'TIDEMARK_CACHE_ACCOUNT_URL', emulator: 'TIDEMARK_CACHE_CONNECTION_STRING' },
  replica: { azure: 'TIDEMARK_REPLICA_ACCOUNT_URL', emulator: 'TIDEMARK_REPLICA_CONNECTION_STRING' },
  serviceBus: { azure: 'TIDEMARK_SERVICE_BUS_NAMESPACE', emulator: 'TIDEMARK_SERVICE_BUS_CONNECTION_STRING' },
} as const;

type Place = (typeof PLACES)[keyof typeof PLACES];

export interface Connections {
  /** The account that the source writes replication logs to. */
  readonly cache: StorageEndpoint;
  /** The account of seed disks, points and catalog. */
  readonly replica: StorageEndpoint;
  readonly serviceBus: ServiceBusEndpoint;
}

/**
 * Whether the environment itself says where everything is; false when it says nothing of it.
 * @throws TidemarkError CONFIG_MISSING when it says only a part, CONFIG_INVALID when it says something twice
 */
export function hasConnections(values: Values): boolean {
  const places = Object.values(PLACES);
  const twice = places.find(({ azure, emulator }) => values[azure] !== undefined && values[emulator] !== undefined);
  if (twice !== undefined) {
    throw new TidemarkError('CONFIG_INVALID', `${twice.azure} and ${twice.emulator} exclude each other`);
  }
  const missing = places.filter(({ azure, emulator }) => (values[azure] ?? values[emulator]) === undefined);
  if (missing.length === 0) return true;
  if (missing.length === places.length) return false;
  throw new TidemarkError('CONFIG_MISSING', `${missing.map(({ azure }) => azure).join(', ')} not set`);
}

/** @throws TidemarkError CONFIG_INVALID for a place outside of the cloud, or a connection string of no emulator */
export function connectionsOf(values: Values, cloud: CloudName): Connections {
  const storage = (place: Place): StorageEndpoint => {
    const { name, value, isAzure } = settingOf(values, place);
    if (isAzure) return { url: requireAccountUrl({ name, value }, cloud) };
    return { connectionString: requireStorageEmulator({ name, value }, place.azure) };
  };
  const { name, value, isAzure } = settingOf(values, PLACES.serviceBus);
  return {
    cache: storage(PLACES.cache),
    replica: storage(PLACES.replica),
    serviceBus: isAzure
      ? { namespace: requireNamespace({ name, value }, cloud) }
      : { connectionString: requireServiceBusEmulator({ name, value }, PLACES.serviceBus.azure) },
  };
}

function settingOf(values: Values, { azure, emulator }: Place): { name: string; value: string; isAzure: boolean } {
  const isAzure = typeof values[azure] === 'string';
  const name = isAzure ? azure : emulator;
  return { name, value: String(values[name]), isAzure };
}
