import { BlobServiceClient } from '@azure/storage-blob';
import { ServiceBusClient } from '@azure/service-bus';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseConfiguration } from '../../src/config.ts';
import { isPortFree } from '../../src/local/probes.ts';
import { processStart } from '../../src/local/process-identity.ts';
import { type RunningStack, startStack } from '../../src/local/stack.ts';
import { claimHome, readStack, writeState } from '../../src/local/stack-state.ts';
import { onFreePorts, useStack } from '../support/stack.ts';

const stack = useStack();

let otherHome = '';
beforeEach(async () => {
  otherHome = await mkdtemp(join(tmpdir(), 'tidemark-other-'));
});
afterEach(() => rm(otherHome, { recursive: true, force: true }));

const limit = (): AbortSignal => AbortSignal.timeout(50_000);
const runningPorts = () => {
  const state = readStack(stack.home);
  if (state === undefined) throw new Error('no stack');
  return state.ports;
};

describe('a running stack', () => {
  it('keeps blobs in two accounts', async () => {
    const [cache, replica] = ['CACHE', 'REPLICA'].map((role) =>
      BlobServiceClient.fromConnectionString(stack.environment[`TIDEMARK_${role}_CONNECTION_STRING`] ?? ''),
    );
    const data = Buffer.from('bytes');
    await cache?.createContainer('only-here');
    const blob = cache?.getContainerClient('only-here').getBlockBlobClient('b');
    await blob?.uploadData(data);
    expect(await blob?.downloadToBuffer()).toEqual(data);
    expect([cache?.accountName, replica?.accountName]).toEqual(['tidemarkcache', 'tidemarkreplica']);
    expect(await replica?.getContainerClient('only-here').exists()).toBe(false);
  });

  it('sends every message to `all`, and errors to `alerts`, once', async () => {
    const client = new ServiceBusClient(stack.environment['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] ?? '');
    const sender = client.createSender(stack.environment['TIDEMARK_MONITORING_TOPIC'] ?? '');
    const messages = ['info', 'error', 'warning', 'critical'].map((severity, index) => ({
      body: severity,
      messageId: `m${index}`,
      applicationProperties: { type: 'Test', group: 'g', severity },
    }));
    await sender.sendMessages(messages);
    await sender.sendMessages(messages);
    const bodiesIn = async (subscription: string): Promise<unknown[]> =>
      (await client.createReceiver('monitoring', subscription).peekMessages(9)).map(({ body }) => body as unknown);
    expect(await bodiesIn('all')).toEqual(['info', 'error', 'warning', 'critical']);
    expect(await bodiesIn('alerts')).toEqual(['error', 'critical']);
    await client.close();
  });

  it('takes commands by session', async () => {
    const client = new ServiceBusClient(stack.environment['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] ?? '');
    const queue = stack.environment['TIDEMARK_COMMAND_QUEUE'] ?? '';
    await client.createSender(queue).sendMessages({ body: 1, sessionId: 'g', messageId: 'c1' });
    const session = await client.acceptNextSession(queue);
    expect(session.sessionId).toBe('g');
    await client.close();
  });

  it('is what a configuration without connection strings means', () => {
    const configuration = parseConfiguration({ TIDEMARK_HOME: stack.home });
    expect(configuration).toMatchObject({
      cache: { connectionString: stack.environment['TIDEMARK_CACHE_CONNECTION_STRING'] },
      replica: { connectionString: stack.environment['TIDEMARK_REPLICA_CONNECTION_STRING'] },
      serviceBus: { connectionString: stack.environment['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] },
      isLocal: true,
      worker: { limitPageBlobRates: false },
    });
  });

  it('keeps a second one out of its home', async () => {
    const second = startStack({ home: stack.home, signal: limit() });
    await expect(second).rejects.toMatchObject({ code: 'LOCAL_ALREADY_RUNNING' });
    expect(readStack(stack.home)?.status).toBe('ready');
  });

  it.each([
    ['blob', 0],
    ['broker', 1],
    ['arm', 2],
  ] as const)('keeps a second one off its port for %s', async (role, index) => {
    const ports = runningPorts();
    // Moved up so far that only the first port of the second one is taken; down, that only its last one is.
    const portBase = index === 0 ? ports.blob - 2 : ports[role];
    const taken = index === 0 ? ports.blob : ports[role];
    const second = startStack({ home: otherHome, portBase, signal: limit() });
    await expect(second).rejects.toMatchObject({
      code: 'LOCAL_PORT_TAKEN',
      message: expect.stringContaining(`port ${taken}`),
      hint: expect.stringContaining('TIDEMARK_PORT_BASE'),
    });
    expect(existsSync(join(otherHome, 'stack.json'))).toBe(false);
  });
});

describe('starting and stopping', () => {
  const start = (fresh = false): Promise<RunningStack> =>
    onFreePorts((portBase) => startStack({ home: otherHome, portBase, fresh, signal: limit() }));
  const alive = (pids: readonly number[]): number[] => pids.filter((pid) => processStart(pid) !== undefined);

  it('stops in order, and starts with empty data when asked', async () => {
    const containerOf = ({ environment }: RunningStack) =>
      BlobServiceClient.fromConnectionString(environment['TIDEMARK_CACHE_CONNECTION_STRING'] ?? '').getContainerClient(
        'kept',
      );
    const first = await start();
    await containerOf(first).create();
    await first.stop();
    expect([alive(first.pids), readStack(otherHome), await first.ended]).toEqual([[], undefined, undefined]);
    const second = await start(true);
    expect(await containerOf(second).exists()).toBe(false);
    await second.stop();
    expect(existsSync(join(otherHome, 'stack.json'))).toBe(false);
  });

  it('leaves nothing behind when it is told to stop while it starts', async () => {
    const reason = new Error('enough');
    const controller = new AbortController();
    let port = 0;
    const starting = onFreePorts((portBase) => {
      port = portBase;
      return startStack({ home: otherHome, portBase, signal: controller.signal });
    });
    const failure = expect(starting).rejects.toBe(reason);
    await vi.waitFor(() => expect(existsSync(join(otherHome, 'broker.log'))).toBe(true), { timeout: 20_000 });
    controller.abort(reason);
    await failure;
    expect(await Promise.all([port, port + 1, port + 2].map(isPortFree))).toEqual([true, true, true]);
    expect(existsSync(join(otherHome, 'stack.json'))).toBe(false);
  });

  it('comes down as a whole when one of its services dies', async () => {
    const running = await start();
    const [azurite, broker] = running.pids;
    if (azurite === undefined || broker === undefined) throw new Error('two processes');
    process.kill(broker, 'SIGKILL');
    expect(await running.ended).toMatchObject({
      code: 'LOCAL_CHILD_EXITED',
      message: expect.stringContaining('broker'),
    });
    expect([alive(running.pids), existsSync(join(otherHome, 'stack.json'))]).toEqual([[], false]);
    await running.stop();
  });

  it('waits for services that still end after their supervisor was killed', async () => {
    const running = await onFreePorts(async (portBase) => {
      const program = `require('net').createServer().listen(${portBase}, '127.0.0.1', () => {
        console.log('up');
        setTimeout(() => process.exit(), 500);
      })`;
      const leftover = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'ignore'] });
      await once(leftover.stdout, 'data');
      const pid = leftover.pid ?? 0;
      writeState(otherHome, {
        version: 1,
        status: 'ready',
        startedAt: new Date().toISOString(),
        ports: { blob: portBase, broker: portBase + 1, arm: portBase + 2 },
        supervisor: { pid: 2 ** 22 + 1, start: '1' },
        services: [{ name: 'azurite', pid, start: processStart(pid) ?? '' }],
      });
      return startStack({ home: otherHome, portBase, signal: limit() });
    });
    expect(alive(running.pids)).toEqual(running.pids);
    await running.stop();
  });

  it.each([
    ['whose process is gone', { pid: 2 ** 22 + 1, start: '1' }],
    ['whose pid is another program now', { pid: process.pid, start: 'before' }],
  ])('is not stopped by a stack.json %s', async (_name, supervisor) => {
    const startedAt = new Date().toISOString();
    const ports = { blob: 1, broker: 2, arm: 3 };
    writeState(otherHome, { version: 1, status: 'ready', startedAt, ports, supervisor, services: [] });
    expect(readStack(otherHome)).toBeUndefined();
    expect(claimHome(otherHome, ports).supervisor.pid).toBe(process.pid);
    expect(() => claimHome(otherHome, ports)).toThrow('runs in');
  });
});
