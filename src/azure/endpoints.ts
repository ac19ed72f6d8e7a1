/**
 * Pure. Which places a configuration may name. A token opens everything that its identity may do, so it is sent to hosts of the chosen
 * cloud only, over TLS, or to an emulator on this machine; a connection string holds a key, so it is taken for emulators only.
 */
import { TidemarkError } from '../errors.ts';
import { CLOUDS, type CloudName } from './clouds.ts';

/** Of an emulator by connection string, of Azure by the URL of its blob endpoint. */
export type StorageEndpoint = { readonly connectionString: string } | { readonly url: string };
/** Of an emulator by connection string, of Azure by the host's name. */
export type ServiceBusEndpoint = { readonly connectionString: string } | { readonly namespace: string };

/** A setting and the value that it has. */
export interface Setting {
  readonly name: string;
  readonly value: string;
}

const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/;
/** Azure: 6–50 letters, digits and hyphens, a letter first. */
const NAMESPACE_NAME = /^[a-z][a-z0-9-]{4,48}[a-z0-9]$/;
/** Of a storage account, with or without a DNS zone: `name`, `name.z01`. */
const ACCOUNT_NAME = /^[a-z0-9]{3,24}(?:\.z\d{2})?$/;

export const isLoopbackHost = (hostname: string): boolean => LOOPBACK.test(hostname);

/**
 * `https://ACCOUNT.blob.core.windows.net`, without a slash at its end.
 * @throws TidemarkError CONFIG_INVALID
 */
export function requireAccountUrl({ name, value }: Setting, cloud: CloudName): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol !== 'https:') throw invalid(`${name} is no https URL`);
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw invalid(`${name} has more than a host; a signature or a password is not taken, the identity signs in`);
  }
  const path = url.pathname.replace(/\/+$/, '');
  if (isLoopbackHost(url.hostname) && path.split('/').length <= 2) return `${url.origin}${path}`;
  const { blobSuffixes } = CLOUDS[cloud];
  const isOfCloud = blobSuffixes.some((suffix) => ACCOUNT_NAME.test(before(url.hostname, suffix)));
  if (isOfCloud && path === '' && url.port === '') return url.origin;
  const wanted = `https://ACCOUNT.${blobSuffixes[0]}`;
  throw invalid(
    `${name} is no blob endpoint of ${cloud} (${wanted}); tokens are sent to no other host, custom domains included`,
  );
}

/**
 * The host's name; a short name gets the suffix of the cloud.
 * @throws TidemarkError CONFIG_INVALID
 */
export function requireNamespace({ name, value }: Setting, cloud: CloudName): string {
  const host = value.toLowerCase();
  if (
    /^[^/?#@]+$/.test(host) &&
    URL.canParse(`https://${host}`) &&
    isLoopbackHost(new URL(`https://${host}`).hostname)
  ) {
    return host;
  }
  const suffix = CLOUDS[cloud].serviceBusSuffix;
  const label = host.includes('.') ? before(host, suffix) : host;
  if (NAMESPACE_NAME.test(label)) return `${label}.${suffix}`;
  throw invalid(`${name} is no namespace of ${cloud} (NAME or NAME.${suffix}); tokens are sent to no other host`);
}

/**
 * `UseDevelopmentStorage=true`, or an endpoint with the account in its path, which Azure's never have.
 * @throws TidemarkError CONFIG_INVALID, without the string
 */
export function requireStorageEmulator({ name, value }: Setting, urlName: string): string {
  if (/^UseDevelopmentStorage=true(?:;|$)/.test(value)) return value;
  const endpoint = fieldOf(value, 'BlobEndpoint');
  const url = endpoint !== undefined && URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isPathStyle = url !== undefined && /^\/[^/]+\/?$/.test(url.pathname);
  if (isPathStyle && !isAzureHost(url.hostname)) return value;
  throw refused(name, `an account in the path of its BlobEndpoint, or UseDevelopmentStorage=true`, urlName);
}

/**
 * One with `UseDevelopmentEmulator=true`.
 * @throws TidemarkError CONFIG_INVALID, without the string
 */
export function requireServiceBusEmulator({ name, value }: Setting, namespaceName: string): string {
  const endpoint = /^sb:\/\/([^/]+)\/?$/i.exec(fieldOf(value, 'Endpoint') ?? '')?.[1];
  const url =
    endpoint !== undefined && URL.canParse(`https://${endpoint}`) ? new URL(`https://${endpoint}`) : undefined;
  const isEmulator = fieldOf(value, 'UseDevelopmentEmulator') === 'true';
  if (isEmulator && url !== undefined && !isAzureHost(url.hostname)) return value;
  throw refused(name, 'Endpoint=sb://… and UseDevelopmentEmulator=true', namespaceName);
}

/**
 * That of the cloud, or of a region of it, or on this machine; without a slash at its end.
 * @throws TidemarkError CONFIG_INVALID
 */
export function requireArmEndpoint({ name, value }: Setting, cloud: CloudName): string {
  const { hostname } = new URL(value);
  const own = new URL(CLOUDS[cloud].armEndpoint).hostname;
  if (isLoopbackHost(hostname) || hostname === own || hostname.endsWith(`.${own}`)) return value.replace(/\/+$/, '');
  throw invalid(`${name} is neither ${own} (${cloud}) nor on this machine; tokens are sent to no other host`);
}

/** On this machine: an emulator without Azure's limits and guarantees. */
export function isLocalStorage(endpoint: StorageEndpoint): boolean {
  if ('url' in endpoint) return isLoopbackHost(new URL(endpoint.url).hostname);
  const url = fieldOf(endpoint.connectionString, 'BlobEndpoint');
  return url === undefined || isLoopbackHost(new URL(url).hostname);
}

/** What stands before `.suffix`; empty when it is not the host's. */
const before = (host: string, suffix: string): string =>
  host.endsWith(`.${suffix}`) ? host.slice(0, -suffix.length - 1) : '';

const isAzureHost = (hostname: string): boolean =>
  Object.values(CLOUDS).some(({ blobSuffixes, serviceBusSuffix }) =>
    [...blobSuffixes, serviceBusSuffix].some((suffix) => hostname.toLowerCase().endsWith(`.${suffix}`)),
  );

/** One field of a connection string `Name=value;…`. */
const fieldOf = (text: string, field: string): string | undefined =>
  new RegExp(`(?:^|;)${field}=([^;]*)`, 'i').exec(text)?.[1];

const invalid = (message: string): TidemarkError => new TidemarkError('CONFIG_INVALID', message);

const refused = (name: string, form: string, instead: string): TidemarkError =>
  invalid(`${name} names no emulator (${form}); for Azure set ${instead}, and an identity signs in without a key`);
