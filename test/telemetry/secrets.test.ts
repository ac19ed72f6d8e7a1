/**
 * Every way in which an error of storage, of Azure Compute or of Service Bus gets out of the process, with secrets in the URL, in the
 * headers and in what the server answers.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { inspect } from 'node:util';
import { AzureLogger, createClientLogger } from '@azure/logger';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { RestError } from '@azure/storage-blob';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { problemOf } from '../../src/api/problem.ts';
import { computeError } from '../../src/azure/arm-errors.ts';
import { writePages } from '../../src/azure/arm-upload.ts';
import { connect, type Storage } from '../../src/azure/connect.ts';
import { bridgeSdkLog } from '../../src/azure/sdk-log.ts';
import { callServiceBus, serviceBusClient } from '../../src/azure/service-bus-calls.ts';
import { ServiceBusTopic } from '../../src/azure/service-bus-topic.ts';
import { reportError } from '../../src/cli/report.ts';
import { TidemarkError } from '../../src/errors.ts';
import { errorRecord } from '../../src/failover/job-document.ts';
import { MIB } from '../../src/model/sizes.ts';
import { callWebhook } from '../../src/plans/webhook.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';
import { systemClock } from '../../src/system-clock.ts';
import { createLog, sdkLines } from '../../src/telemetry/log.ts';
import { inSpan } from '../../src/telemetry/tracing.ts';

const SIGNATURE = 'c2VjcmV0LXNpZ25hdHVyZQ+/PT09c2lnbmF0dXJl=';
const ACCOUNT_KEY = Buffer.from('the key of the account, 32 bytes').toString('base64');
const BUS_KEY = Buffer.from('the key of the namespace, secret').toString('base64');
const TOKEN = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJzZWNyZXQifQ.c2VjcmV0';
const SAS = `sv=2025-01-05&sr=c&sp=rwdl&sig=${encodeURIComponent(SIGNATURE)}&se=2030-01-01`;
const live = new AbortController().signal;

/** All that may not be read anywhere; what requests carry is added as they come. */
const secrets = new Set([SIGNATURE, encodeURIComponent(SIGNATURE), ACCOUNT_KEY, BUS_KEY, TOKEN, 'hunter22-password']);

/** Ways in which a server fails; each quotes the request as far as it can. */
const FAILURES = {
  refuses: (request: IncomingMessage, response: ServerResponse) => {
    const authorization = request.headers.authorization ?? '';
    const body = `<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate ${request.url?.replaceAll('&', '&amp;')} ${authorization}</Message><AuthenticationErrorDetail>The MAC signature found in the HTTP request '${authorization.split(':')[1] ?? SIGNATURE}' is not the same as any computed signature. Server used following string to sign: 'sig=${SIGNATURE}'</AuthenticationErrorDetail></Error>`;
    response.writeHead(403, { 'content-type': 'application/xml', 'x-ms-error-code': 'AuthenticationFailed' }).end(body);
  },
  'is broken': (request: IncomingMessage, response: ServerResponse) =>
    void response.writeHead(400, { 'content-type': 'application/xml' }).end(`<broken ${request.url} Bearer ${TOKEN}`),
  'breaks the connection': (request: IncomingMessage) => void request.socket.destroy(),
  'sends another length': (request: IncomingMessage, response: ServerResponse) =>
    void response
      .writeHead(200, {
        'content-type': 'application/octet-stream',
        'content-length': 3,
        etag: '"1"',
        'x-ms-blob-type': 'PageBlob',
      })
      .end(request.method === 'HEAD' ? undefined : 'abc'),
} as const;
type Failure = keyof typeof FAILURES;

let failure: Failure = 'refuses';
const sockets = new Set<Socket>();
const server = createServer((request, response) => {
  const [, signature] = /SharedKey [^:]+:(.+)/.exec(request.headers.authorization ?? '') ?? [];
  if (signature !== undefined) secrets.add(signature);
  request.resume();
  FAILURES[failure](request, response);
}).on('connection', (socket) => sockets.add(socket));
const address = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const lines: string[] = [];
const log = createLog({ level: 'trace', stream: { write: (line) => void lines.push(line) } });
const spans = new InMemorySpanExporter();
const tracer = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter: spans })] }).getTracer('test');
let undoBridge: () => void;

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  undoBridge = bridgeSdkLog('trace', sdkLines(log));
});
afterAll(() => {
  undoBridge();
  for (const socket of sockets) socket.destroy();
  server.close();
});

/** Runs what must fail, and takes its error through every way out. @returns all that got out */
async function outputsOf(run: () => Promise<unknown>): Promise<string> {
  lines.length = 0;
  spans.reset();
  const error = await inSpan(tracer, { name: 'test', attributes: {} }, run).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Error);
  log.error({ err: error, group: 'shop' }, 'it failed');
  const shown: string[] = [];
  const stderr = { write: (text: string) => void shown.push(text) };
  reportError(error, { stderr, env: { TIDEMARK_DEBUG: '1' }, signal: live });
  const span = spans
    .getFinishedSpans()
    .map(({ status, events, attributes }) => inspect({ status, events, attributes }, { depth: 9 }));
  expect(shown.join('')).toMatch(/^error\[[A-Z_]+\]: /);
  expect(lines.at(-1)).toContain('"err":{');
  expect(span.join('')).toContain('exception.message');
  const own =
    error instanceof TidemarkError
      ? [error.message, error.hint, JSON.stringify(error.details), JSON.stringify(problemOf(error))]
      : [];
  return [...own, JSON.stringify(errorRecord(error)), inspect(error, { depth: 9 }), ...shown, ...lines, ...span].join(
    '\n',
  );
}

function expectClean(text: string): void {
  expect(text.length).toBeGreaterThan(100);
  for (const secret of secrets) expect(text.includes(secret), `${secret} in\n${text.slice(0, 3000)}`).toBe(false);
}

const KEY = { group: 'shop', machine: 'web', disk: 'disk0' };
const STREAM = { ...KEY, epoch: 1 };
const POINT_DISK = { ...KEY, sizeBytes: MIB, snapshot: '2026-01-01T00:00:00.0000000Z', copy: null };

/** Each call of each port. */
const CALLS: readonly [string, (storage: Storage) => Promise<unknown>][] = [
  ['catalog read', ({ catalog }) => catalog.read('groups/a.json', live)],
  ['catalog create', ({ catalog }) => catalog.create('groups/a.json', Buffer.from('{}'), live)],
  ['catalog replace', ({ catalog }) => catalog.replace('groups/a.json', Buffer.from('{}'), '"1"', undefined, live)],
  ['catalog delete', ({ catalog }) => catalog.delete('groups/a.json', undefined, live)],
  ['catalog list', ({ catalog }) => catalog.list('groups/', live)],
  ['lease', ({ catalog }) => catalog.takeLease('groups/a.json', live)],
  ['seed open', ({ seeds }) => seeds.open(KEY, MIB, vhdFooter(KEY, MIB), live)],
  ['seed list', ({ seeds }) => seeds.list('shop', live)],
  ['seed remove', ({ seeds }) => seeds.remove(KEY, async () => undefined, live)],
  ['seed snapshots', ({ seeds }) => seeds.reader(KEY).listSnapshots(live)],
  ['seed read', ({ seeds }) => seeds.reader(KEY).read(POINT_DISK.snapshot, 0, 4096, live)],
  ['seed ranges', ({ seeds }) => seeds.reader(KEY).ranges(POINT_DISK.snapshot, MIB, live)],
  ['log list', ({ logStore }) => logStore.list(STREAM, 1, 10, live)],
  ['log read', ({ logStore }) => logStore.read(STREAM, 1, 2, live)],
  ['log head', ({ logStore }) => logStore.readHead(STREAM, 1, 2, live)],
  ['log delete', ({ logStore }) => logStore.delete(STREAM, 1, live)],
  ['log streams', ({ logStore }) => logStore.listStreams('shop', live)],
  ['log stage', async ({ logUpload }) => (await logUpload.stage(STREAM, 1, Buffer.alloc(8), live)).commit(live)],
  ['copy', ({ copies }) => copies.copy(POINT_DISK, 'failover/job/web/disk0.vhd', { signal: live })],
  ['copy list', ({ copies }) => copies.list('failover/job/', live)],
  ['copy open', ({ copies }) => copies.open('failover/job/web/disk0.vhd', MIB, live)],
];

function storageWith(credential: string): Storage {
  const connection = `${credential};BlobEndpoint=${address()}/account;`;
  return connect({
    cache: { connectionString: connection },
    replica: { connectionString: connection },
    times: { deadlineMs: 5000, maxTries: 1, firstDelayMs: 1, patienceMs: 1 },
  });
}

describe.each(Object.keys(FAILURES) as Failure[])('storage that %s', (how) => {
  it.each([
    ['a shared access signature', `SharedAccessSignature=${SAS}`],
    ['a key', `DefaultEndpointsProtocol=http;AccountName=account;AccountKey=${ACCOUNT_KEY}`],
  ])('shows nothing of %s in any call', async (_, credential) => {
    failure = how;
    const storage = storageWith(credential);
    let failed = 0;
    for (const [name, call] of CALLS) {
      let error: unknown;
      await call(storage).catch((thrown: unknown) => (error = thrown));
      if (error === undefined) continue; // this kind of failure is none for that call
      failed++;
      expectClean(await outputsOf(() => Promise.reject(error as Error)).then((text) => `${name}\n${text}`));
    }
    storage.close();
    expect(failed).toBeGreaterThan(how === 'sends another length' ? 4 : 17);
  });
});

describe('the write access to an upload disk', () => {
  it.each(['refuses', 'is broken', 'breaks the connection'] as const)(
    'is in no error of storage that %s',
    async (how) => {
      failure = how;
      const spec = { name: 'disk', sizeBytes: MIB } as Parameters<typeof writePages>[0];
      const source = { ranges: [{ offsetBytes: 0, lengthBytes: 512 }], read: async () => Buffer.alloc(512) };
      expectClean(await outputsOf(() => writePages(spec, `${address()}/account/c/disk?${SAS}`, source, live)));
    },
  );
});

describe('the rest', () => {
  const request = { url: `https://a.test/x?${SAS}`, headers: { authorization: `Bearer ${TOKEN}` } };

  it('Azure Compute', async () => {
    const error = new RestError(
      `Cannot read https://md.blob/x?${SAS} with Bearer ${TOKEN} and AccountKey=${ACCOUNT_KEY}`,
      {
        statusCode: 409,
        request: request as never,
      },
    );
    const asked = () => Promise.reject(computeError(error, 'create disks/d'));
    expectClean(await outputsOf(asked));
  });

  it('Service Bus: what it says', async () => {
    const said = `Unauthorized: SharedAccessSignature sr=sb%3A%2F%2Fn&sig=${encodeURIComponent(SIGNATURE)}&skn=Root Endpoint=sb://n/;SharedAccessKeyName=Root;SharedAccessKey=${BUS_KEY}`;
    const call = () =>
      callServiceBus({ entity: 'queue q', timeoutMs: 5000 }, live, () => Promise.reject(new Error(said)));
    expectClean(await outputsOf(call));
  });

  it('Service Bus: a malformed connection string', async () => {
    const text = `SharedAccessKeyName=Root;SharedAccessKey=${BUS_KEY}`;
    expectClean(await outputsOf(async () => serviceBusClient({ connectionString: text })));
  });

  it('Service Bus: nobody listens', async () => {
    const text = `Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=Root;SharedAccessKey=${BUS_KEY};UseDevelopmentEmulator=true`;
    const retry = { attempts: 1, firstDelayMs: 1, maxDelayMs: 1, random: Math.random, sleep: async () => undefined };
    const topic = new ServiceBusTopic({
      connect: () => serviceBusClient({ connectionString: text }, 2000),
      topic: 'monitoring',
      retry,
      callTimeoutMs: 3000,
    });
    const message = { messageId: '1', subject: 's', body: {}, applicationProperties: {} } as never;
    expectClean(await outputsOf(() => topic.send([message], live)));
    await topic.close();
  });

  it('hooks of a plan', async () => {
    failure = 'breaks the connection';
    const call = {
      url: `${address()}/hook?code=${encodeURIComponent(ACCOUNT_KEY)}&sig=${encodeURIComponent(SIGNATURE)}`,
      secret: 'hunter22-password',
      body: '{}',
      idempotencyKey: 'k',
      timeoutMs: 2000,
      attempts: 1,
    };
    const ports = { clock: systemClock, random: Math.random };
    expectClean(await outputsOf(() => callWebhook(ports, call, live)));
  });

  it('an error of which nobody has heard, three deep', async () => {
    const root = Object.assign(
      new Error(`getaddrinfo user:hunter22-password@host, https://u:hunter22-password@h.test/?${SAS}`),
      { code: 'E' },
    );
    root.message = root.message.replace('user:hunter22-password@host, ', '');
    root.stack = `Error: ${root.message}\n    at https://h.test/?${SAS}`;
    const middle = new Error(`Authorization: SharedKey account:${ACCOUNT_KEY}`, { cause: root });
    const top = new TidemarkError('STORAGE_UNAVAILABLE', 'Read a', {
      cause: middle,
      details: { url: `https://h/?${SAS}` },
    });
    lines.length = 0;
    spans.reset();
    await inSpan(tracer, { name: 'test', attributes: {} }, () => Promise.reject(top)).catch(() => undefined);
    log.warn({ err: top, url: `https://h/?${SAS}` }, `with AccountKey=${ACCOUNT_KEY}`);
    const shown: string[] = [];
    const stderr = { write: (text: string) => void shown.push(text) };
    reportError(top, { stderr, env: { TIDEMARK_DEBUG: '1' }, signal: live });
    expectClean(
      [...lines, ...shown, ...spans.getFinishedSpans().map((span) => inspect(span.events, { depth: 9 }))].join('\n'),
    );
    expect(lines.join('')).toContain('"cause":{');
  });

  it('the log of the SDKs', () => {
    lines.length = 0;
    const sdk = createClientLogger('storage-blob');
    sdk.info(`Request: GET https://a.test/c/b?${SAS}`, {
      headers: { authorization: `SharedKey account:${ACCOUNT_KEY}` },
    });
    sdk.warning(`Bearer ${TOKEN}`);
    const [first = '{}', second = '{}'] = lines;
    expect(JSON.parse(first)).toMatchObject({ level: 'debug', sdk: 'azure:storage-blob' });
    expect(JSON.parse(second)).toMatchObject({ level: 'warn', msg: 'Bearer …' });
    expectClean(lines.join('\n').padEnd(101));
    expect(typeof AzureLogger.log).toBe('function');
  });
});
