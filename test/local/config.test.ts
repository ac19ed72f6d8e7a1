import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Environment, parseConfiguration, portBaseOf } from '../../src/config.ts';
import { TidemarkError } from '../../src/errors.ts';
import { readStackConfig, stackEnvironment, stackPorts } from '../../src/local/stack-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'tidemark-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: string | Buffer): string => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};

const config = readStackConfig();
const local = stackEnvironment(config, stackPorts(config, 21_000), folder);
const azure: Environment = {
  TIDEMARK_CACHE_ACCOUNT_URL: 'https://cache.blob.core.windows.net',
  TIDEMARK_REPLICA_ACCOUNT_URL: 'https://replica.blob.core.windows.net/',
  TIDEMARK_SERVICE_BUS_NAMESPACE: 'tidemark-ns',
};

const failure = (environment: Environment): { code: string; message: string } => {
  try {
    parseConfiguration(environment);
  } catch (error) {
    if (error instanceof TidemarkError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error('no error was thrown');
};

describe('configuration', () => {
  it('has defaults for all but the connections', () => {
    expect(parseConfiguration(local)).toEqual({
      cache: { connectionString: local['TIDEMARK_CACHE_CONNECTION_STRING'] },
      replica: { connectionString: local['TIDEMARK_REPLICA_CONNECTION_STRING'] },
      serviceBus: { connectionString: local['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] },
      identity: { cloud: 'AzureCloud' },
      monitoringTopic: 'monitoring',
      commandQueue: 'commands',
      replyQueue: 'replies',
      cacheEventsQueue: 'cache-events',
      cyclePeriodMs: 2000,
      api: {},
      hosting: {
        roles: ['worker', 'scheduler', 'api'],
        httpPort: 8080,
        drainMs: 25_000,
        functionTimeoutMs: 1_800_000,
      },
      home: '.tidemark',
      isLocal: true,
      compute: {
        cloud: 'AzureCloud',
        endpoint: 'https://127.0.0.1:21002',
        caFile: join(folder, 'arm', 'ca.pem'),
        subscriptionId: '00000000-0000-0000-0000-000000000000',
        resourceGroup: 'tidemark-local',
        location: 'westeurope',
        replicaAccountId: local['TIDEMARK_REPLICA_ACCOUNT_ID'],
      },
      telemetry: { logLevel: 'info' },
      worker: {
        payloadBudgetBytes: 268_435_456,
        requestsPerDisk: 4,
        requestsPerAccount: 8,
        groupsAtOnce: 4,
        limitPageBlobRates: false,
      },
    });
  });

  it('takes what a host is told, and refuses what it cannot be told', () => {
    const hosting = (more: Record<string, string>) => parseConfiguration({ ...local, ...more }).hosting;
    expect(
      hosting({ TIDEMARK_ROLES: 'api, worker,api', TIDEMARK_HTTP_PORT: '0', TIDEMARK_DRAIN_SECONDS: '60' }),
    ).toEqual({
      roles: ['api', 'worker'],
      httpPort: 0,
      drainMs: 60_000,
      functionTimeoutMs: 1_800_000,
    });
    expect(hosting({ AzureFunctionsJobHost__functionTimeout: '00:10:30' }).functionTimeoutMs).toBe(630_000);
    for (const [name, value] of Object.entries({
      TIDEMARK_ROLES: 'worker,cook',
      TIDEMARK_HTTP_PORT: '65536',
      TIDEMARK_DRAIN_SECONDS: '601',
      AzureFunctionsJobHost__functionTimeout: '-1',
    })) {
      expect(() => hosting({ [name]: value }), name).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    }
  });

  it('keeps to the rates of page blobs on Azure, unless told otherwise', () => {
    expect(parseConfiguration(azure)).toMatchObject({ isLocal: false, worker: { limitPageBlobRates: true } });
    const told = parseConfiguration({ ...azure, TIDEMARK_LIMIT_PAGE_BLOB_RATES: 'false' });
    expect(told.worker.limitPageBlobRates).toBe(false);
  });

  it('takes what is set, and empty as not set', () => {
    const configuration = parseConfiguration({
      ...local,
      TIDEMARK_MONITORING_TOPIC: 'other',
      TIDEMARK_HOME: '/h',
      TIDEMARK_PAYLOAD_BUDGET_MIB: '64',
      TIDEMARK_REQUESTS_PER_DISK: '2',
      TIDEMARK_REQUESTS_PER_ACCOUNT: '',
    });
    expect(configuration).toMatchObject({
      monitoringTopic: 'other',
      home: '/h',
      worker: { payloadBudgetBytes: 67_108_864, requestsPerDisk: 2, requestsPerAccount: 8 },
    });
  });

  it('says what is missing', () => {
    expect(failure({ TIDEMARK_HOME: folder })).toEqual({
      code: 'CONFIG_MISSING',
      message: `no TIDEMARK_*_ACCOUNT_URL is set and no local stack runs in ${folder}`,
    });
    const partly = failure({ ...azure, TIDEMARK_CACHE_ACCOUNT_URL: '' });
    expect(partly).toEqual({ code: 'CONFIG_MISSING', message: 'TIDEMARK_CACHE_ACCOUNT_URL not set' });
  });

  it.each([
    ['TIDEMARK_REPLICA_CONNECTION_STRING', 'nonsense'],
    ['TIDEMARK_SERVICE_BUS_CONNECTION_STRING', 'Endpoint=https://x'],
    ['TIDEMARK_PAYLOAD_BUDGET_MIB', '1e3'],
    ['TIDEMARK_REQUESTS_PER_DISK', '0'],
    ['TIDEMARK_LIMIT_PAGE_BLOB_RATES', 'perhaps'],
    ['TIDEMARK_LOG_KEY', 'short'],
    ['TIDEMARK_LOG_KEY', `${'a'.repeat(63)}g`],
  ])('refuses %s=%s', (name, value) => {
    const { code, message } = failure({ ...local, [name]: value });
    expect(code).toBe('CONFIG_INVALID');
    expect(message).toContain(name);
    if (name === 'TIDEMARK_LOG_KEY') expect(message).not.toContain(value);
  });
});

describe('the log key', () => {
  const key = Buffer.from(Array.from({ length: 32 }, (_, index) => index * 7));
  it.each([
    ['hex', { TIDEMARK_LOG_KEY: key.toString('hex') }],
    ['base64', { TIDEMARK_LOG_KEY: key.toString('base64') }],
    ['a file with hex', { TIDEMARK_LOG_KEY_FILE: file('hex', `${key.toString('hex')}\n`) }],
    ['a file with base64', { TIDEMARK_LOG_KEY_FILE: file('base64', `${key.toString('base64')}\n`) }],
    ['a file with its bytes', { TIDEMARK_LOG_KEY_FILE: file('raw', key) }],
  ])('comes from %s', (_name, environment) => {
    expect(parseConfiguration({ ...local, ...environment }).logKey).toEqual(key);
  });

  it('is refused when there are two, or no file', () => {
    const both = { TIDEMARK_LOG_KEY: key.toString('hex'), TIDEMARK_LOG_KEY_FILE: join(folder, 'raw') };
    expect(failure({ ...local, ...both }).code).toBe('CONFIG_INVALID');
    expect(failure({ ...local, TIDEMARK_LOG_KEY_FILE: join(folder, 'none') }).code).toBe('CONFIG_INVALID');
    expect(failure({ ...local, TIDEMARK_LOG_KEY_FILE: file('long', Buffer.alloc(33)) }).code).toBe('CONFIG_INVALID');
  });
});

describe('ports', () => {
  it('come from azurite.json, and move together', () => {
    expect(stackPorts(config, undefined)).toEqual({
      blob: config.blobPort,
      broker: config.brokerPort,
      arm: config.armPort,
    });
    expect(stackPorts(config, portBaseOf({ TIDEMARK_PORT_BASE: '21000' }))).toEqual({
      blob: 21_000,
      broker: 21_001,
      arm: 21_002,
    });
    expect(portBaseOf({})).toBeUndefined();
  });

  it.each(['0', '65534', '-1', 'x', '1.5'])('refuses TIDEMARK_PORT_BASE=%s', (text) => {
    expect(() => stackPorts(config, portBaseOf({ TIDEMARK_PORT_BASE: text }))).toThrow(/TIDEMARK_PORT_BASE/);
  });

  it('stand in a file that is checked', () => {
    expect(() => readStackConfig(file('bad.json', '{"blobPort": 1}'))).toThrow(/brokerPort/);
    const shortKey = { ...config, accounts: { ...config.accounts, cache: { name: 'cache', key: 'a2V5' } } };
    expect(() => readStackConfig(file('key.json', JSON.stringify(shortKey)))).toThrow(/64 bytes/);
  });
});
