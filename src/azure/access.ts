/** What the adapters need to reach storage and Service Bus: a connection string of an emulator, or a place and who signs in there. */
import { CLOUDS, type CloudName } from './clouds.ts';
import type { Credential } from './credentials.ts';
import type { ServiceBusEndpoint, StorageEndpoint } from './endpoints.ts';

export type AccountAccess =
  | { readonly connectionString: string }
  | {
      /** Of the blob endpoint. */
      readonly url: string;
      readonly credential: Credential;
      /** Scope of the tokens. */
      readonly audience: string;
    };

export type ServiceBusAccess =
  | { readonly connectionString: string }
  | {
      /** The host's name. */
      readonly namespace: string;
      readonly credential: Credential;
    };

export function accountAccess(endpoint: StorageEndpoint, credential: Credential, cloud: CloudName): AccountAccess {
  if ('connectionString' in endpoint) return endpoint;
  return { url: endpoint.url, credential, audience: CLOUDS[cloud].storageScope };
}

export function serviceBusAccess(endpoint: ServiceBusEndpoint, credential: Credential): ServiceBusAccess {
  if ('connectionString' in endpoint) return endpoint;
  return { namespace: endpoint.namespace, credential };
}
