/** The container's parts in this process, on the local stack: what its probes say, with a clock of the test's own. */
import { ServiceBusClient } from '@azure/service-bus';
import { expect, it, onTestFinished, vi } from 'vitest';
import { parseConfiguration, type Role } from '../../src/config.ts';
import { BEAT_LIMIT_MS } from '../../src/hosting/heartbeats.ts';
import { runHost } from '../../src/hosting/host.ts';
import { openRuntime } from '../../src/runtime.ts';
import { createLog } from '../../src/telemetry/log.ts';
import { apiTelemetry } from '../../src/telemetry/telemetry.ts';
import { observeWorker } from '../../src/telemetry/worker-observer.ts';
import { useStack } from '../support/stack.ts';
import { segmentSubject } from './segment-subject.ts';

const stack = useStack();

interface StartedHost {
  readonly url: string;
  /** Lets time pass for probes, and for nothing else. */
  readonly time: { ms: number };
  /** What SIGTERM does. */
  readonly stop: () => Promise<void>;
}

async function startHost(roles: readonly Role[]): Promise<StartedHost> {
  const environment = { ...stack.environment, TIDEMARK_HOME: stack.home, TIDEMARK_HTTP_PORT: '0' };
  const configuration = parseConfiguration({ ...environment, TIDEMARK_ROLES: roles.join(',') });
  const runtime = openRuntime(configuration);
  const log = createLog({ level: 'fatal', stream: { write: () => undefined } });
  const observer = observeWorker({ telemetry: apiTelemetry(), clock: runtime.ports.clock, log });
  const draining = new AbortController();
  const time = { ms: 0 };
  const listening = Promise.withResolvers<string>();
  const ended = runHost({
    configuration,
    runtime,
    log,
    observer,
    host: '127.0.0.1',
    nowMs: () => time.ms,
    draining: draining.signal,
    signal: new AbortController().signal,
    onListening: listening.resolve,
  });
  const stop = async (): Promise<void> => {
    draining.abort(new Error('SIGTERM'));
    await ended;
    await runtime.close();
  };
  onTestFinished(stop);
  return { url: await Promise.race([listening.promise, ended.then(() => '')]), time, stop };
}

/** One of no group, which nobody acts on: without it the loop of events goes round only when its wait is over. */
async function anEvent(): Promise<void> {
  const client = new ServiceBusClient(stack.environment['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] ?? '');
  const body = [{ eventType: 'Microsoft.Storage.BlobCreated', subject: segmentSubject('unknown') }];
  await client.createSender('cache-events').sendMessages({ body });
  await client.close();
}

async function live(url: string) {
  const response = await fetch(`${url}/health/live`);
  const { status, loops } = (await response.json()) as { status: string; loops: { loop: string; state: string }[] };
  return { code: response.status, status, loops: loops.map(({ loop, state }) => `${loop} ${state}`).sort() };
}

it('says which loops hang, and no longer when they go round again', async () => {
  const { url, time, stop } = await startHost(['worker', 'scheduler']);
  const beating = { code: 200, status: 'ok', loops: ['cache-events ok', 'sessions ok', 'ticks ok'] };
  expect(await live(url)).toEqual(beating);
  time.ms += BEAT_LIMIT_MS;
  expect(await live(url)).toEqual(beating);
  time.ms += 1;
  // The two that beat by themselves within seconds may have done so; the third waits for events.
  expect(await live(url)).toMatchObject({ code: 503, status: 'late' });
  expect((await live(url)).loops).toContain('cache-events late');
  await anEvent();
  await vi.waitFor(async () => expect(await live(url)).toEqual(beating), { timeout: 40_000, interval: 50 });
  expect((await fetch(`${url}/v1/groups`)).status).toBe(404);
  await stop();
});

it('answers requests of its own role alone, and none once it drains', async () => {
  const { url, stop } = await startHost(['api']);
  expect(await live(url)).toEqual({ code: 200, status: 'ok', loops: [] });
  expect((await fetch(`${url}/v1/groups`)).status).toBe(401);
  expect((await fetch(`${url}/health/live`, { method: 'POST' })).status).toBe(405);
  await stop();
  await expect(fetch(`${url}/health/live`)).rejects.toThrow('fetch failed');
});
