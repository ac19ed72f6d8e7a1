/** Pure. Azure's clouds: where their Resource Manager is, and who gives tokens. `tokenIssuerHost` is whom tokens of version 2.0 name, and publishes their keys. */

export const CLOUDS = {
  AzureCloud: {
    armEndpoint: 'https://management.azure.com',
    authorityHost: 'https://login.microsoftonline.com',
    tokenIssuerHost: 'https://login.microsoftonline.com',
  },
  AzureUSGovernment: {
    armEndpoint: 'https://management.usgovcloudapi.net',
    authorityHost: 'https://login.microsoftonline.us',
    tokenIssuerHost: 'https://login.microsoftonline.us',
  },
  AzureChinaCloud: {
    armEndpoint: 'https://management.chinacloudapi.cn',
    authorityHost: 'https://login.chinacloudapi.cn',
    tokenIssuerHost: 'https://login.partner.microsoftonline.cn',
  },
} as const;

export type CloudName = keyof typeof CLOUDS;
