/** From a configuration to Azure Compute. Loads the SDKs, so it is imported by the first call that needs them. */
import { readFileSync } from 'node:fs';
import { TidemarkError } from '../errors.ts';
import type { Compute } from '../failover/compute.ts';
import { ArmCompute } from './arm-compute.ts';
import { CLOUDS, type CloudName } from './clouds.ts';
import type { Credential } from './credentials.ts';
import { isLoopbackHost } from './endpoints.ts';

export interface ComputeConnection {
  readonly cloud: CloudName;
  /** Instead of the cloud's own: the local emulator. */
  readonly endpoint?: string;
  /** PEM file of the certificate to trust besides the system's. */
  readonly caFile?: string;
  readonly subscriptionId: string;
  readonly resourceGroup: string;
  readonly location: string;
  /** Resource id of the replica account. */
  readonly replicaAccountId: string;
  /** Of a user-assigned managed identity; without it, whatever identity the environment offers. */
  readonly identityClientId?: string;
}

const LOCAL_TOKEN_LIFETIME_MS = 3_600_000;

/** The emulator takes any token. It is only ever sent to this machine. */
const LOCAL_CREDENTIAL: Credential = {
  getToken: async () => ({ token: 'local', expiresOnTimestamp: Date.now() + LOCAL_TOKEN_LIFETIME_MS }),
};

/** @throws TidemarkError CONFIG_INVALID */
export function openCompute(connection: ComputeConnection, credential: Credential): Compute {
  const { cloud, endpoint = CLOUDS[cloud].armEndpoint, caFile } = connection;
  return new ArmCompute({
    endpoint,
    credential: isLoopbackHost(new URL(endpoint).hostname) ? LOCAL_CREDENTIAL : credential,
    subscriptionId: connection.subscriptionId,
    resourceGroup: connection.resourceGroup,
    location: connection.location,
    storageAccountId: connection.replicaAccountId,
    random: Math.random,
    ...(caFile !== undefined && { ca: readCa(caFile) }),
  });
}

function readCa(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new TidemarkError('CONFIG_INVALID', `TIDEMARK_ARM_CA_FILE: cannot read ${file}`, { cause });
  }
}
