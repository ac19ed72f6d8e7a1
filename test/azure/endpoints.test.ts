/** Where a configuration may send tokens, and which connection strings it takes. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CLOUDS, SERVICE_BUS_SCOPE } from '../../src/azure/clouds.ts';
import { type Configuration, type Environment, parseConfiguration } from '../../src/config.ts';
import { TidemarkError } from '../../src/errors.ts';

const EMULATOR = 'BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;AccountName=devstoreaccount1;AccountKey=a2V5';
const BROKER =
  'Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0;UseDevelopmentEmulator=true';
const emulators: Environment = {
  TIDEMARK_CACHE_CONNECTION_STRING: EMULATOR,
  TIDEMARK_REPLICA_CONNECTION_STRING: EMULATOR,
  TIDEMARK_SERVICE_BUS_CONNECTION_STRING: BROKER,
};
const azure: Environment = {
  TIDEMARK_CACHE_ACCOUNT_URL: 'https://cache.blob.core.windows.net',
  TIDEMARK_REPLICA_ACCOUNT_URL: 'https://replica.blob.core.windows.net',
  TIDEMARK_SERVICE_BUS_NAMESPACE: 'tidemark-ns.servicebus.windows.net',
};

function parse(change: Environment, cloud = 'AzureCloud'): Configuration | string {
  try {
    return parseConfiguration({ ...azure, TIDEMARK_CLOUD: cloud, ...change });
  } catch (error) {
    if (error instanceof TidemarkError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

const inCloud = (cloud: string, account: string, namespace: string): Configuration | string =>
  parse(
    {
      TIDEMARK_CACHE_ACCOUNT_URL: `https://cache.${account}`,
      TIDEMARK_REPLICA_ACCOUNT_URL: `https://replica.${account}/`,
      TIDEMARK_SERVICE_BUS_NAMESPACE: namespace,
    },
    cloud,
  );

describe('a cloud', () => {
  it.each([
    ['AzureCloud', 'blob.core.windows.net', 'servicebus.windows.net'],
    ['AzureUSGovernment', 'blob.core.usgovcloudapi.net', 'servicebus.usgovcloudapi.net'],
    ['AzureChinaCloud', 'blob.core.chinacloudapi.cn', 'servicebus.chinacloudapi.cn'],
  ])('%s has its own hosts, and no other takes them', (cloud, account, bus) => {
    const places = {
      cache: { url: `https://cache.${account}` },
      replica: { url: `https://replica.${account}` },
      serviceBus: { namespace: `tidemark-ns.${bus}` },
      identity: { cloud },
      isLocal: false,
    };
    expect(inCloud(cloud, account, 'tidemark-ns')).toMatchObject(places);
    expect(inCloud(cloud, account, `Tidemark-NS.${bus}`)).toMatchObject(places);
    for (const other of Object.keys(CLOUDS).filter((name) => name !== cloud)) {
      expect(inCloud(other, account, 'tidemark-ns')).toMatch(/^CONFIG_INVALID: TIDEMARK_CACHE_ACCOUNT_URL is no blob/);
      const own = { TIDEMARK_SERVICE_BUS_NAMESPACE: `tidemark-ns.${bus}` };
      expect(parse({ ...emulators, ...own, TIDEMARK_SERVICE_BUS_CONNECTION_STRING: '', ...nothing }, other)).toMatch(
        /^CONFIG_INVALID: TIDEMARK_SERVICE_BUS_NAMESPACE is no namespace of/,
      );
    }
  });

  it('is in the documentation as it is in the code', () => {
    const page = readFileSync(new URL('../../docs/identity.md', import.meta.url), 'utf8');
    for (const [name, cloud] of Object.entries(CLOUDS)) {
      const row = [
        `\`${name}\``,
        `\`${cloud.authorityHost}\``,
        cloud.blobSuffixes.map((suffix) => `\`${suffix}\``).join(', '),
        `\`${cloud.serviceBusSuffix}\``,
        `\`${cloud.armEndpoint}\``,
      ];
      expect(page).toContain(`| ${row.join(' | ')} |`);
      expect(page).toContain(`\`${cloud.storageScope}\``);
    }
    expect(page).toContain(`\`${SERVICE_BUS_SCOPE}\``);
  });
});

const nothing: Environment = { TIDEMARK_CACHE_ACCOUNT_URL: '', TIDEMARK_REPLICA_ACCOUNT_URL: '' };

describe('the URL of an account', () => {
  it.each([
    ['https://cache.z12.blob.storage.azure.net', 'https://cache.z12.blob.storage.azure.net'],
    ['https://127.0.0.1:10000/cache/', 'https://127.0.0.1:10000/cache'],
    ['https://localhost:10000/cache', 'https://localhost:10000/cache'],
    ['https://[::1]:10000/cache', 'https://[::1]:10000/cache'],
  ])('may be %s', (given, url) => {
    expect(parse({ TIDEMARK_CACHE_ACCOUNT_URL: given })).toMatchObject({ cache: { url } });
  });

  it.each([
    'http://cache.blob.core.windows.net',
    'http://127.0.0.1:10000/cache',
    'cache.blob.core.windows.net',
    'https://blob.core.windows.net',
    'https://dr.example.com',
    'https://cache.blob.core.windows.net.example.com',
    'https://evilblob.core.windows.net',
    'https://a.b.blob.core.windows.net',
    'https://cache.blob.core.windows.net:8443',
    'https://cache.blob.core.windows.net/container',
    'https://127.0.0.1:10000/cache/container',
    'https://127.0.0.1.example.com/cache',
    'https://cache.blob.core.windows.net@example.com',
    'https://cache.blob.core.windows.net?sv=1&sig=c2VjcmV0',
    'https://name:c2VjcmV0@cache.blob.core.windows.net',
  ])('is not %s', (given) => {
    const said = parse({ TIDEMARK_CACHE_ACCOUNT_URL: given });
    expect(said).toMatch(/^CONFIG_INVALID: TIDEMARK_CACHE_ACCOUNT_URL /);
    expect(said).not.toContain('c2VjcmV0');
  });

  it('on this machine is an emulator, without the limits of Azure', () => {
    const local = { TIDEMARK_REPLICA_ACCOUNT_URL: 'https://127.0.0.1:10000/replica' };
    expect(parse(local)).toMatchObject({ isLocal: true, worker: { limitPageBlobRates: false } });
  });
});

describe('the namespace', () => {
  it.each(['localhost:5671', '127.0.0.1:5671', 'LOCALHOST'])('may be %s', (given) => {
    const namespace = given.toLowerCase();
    expect(parse({ TIDEMARK_SERVICE_BUS_NAMESPACE: given })).toMatchObject({ serviceBus: { namespace } });
  });

  it.each([
    'ns',
    'sb://tidemark-ns.servicebus.windows.net',
    'tidemark-ns.servicebus.windows.net/queue',
    'tidemark-ns.servicebus.windows.net:5671',
    'tidemark-ns.example.com',
    'a.tidemark-ns.servicebus.windows.net',
    'x@localhost',
    'localhost/x',
    'Endpoint=sb://tidemark-ns.servicebus.windows.net/;SharedAccessKey=c2VjcmV0',
  ])('is not %s', (given) => {
    const said = parse({ TIDEMARK_SERVICE_BUS_NAMESPACE: given });
    expect(said).toMatch(/^CONFIG_INVALID: TIDEMARK_SERVICE_BUS_NAMESPACE is no namespace of AzureCloud/);
    expect(said).not.toContain('c2VjcmV0');
  });
});

describe('a connection string', () => {
  const alone: Environment = { ...nothing, TIDEMARK_SERVICE_BUS_NAMESPACE: '' };
  it.each([
    ['TIDEMARK_CACHE_CONNECTION_STRING', EMULATOR],
    ['TIDEMARK_CACHE_CONNECTION_STRING', 'UseDevelopmentStorage=true'],
    ['TIDEMARK_CACHE_CONNECTION_STRING', 'BlobEndpoint=http://azurite:10000/cache;AccountName=cache;AccountKey=a2V5'],
    ['TIDEMARK_SERVICE_BUS_CONNECTION_STRING', `${BROKER};`],
    ['TIDEMARK_SERVICE_BUS_CONNECTION_STRING', 'Endpoint=sb://emulator;UseDevelopmentEmulator=true'],
  ])('of an emulator is taken: %s=%s', (name, value) => {
    const place = name.includes('CACHE') ? 'cache' : 'serviceBus';
    expect(parse({ ...alone, ...emulators, [name]: value })).toMatchObject({ [place]: { connectionString: value } });
  });

  it.each([
    ['TIDEMARK_CACHE_CONNECTION_STRING', 'DefaultEndpointsProtocol=https;AccountName=cache;AccountKey=c2VjcmV0'],
    [
      'TIDEMARK_CACHE_CONNECTION_STRING',
      'BlobEndpoint=https://cache.blob.core.windows.net;SharedAccessSignature=sig=c2VjcmV0',
    ],
    [
      'TIDEMARK_REPLICA_CONNECTION_STRING',
      'BlobEndpoint=https://a.blob.core.windows.net/a;AccountName=a;AccountKey=c2VjcmV0',
    ],
    ['TIDEMARK_REPLICA_CONNECTION_STRING', 'BlobEndpoint=https://dr.example.com;AccountName=a;AccountKey=c2VjcmV0'],
    ['TIDEMARK_REPLICA_CONNECTION_STRING', 'c2VjcmV0'],
    ['TIDEMARK_SERVICE_BUS_CONNECTION_STRING', 'Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKey=c2VjcmV0'],
    ['TIDEMARK_SERVICE_BUS_CONNECTION_STRING', 'Endpoint=sb://127.0.0.1:5672;SharedAccessKey=c2VjcmV0'],
    [
      'TIDEMARK_SERVICE_BUS_CONNECTION_STRING',
      'Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKey=c2VjcmV0;UseDevelopmentEmulator=true',
    ],
  ])('of anything else is refused, and not repeated: %s=%s', (name, value) => {
    const said = parse({ ...alone, ...emulators, [name]: value });
    expect(said).toMatch(new RegExp(`^CONFIG_INVALID: ${name} names no emulator .* for Azure set TIDEMARK_`));
    expect(said).not.toContain('c2VjcmV0');
  });

  it('and a place on Azure exclude each other', () => {
    expect(parse({ TIDEMARK_CACHE_CONNECTION_STRING: EMULATOR })).toBe(
      'CONFIG_INVALID: TIDEMARK_CACHE_ACCOUNT_URL and TIDEMARK_CACHE_CONNECTION_STRING exclude each other',
    );
  });

  it('of one emulator goes with places on Azure for the rest', () => {
    const mixed = { TIDEMARK_SERVICE_BUS_NAMESPACE: '', TIDEMARK_SERVICE_BUS_CONNECTION_STRING: BROKER };
    expect(parse(mixed)).toMatchObject({
      cache: { url: 'https://cache.blob.core.windows.net' },
      serviceBus: { connectionString: BROKER },
    });
  });
});

describe('Resource Manager', () => {
  const compute = {
    TIDEMARK_SUBSCRIPTION_ID: '11111111-2222-3333-4444-555555555555',
    TIDEMARK_RESOURCE_GROUP: 'rg-dr',
    TIDEMARK_LOCATION: 'westeurope',
    TIDEMARK_REPLICA_ACCOUNT_ID:
      '/subscriptions/s/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/replica',
  };
  const FIRST = '11111111-2222-3333-4444-555555555551';
  const SECOND = '11111111-2222-3333-4444-555555555552';

  it.each([
    ['https://westeurope.management.azure.com/', 'https://westeurope.management.azure.com'],
    ['https://127.0.0.1:7000', 'https://127.0.0.1:7000'],
  ])('may be at %s', (given, endpoint) => {
    expect(parse({ ...compute, TIDEMARK_ARM_ENDPOINT: given })).toMatchObject({ compute: { endpoint } });
  });

  it.each([
    'https://management.chinacloudapi.cn',
    'https://management.azure.com.example.com',
    'https://arm.example.com',
  ])('is not at %s', (given) => {
    const said = parse({ ...compute, TIDEMARK_ARM_ENDPOINT: given });
    expect(said).toMatch(/^CONFIG_INVALID: TIDEMARK_ARM_ENDPOINT is neither management\.azure\.com/);
  });

  it('is asked by an identity of its own, if there is one', () => {
    const one = parse({ ...compute, TIDEMARK_MANAGED_IDENTITY_CLIENT_ID: FIRST });
    expect(one).toMatchObject({ identity: { clientId: FIRST }, compute: { identityClientId: FIRST } });
    const ids = { TIDEMARK_MANAGED_IDENTITY_CLIENT_ID: FIRST, TIDEMARK_COMPUTE_IDENTITY_CLIENT_ID: SECOND };
    const two = parse({ ...compute, ...ids });
    expect(two).toMatchObject({ identity: { clientId: FIRST }, compute: { identityClientId: SECOND } });
  });
});
