/** Who signs in: the SDK of identities itself, before an identity endpoint and a proxy of this test. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { CLOUDS } from '../../src/azure/clouds.ts';
import { typedCredential } from '../../src/azure/credentials.ts';
import { expectCode } from '../contracts/support.ts';
import type { CredentialOrder, CredentialReport } from './credential-child.ts';

const LIMIT_MS = 60_000;
const CLIENT_ID = '11111111-2222-3333-4444-555555555555';
const CLOUD_NAMES = ['AzureCloud', 'AzureUSGovernment', 'AzureChinaCloud'] as const;
const STORAGE = CLOUDS.AzureCloud.storageScope;
const run = promisify(execFile);
const CHILD = fileURLToPath(new URL('./credential-child.ts', import.meta.url));
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listen(server: Server): Promise<string> {
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function tokensOf(order: CredentialOrder, env: Record<string, string>): Promise<CredentialReport> {
  const { stdout } = await run(process.execPath, [CHILD, JSON.stringify(order)], { env, timeout: LIMIT_MS });
  return JSON.parse(stdout) as CredentialReport;
}

describe('a managed identity', () => {
  it(
    'is asked for by its client id, once for each resource, and loads its SDK only then',
    { timeout: LIMIT_MS },
    async () => {
      const asked: string[] = [];
      const endpoint = await listen(
        createServer((request, response) => {
          const query = new URL(request.url ?? '', 'http://host').searchParams;
          asked.push(`${query.get('client_id')} ${query.get('resource')}`);
          const resource = query.get('resource');
          const expires_on = Math.floor(Date.now() / 1000) + 86_400;
          response.setHeader('content-type', 'application/json');
          response.end(JSON.stringify({ access_token: `for ${resource}`, resource, expires_on, token_type: 'Bearer' }));
        }),
      );
      const arm = `${CLOUDS.AzureCloud.armEndpoint}/.default`;
      const identities = [{ cloud: 'AzureCloud', clientId: CLIENT_ID }] as const;
      const order = { opensRuntime: true, identities, scopes: [STORAGE, arm, STORAGE] };
      const report = await tokensOf(order, { IDENTITY_ENDPOINT: `${endpoint}/msi/token`, IDENTITY_HEADER: 'h' });
      const [storage, management] = ['https://storage.azure.com', 'https://management.azure.com'];
      expect(report).toEqual({
        loaded: [false, true],
        tokens: [`for ${storage}`, `for ${management}`, `for ${storage}`],
      });
      expect(asked).toEqual([`${CLIENT_ID} ${storage}`, `${CLIENT_ID} ${management}`]);
    },
  );
});

describe('without a client id', () => {
  it('the authority of the cloud is asked, and no other', { timeout: LIMIT_MS }, async () => {
    const hosts = new Set<string>();
    const proxy = createServer();
    proxy.on('connect', (request, socket) => {
      hosts.add(request.url ?? '');
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    });
    const environment = {
      HTTPS_PROXY: await listen(proxy),
      AZURE_TOKEN_CREDENTIALS: 'EnvironmentCredential',
      AZURE_TENANT_ID: CLIENT_ID,
      AZURE_CLIENT_ID: CLIENT_ID,
      AZURE_CLIENT_SECRET: 'developer-secret',
    };
    const identities = CLOUD_NAMES.map((cloud) => ({ cloud }));
    const { tokens } = await tokensOf({ opensRuntime: false, identities, scopes: [STORAGE] }, environment);
    for (const token of tokens) {
      expect(token).toMatch(/^(?:SIGN_IN_FAILED|IDENTITY_UNAVAILABLE): no token: /);
      expect(token).not.toContain('developer-secret');
    }
    // The SDK goes to China's authority by the newer of its two names.
    const authorities = CLOUD_NAMES.map((cloud) => `${new URL(CLOUDS[cloud].tokenIssuerHost).hostname}:443`);
    expect([...hosts]).toEqual(authorities);
  });

  it('nobody may be there, which an operator is told', { timeout: LIMIT_MS }, async () => {
    const order = { opensRuntime: false, identities: [{ cloud: 'AzureCloud' }], scopes: [STORAGE] } as const;
    const none = await tokensOf(order, { AZURE_TOKEN_CREDENTIALS: 'EnvironmentCredential' });
    expect(none.tokens[0]).toMatch(/^SIGN_IN_FAILED: no token: .+EnvironmentCredential is unavailable/);
  });
});

describe('a credential', () => {
  const failing = (error: unknown) =>
    typedCredential({
      getToken: async () => {
        throw error;
      },
    });
  const named = (name: string, more: object): Error =>
    Object.assign(new Error('no eyJhbGciOi.eyJ.x'), { name, ...more });

  it.each([
    ['no identity', named('CredentialUnavailableError', {}), 'SIGN_IN_FAILED'],
    ['a refusal', named('AuthenticationError', { statusCode: 400 }), 'SIGN_IN_FAILED'],
    ['throttling', named('AuthenticationError', { statusCode: 429 }), 'IDENTITY_UNAVAILABLE'],
    ['an outage', named('AuthenticationError', { statusCode: 503 }), 'IDENTITY_UNAVAILABLE'],
    ['no connection', named('RestError', { code: 'ECONNREFUSED' }), 'IDENTITY_UNAVAILABLE'],
    ['an unknown host', named('RestError', { code: 'ENOTFOUND' }), 'IDENTITY_UNAVAILABLE'],
  ] as const)('that fails by %s is an error of the catalogue', async (_why, error, code) => {
    const failure = await expectCode(failing(error).getToken(STORAGE), code);
    expect(failure.message).toBe('no token: no …');
    expect(failure.cause).toBeUndefined();
  });

  it('that never answers ends with its time, and with the signal of the caller', async () => {
    const hanging = { getToken: () => new Promise<never>(() => undefined) };
    await expectCode(typedCredential(hanging, 10).getToken(STORAGE), 'IDENTITY_UNAVAILABLE');
    const caller = new AbortController();
    const waiting = typedCredential(hanging).getToken(STORAGE, { abortSignal: caller.signal });
    caller.abort();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
  });
});
