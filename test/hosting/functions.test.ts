/** The function app's handlers on the local stack, invoked through the Functions library as its host does. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ServiceBusClient } from '@azure/service-bus';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { startApi } from '../../src/api/server.ts';
import { openVerifiers } from '../../src/api/verifiers.ts';
import type { JobView } from '../../src/commands/commands.ts';
import { type Configuration, parseConfiguration } from '../../src/config.ts';
import { SHARES } from '../../src/hosting/functions/time-limit.ts';
import { openRuntime } from '../../src/runtime.ts';
import { systemClock } from '../../src/system-clock.ts';
import { createLog } from '../../src/telemetry/log.ts';
import { apiTelemetry } from '../../src/telemetry/telemetry.ts';
import { observeWorker } from '../../src/telemetry/worker-observer.ts';
import type { Clock } from '../../src/worker/ports.ts';
import { type Fault, FaultyProxy, type SeenRequest } from '../azure/faulty-proxy.ts';
import { segmentSubject } from './segment-subject.ts';
import { Operator } from '../support/cli.ts';
import { useStack } from '../support/stack.ts';
import { RawStorage } from '../support/storage.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import {
  invokeBatch,
  invokeHttp,
  invokeTimer,
  registeredFunctions,
  takeMessage,
  type Taken,
} from './functions-host.ts';

const stack = useStack();
const environment = (): Record<string, string> => ({ ...stack.environment, TIDEMARK_HOME: stack.home });
const operator = new Operator(environment);
const bus = (): string => stack.environment['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] ?? '';
const take = (): Promise<Taken> => takeMessage(bus(), 'sessions');

/** The host's time is what the test says; everything else goes by the real clock. */
class HostTime {
  readonly #timeoutMs: number;
  readonly #waiting = new Map<number, (() => void)[]>();
  readonly clock: Clock;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    const limits = [SHARES.handOver * timeoutMs, SHARES.stop * timeoutMs];
    this.clock = {
      ...systemClock,
      sleep: (ms, signal) => {
        if (!limits.includes(ms)) return systemClock.sleep(ms, signal);
        return new Promise((resolve, reject) => {
          this.#waiting.set(ms, [...(this.#waiting.get(ms) ?? []), resolve]);
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        });
      },
    };
  }

  /** So much of the time of every invocation is over. */
  pass(share: number): void {
    for (const resolve of this.#waiting.get(share * this.#timeoutMs) ?? []) resolve();
  }
}

interface App {
  readonly configuration: Configuration;
  readonly runtime: ReturnType<typeof openRuntime>;
  readonly time: HostTime;
  readonly reported: string[];
}

const ending: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).toReversed()) await end();
});

async function startApp(ports: Readonly<Record<string, string>> = {}): Promise<App> {
  const { Handlers } = await import('../../src/hosting/functions/handlers.ts');
  const { registerFunctions } = await import('../../src/hosting/functions/triggers.ts');
  const configuration = parseConfiguration({ ...environment(), ...ports });
  const time = new HostTime(configuration.hosting.functionTimeoutMs);
  const opened = openRuntime(configuration);
  const runtime = { ...opened, ports: { ...opened.ports, clock: time.clock } };
  const reported: string[] = [];
  const log = createLog({ level: 'error', stream: { write: (line) => reported.push(line) } });
  const observer = observeWorker({ telemetry: apiTelemetry(), clock: time.clock });
  const handlers = new Handlers({ configuration, runtime, log, observer });
  ending.push(async () => {
    await handlers.close();
    observer.stop();
    await runtime.close();
  });
  registerFunctions(handlers, configuration);
  return { configuration, runtime, time, reported };
}

/** Ids of what waits in the queue, without what differs from run to run. */
async function inLine(): Promise<readonly string[]> {
  const client = new ServiceBusClient(bus()); // looks of one client go on where the one before ended
  try {
    const found = await client.createReceiver('commands').peekMessages(100);
    return found.map(({ messageId }) => String(messageId).split('.').slice(0, 2).join('.'));
  } finally {
    await client.close();
  }
}

/** What is left to do, in so many invocations at the most. */
async function takeAll(limit = 5): Promise<void> {
  for (let left = limit; (await inLine()).length > 0; left--) {
    expect(left).toBeGreaterThan(0);
    await take();
  }
}

const SHIPPED = ['--start', '2026-11-20T04:02:00Z', '--stretch', '60', '--segment-seconds', '60'];
/** Of the trace: enough for one point. */
const FIRST_SECONDS = '8';
let dir = '';
beforeAll(async () => {
  dir = await writeSyntheticTrace(join(stack.home, 'trace'));
  await operator.ok('policy', 'set', 'p', '--app-consistent-hours', '1');
});

async function protect(group: string, ...more: string[]): Promise<void> {
  const disks = ['--disk', 'disk0=2MiB', '--disk', 'disk1=2MiB'];
  await operator.ok('group', 'protect', group, '--policy', 'p', '--machine', 'web', ...disks);
  await operator.ok('source', 'ship', group, '--trace', dir, ...SHIPPED, ...more);
}

const pointsOf = async (group: string): Promise<number> =>
  (await operator.json<unknown[]>('point', 'list', group)).length;
const ALL_POINTS = 12;

async function leasesOf(group: string): Promise<readonly unknown[]> {
  const storage = new RawStorage(environment());
  const blobs = [
    storage.catalog.getBlobClient(`progress/${group}.json`),
    storage.seed(`${group}/web/disk0`),
    storage.seed(`${group}/web/disk1`),
  ];
  return Promise.all(blobs.map(async (blob) => (await blob.getProperties()).leaseState));
}

/** Storage behind a proxy that does `then` at the first request that matches, and waits for it. */
async function atFirst(matches: (seen: SeenRequest) => boolean, then: () => Fault) {
  const port = Number(
    /BlobEndpoint=http:\/\/127\.0\.0\.1:(\d+)/.exec(environment()['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '')?.[1],
  );
  const proxy = await FaultyProxy.start(port);
  ending.push(() => proxy.close());
  let isDone = false;
  proxy.rule = (seen) => {
    if (isDone || !matches(seen)) return 'pass';
    isDone = true;
    return then();
  };
  const through = (text = ''): string => text.replaceAll(`127.0.0.1:${port}`, `127.0.0.1:${proxy.port}`);
  return Object.fromEntries(
    ['TIDEMARK_CACHE_CONNECTION_STRING', 'TIDEMARK_REPLICA_CONNECTION_STRING'].map((name) => [
      name,
      through(environment()[name]),
    ]),
  );
}

const isManifestOf =
  (group: string) =>
  ({ method, url }: SeenRequest): boolean =>
    method === 'PUT' && url.includes(`/points/${group}/`) && url.includes('.json');

it('orders turns each minute, does them by session, and hands over what its time does not suffice for', async () => {
  await protect('timed');
  let app: App | undefined;
  const places = await atFirst(isManifestOf('timed'), () => {
    app?.time.pass(SHARES.handOver);
    return 'pass';
  });
  app = await startApp(places);
  await invokeTimer('schedule');
  await invokeTimer('schedule');
  expect(await inLine()).toEqual(['cycle.timed']);

  expect(await take()).toEqual({ id: expect.stringMatching(/^cycle\.timed\./) as string });
  const made = await pointsOf('timed');
  expect(made).toBeGreaterThan(0);
  expect(made).toBeLessThan(ALL_POINTS);
  expect(new Set(await leasesOf('timed'))).toEqual(new Set(['available']));
  expect(await inLine()).toEqual(['more.timed']);

  expect(await take()).toEqual({ id: expect.stringMatching(/^more\.timed\./) as string });
  await takeAll();
  expect(await pointsOf('timed')).toBe(ALL_POINTS);
  expect(app.reported).toEqual([]);

  await invokeBatch('cacheEvents', [
    { eventType: 'Microsoft.Storage.BlobCreated', subject: segmentSubject('timed') },
    { eventType: 'Microsoft.Storage.BlobCreated', subject: segmentSubject('timed', 2) },
    { eventType: 'Microsoft.Storage.BlobCreated', subject: segmentSubject('unknown') },
  ]);
  expect(await inLine()).toEqual(['event.timed']);
  await takeAll();
  await invokeTimer('prune');
  expect(await inLine()).toEqual(['prune.timed']);
  expect(await take()).toEqual({ id: expect.stringMatching(/^prune\.timed\./) as string });
}, 120_000);

it('gives a command back that its time does not suffice for, and the next invocation goes on with its job', async () => {
  await protect('asked', '--until', FIRST_SECONDS);
  await operator.ok('worker', 'run', '--once', '--group', 'asked');
  let app: App | undefined;
  const isStep = ({ method, url }: SeenRequest): boolean => method === 'PUT' && url.includes('/jobs/asked/');
  let writes = 0;
  const places = await atFirst(
    (seen) => isStep(seen) && ++writes === 2, // the job is there, and has begun
    () => {
      app?.time.pass(SHARES.handOver);
      return 'pass';
    },
  );
  app = await startApp(places);
  const command = JSON.stringify({ command: 'create-point', at: 'latest' });
  await operator.ok('command', 'send', 'asked', command, '--key', 'only-once');
  const first = await take();
  expect(first).toMatchObject({ id: 'only-once', error: { code: 'INTERRUPTED' } });
  expect(await operator.json('job', 'list', 'asked')).toMatchObject([{ state: 'running' }]);
  expect(await take()).toEqual({ id: 'only-once' });
  expect(await operator.json('job', 'list', 'asked')).toMatchObject([{ state: 'succeeded' }]);

  const refused = JSON.stringify({ command: 'dance' });
  await operator.ok('command', 'send', 'asked', refused, '--key', 'refused');
  for (let delivery = 1; delivery <= 5; delivery++) {
    expect(await take()).toMatchObject({
      id: 'refused',
      error: { message: expect.stringContaining('COMMAND_INVALID') as string },
    });
  }
  expect(await inLine()).toEqual([]);
}, 120_000);

it('answers HTTP as any other host, and leaves jobs to the function of sessions', async () => {
  await protect('served', '--until', FIRST_SECONDS);
  const { configuration, runtime } = await startApp();
  const verifiers = openVerifiers(configuration, undefined).verifiers(() => 0);
  const stopping = new AbortController();
  const { ports, commands } = runtime;
  const { url, ended } = await startApi({
    ports,
    commands,
    verifiers,
    report: () => undefined,
    signal: stopping.signal,
    host: '127.0.0.1',
    port: 0,
    isInsecureAllowed: false,
    random: () => 0.5,
  });
  ending.push(async () => {
    stopping.abort(new Error('SIGTERM'));
    await ended;
  });
  const token = readFileSync(join(stack.home, 'api.token'), 'utf8').trim();
  const headers = { authorization: `Bearer ${token}` };
  for (const [path, given] of [
    ['/v1/groups', headers],
    ['/v1/groups?limit=0', headers],
    ['/v1/groups/served/points', headers],
    ['/v1/groups', {}],
    ['/nowhere', {}],
    ['/openapi.json', {}],
  ] as const) {
    const other = await fetch(`${url}${path}`, { headers: given });
    const own = await invokeHttp('api', { method: 'GET', url: `${url}${path}`, headers: given });
    expect([own.status, own.headers['content-type'], JSON.parse(own.text)]).toEqual([
      other.status,
      other.headers.get('content-type'),
      await other.json(),
    ]);
  }

  const path = `${url}/v1/groups/served/commands`;
  const json = { ...headers, 'content-type': 'application/json' };
  const body = { string: JSON.stringify({ command: 'create-point', at: 'latest' }) };
  const answer = await invokeHttp('api', { method: 'POST', url: path, headers: json, body });
  expect(answer.status).toBe(202);
  const { job, state } = JSON.parse(answer.text) as JobView;
  expect(state).toBe('running');
  expect(await inLine()).toEqual(['job.served']);
  expect(await take()).toEqual({ id: expect.stringContaining(job) as string });
  const look = await invokeHttp('api', { method: 'GET', url: `${url}/v1/groups/served/jobs/${job}`, headers });
  expect(JSON.parse(look.text)).toMatchObject({ job, state: 'succeeded' });
}, 120_000);

it('registers each function with its trigger, as host.json expects it', async () => {
  const { configuration } = await startApp();
  const triggers = registeredFunctions().map(({ name, bindings }) => {
    const {
      direction: _direction,
      name: _name,
      properties: _properties,
      ...trigger
    } = Object.values(bindings).find((one) => one['direction'] === 'in') ?? {};
    return [name, trigger];
  });
  const connection = 'TIDEMARK_SERVICE_BUS';
  expect(Object.fromEntries(triggers)).toEqual({
    schedule: { type: 'timerTrigger', schedule: '0 * * * * *' },
    prune: { type: 'timerTrigger', schedule: '0 23 * * * *' },
    sessions: { type: 'serviceBusTrigger', connection, queueName: 'commands', isSessionsEnabled: true },
    cacheEvents: { type: 'serviceBusTrigger', connection, queueName: 'cache-events', cardinality: 'many' },
    api: {
      type: 'httpTrigger',
      route: '{*path}',
      authLevel: 'anonymous',
      methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    },
  });
  const host = JSON.parse(readFileSync(new URL('../../infra/functions/host.json', import.meta.url), 'utf8')) as {
    functionTimeout: string;
    extensions: { serviceBus: { maxConcurrentSessions: number; maxAutoLockRenewalDuration: string }; http: object };
  };
  const { serviceBus, http } = host.extensions;
  expect(Date.parse(`1970-01-01T${host.functionTimeout}Z`)).toBe(configuration.hosting.functionTimeoutMs);
  expect(serviceBus.maxAutoLockRenewalDuration >= host.functionTimeout).toBe(true);
  expect(serviceBus.maxConcurrentSessions).toBe(configuration.worker.groupsAtOnce);
  expect(http).toEqual({ routePrefix: '' });
});
