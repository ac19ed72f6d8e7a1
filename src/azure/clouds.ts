/**
 * Pure. Azure's clouds: where their services are, who gives tokens, and for what they are asked. docs/identity.md shows the same table.
 *
 * - `tokenIssuerHost` is whom tokens of version 2.0 name, and publishes their keys.
 * - `blobSuffixes`: of hosts of blob endpoints. The second one of Azure's public cloud is that of accounts with a DNS zone of their own.
 * - `storageScope` is the same in all clouds (Azure, "Authorize with Microsoft Entra ID").
 */

export const CLOUDS = {
  AzureCloud: {
    armEndpoint: 'https://management.azure.com',
    authorityHost: 'https://login.microsoftonline.com',
    tokenIssuerHost: 'https://login.microsoftonline.com',
    blobSuffixes: ['blob.core.windows.net', 'blob.storage.azure.net'],
    serviceBusSuffix: 'servicebus.windows.net',
    storageScope: 'https://storage.azure.com/.default',
  },
  AzureUSGovernment: {
    armEndpoint: 'https://management.usgovcloudapi.net',
    authorityHost: 'https://login.microsoftonline.us',
    tokenIssuerHost: 'https://login.microsoftonline.us',
    blobSuffixes: ['blob.core.usgovcloudapi.net'],
    serviceBusSuffix: 'servicebus.usgovcloudapi.net',
    storageScope: 'https://storage.azure.com/.default',
  },
  AzureChinaCloud: {
    armEndpoint: 'https://management.chinacloudapi.cn',
    authorityHost: 'https://login.chinacloudapi.cn',
    tokenIssuerHost: 'https://login.partner.microsoftonline.cn',
    blobSuffixes: ['blob.core.chinacloudapi.cn'],
    serviceBusSuffix: 'servicebus.chinacloudapi.cn',
    storageScope: 'https://storage.azure.com/.default',
  },
} as const;

/** What the SDK of Service Bus asks for in every cloud, with both slashes; it has no option to change it. */
export const SERVICE_BUS_SCOPE = 'https://servicebus.azure.net//.default';

export type CloudName = keyof typeof CLOUDS;
