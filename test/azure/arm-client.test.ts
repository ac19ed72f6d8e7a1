import { describe, expect, it } from 'vitest';
import { ArmCompute } from '../../src/azure/arm-compute.ts';
import { redact } from '../../src/azure/arm-errors.ts';
import type { ArmHttpClient } from '../../src/azure/arm-client.ts';
import { CLOUDS } from '../../src/azure/clouds.ts';
import { typedCredential } from '../../src/azure/credentials.ts';
import { openCompute } from '../../src/azure/open-compute.ts';
import { type Environment, parseConfiguration } from '../../src/config.ts';
import { openRuntime, requireCompute } from '../../src/runtime.ts';
import { diskSpec, journal } from '../contracts/compute.contract.ts';
import { expectCode, live } from '../contracts/support.ts';
import { QUICK, TOKEN } from './arm-support.ts';

const ACCOUNT = '/subscriptions/s/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/replica';
const SUBSCRIPTION = '11111111-2222-3333-4444-555555555555';
const connections: Environment = {
  TIDEMARK_CACHE_CONNECTION_STRING: 'UseDevelopmentStorage=true',
  TIDEMARK_REPLICA_CONNECTION_STRING: 'UseDevelopmentStorage=true',
  TIDEMARK_SERVICE_BUS_CONNECTION_STRING: 'Endpoint=sb://a/;UseDevelopmentEmulator=true',
};
const azure: Environment = {
  ...connections,
  TIDEMARK_SUBSCRIPTION_ID: SUBSCRIPTION,
  TIDEMARK_RESOURCE_GROUP: 'rg-dr',
  TIDEMARK_LOCATION: 'westeurope',
  TIDEMARK_REPLICA_ACCOUNT_ID: ACCOUNT,
};

/** Notes what would have left this machine. */
function capture() {
  const seen = { scopes: [] as string[], urls: [] as string[], tokens: [] as string[] };
  const credential = {
    getToken: async (scopes: string | string[]) => {
      seen.scopes.push(...[scopes].flat());
      return { token: TOKEN, expiresOnTimestamp: Date.now() + 3_600_000 };
    },
  };
  const httpClient: ArmHttpClient = {
    sendRequest: async (request) => {
      seen.urls.push(request.url);
      seen.tokens.push(request.headers.get('authorization') ?? '');
      const body = JSON.stringify({ error: { code: 'AuthorizationFailed', message: 'No.' } });
      return { request, headers: request.headers, status: 403, bodyAsText: body };
    },
  };
  return { seen, credential, httpClient };
}

describe('clouds', () => {
  it.each([
    ['AzureCloud', 'https://management.azure.com'],
    ['AzureUSGovernment', 'https://management.usgovcloudapi.net'],
    ['AzureChinaCloud', 'https://management.chinacloudapi.cn'],
  ] as const)('%s is asked at %s, with a token for it', async (cloud, endpoint) => {
    const { compute } = parseConfiguration({ ...azure, TIDEMARK_CLOUD: cloud });
    expect(compute).toEqual({
      cloud,
      subscriptionId: SUBSCRIPTION,
      resourceGroup: 'rg-dr',
      location: 'westeurope',
      replicaAccountId: ACCOUNT,
    });
    const { seen, credential, httpClient } = capture();
    const options = {
      subscriptionId: SUBSCRIPTION,
      resourceGroup: 'rg-dr',
      location: 'westeurope',
      storageAccountId: ACCOUNT,
    };
    const adapter = new ArmCompute({
      ...options,
      endpoint: CLOUDS[cloud].armEndpoint,
      credential,
      httpClient,
      random: Math.random,
      times: QUICK,
    });
    await expectCode(adapter.importDisk(diskSpec(), 'https://replica/c/b.vhd', journal(), live), 'COMPUTE_REFUSED');
    expect(new Set(seen.scopes)).toEqual(new Set([`${endpoint}/.default`]));
    expect(new Set(seen.urls.map((url) => new URL(url).origin))).toEqual(new Set([endpoint]));
    expect(seen.urls[0]).toContain(
      `/subscriptions/${SUBSCRIPTION}/resourceGroups/rg-dr/providers/Microsoft.Compute/disks/`,
    );
    expect(new Set(seen.tokens)).toEqual(new Set([`Bearer ${TOKEN}`]));
  });

  it('say by a credential that cannot give a token that an operator is needed', async () => {
    const { compute } = parseConfiguration(azure);
    if (compute === undefined) throw new Error('compute is configured');
    const failing = {
      getToken: () =>
        Promise.reject(
          Object.assign(new Error(`no identity; tried eyJhbGciOi.eyJ.x`), { name: 'CredentialUnavailableError' }),
        ),
    };
    const error = await expectCode(
      openCompute(compute, typedCredential(failing)).findDisk('d', live),
      'SIGN_IN_FAILED',
    );
    expect(error.message).not.toContain('eyJ');
  });
});

describe('the configuration', () => {
  const failure = (environment: Environment): unknown => {
    try {
      parseConfiguration(environment);
    } catch (error) {
      return error;
    }
    throw new Error('no error was thrown');
  };

  it('may say nothing about Compute; what needs it then says what is missing', async () => {
    const configuration = parseConfiguration(connections);
    expect(configuration.compute).toBeUndefined();
    const runtime = openRuntime(configuration);
    expect(runtime.compute).toBeUndefined();
    expect(() => requireCompute(runtime)).toThrow(expect.objectContaining({ code: 'CONFIG_MISSING' }));
    await runtime.close();
  });

  it('has all of it or nothing, and only what can be', () => {
    const { TIDEMARK_LOCATION: _, ...partly } = azure;
    expect(failure(partly)).toMatchObject({ code: 'CONFIG_MISSING', message: 'TIDEMARK_LOCATION not set' });
    const wrong: Environment = {
      TIDEMARK_CLOUD: 'AzureMoonCloud',
      TIDEMARK_SUBSCRIPTION_ID: 'mine',
      TIDEMARK_RESOURCE_GROUP: 'a/b',
      TIDEMARK_LOCATION: 'West Europe',
      TIDEMARK_REPLICA_ACCOUNT_ID: 'replica',
      TIDEMARK_ARM_ENDPOINT: 'http://127.0.0.1:1',
      TIDEMARK_COMPUTE_IDENTITY_CLIENT_ID: 'me',
      TIDEMARK_MANAGED_IDENTITY_CLIENT_ID: 'me',
    };
    for (const [name, value] of Object.entries(wrong)) {
      const error = failure({ ...azure, [name]: value });
      expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(name) });
    }
  });

  it('names a CA file that must be there, once it is needed', async () => {
    const endpoint = { TIDEMARK_ARM_ENDPOINT: 'https://127.0.0.1:1/', TIDEMARK_ARM_CA_FILE: '/nowhere/ca.pem' };
    const runtime = openRuntime(parseConfiguration({ ...azure, ...endpoint }));
    await expectCode(requireCompute(runtime).findDisk('d', live), 'CONFIG_INVALID');
    await runtime.close();
  });
});

describe('redaction', () => {
  it.each([
    ['at https://a.blob/c/b?sv=1&sig=abc%2B1 now', 'at https://a.blob/c/b?… now'],
    ['sig=abc&x=1', 'sig=…&x=1'],
    ['Authorization: Bearer a.b-c_d', 'Authorization: Bearer …'],
    ['token eyJ0eXAi.eyJhdWQi.c2ln', 'token …'],
    ['AccountKey=abc==;EndpointSuffix=x', 'AccountKey=…;EndpointSuffix=x'],
    ['a quota of 10 is exceeded', 'a quota of 10 is exceeded'],
  ])('of %s', (text, clean) => {
    expect(redact(text)).toBe(clean);
  });
});
