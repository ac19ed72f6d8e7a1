/** The HTTP door's socket: its address, its limits, its end. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { listGroups } from '../catalog/groups.ts';
import { createJobRunner } from '../commands/job-runner.ts';
import { hasEnded } from '../commands/job-view.ts';
import { TidemarkError } from '../errors.ts';
import { withRetries } from '../retry.ts';
import { createApi } from './app.ts';
import type { ApiOptions } from './context.ts';
import { DOOR, executeBehind } from './handlers.ts';

/** Of sockets and what comes through them. A request that is sent slowly is cut off, however it is slow. */
export const HTTP_LIMITS = {
  connections: 256,
  headerBytes: 16_384,
  headersMs: 5000,
  requestMs: 10_000,
  keepAliveMs: 5000,
  checkMs: 1000,
  requestsPerSocket: 1000,
} as const;
/** What requests that are under way, and jobs in hand, are given to end. */
const END_LIMIT_MS = 4000;

/** About two minutes of patience with storage when a server starts. */
const TAKE_UP_RETRY = { attempts: 8, firstDelayMs: 1000, maxDelayMs: 30_000 } as const;

export interface ServerOptions extends Omit<ApiOptions, 'runner'> {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Listen where others reach it, though tokens are sent in the clear. */
  readonly isInsecureAllowed: boolean;
  /** In [0, 1). */
  readonly random: () => number;
}

export interface RunningApi {
  /** `http://127.0.0.1:10103`. */
  readonly url: string;
  /** Resolves when it has ended, after the signal has aborted: within about ten seconds. */
  readonly ended: Promise<void>;
}

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/.test(host);

/** Listens, and takes up jobs of this door that are not over. @throws TidemarkError API_HOST_INSECURE, API_PORT_TAKEN */
export async function startApi(options: ServerOptions): Promise<RunningApi> {
  const { host, port, commands, ports, random, signal, report } = options;
  if (!isLoopback(host) && !options.isInsecureAllowed) {
    throw new TidemarkError(
      'API_HOST_INSECURE',
      `${host} is no loopback address, and tokens would go there in the clear`,
    );
  }
  const stop = new AbortController(); // of jobs and requests, a moment after the socket is closed
  const sleep = (ms: number, until: AbortSignal): Promise<void> => ports.clock.sleep(ms, until);
  const runner = createJobRunner({ commands, sleep, random, signal: stop.signal });
  const api = createApi({ ...options, runner, signal: stop.signal });
  const server = createAdaptorServer({
    fetch: (request, env) => api.fetch(request, env),
    serverOptions: {
      maxHeaderSize: HTTP_LIMITS.headerBytes,
      headersTimeout: HTTP_LIMITS.headersMs,
      requestTimeout: HTTP_LIMITS.requestMs,
      keepAliveTimeout: HTTP_LIMITS.keepAliveMs,
      connectionsCheckingInterval: HTTP_LIMITS.checkMs,
    },
  }) as Server;
  server.maxConnections = HTTP_LIMITS.connections;
  server.maxRequestsPerSocket = HTTP_LIMITS.requestsPerSocket;
  await listenOn(server, host, port);
  const policy = { ...TAKE_UP_RETRY, sleep, random };
  const taking = withRetries(policy, stop.signal, () => takeUp({ ...options, runner, signal: stop.signal })).catch(
    (error: unknown) => {
      if (!stop.signal.aborted) report(error);
    },
  );
  const { port: taken } = server.address() as AddressInfo;
  const ended = end(server, { signal, stop, settled: () => Promise.all([taking, runner.idle()]) });
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}`, ended };
}

async function listenOn(server: Server, host: string, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, host, resolve);
  try {
    await promise;
  } catch (cause) {
    const { code = 'error' } = cause as NodeJS.ErrnoException;
    throw new TidemarkError('API_PORT_TAKEN', `cannot listen on ${host}:${port}: ${code}`, { cause });
  } finally {
    server.off('error', reject);
  }
}

/** Jobs that came by this door before, and that nobody has ended: one group after the other, no faster than they are executed. */
async function takeUp(options: ApiOptions): Promise<void> {
  const { ports, commands, runner, signal } = options;
  for (const group of await listGroups(ports.catalog, signal)) {
    const jobs = await commands.jobs(group, signal);
    for (const job of jobs.toReversed()) {
      if (hasEnded(job) || !job.requestedBy.endsWith(DOOR)) continue;
      await runner.untilRoom();
      signal.throwIfAborted();
      executeBehind(options, job);
    }
  }
}

interface Ending {
  readonly signal: AbortSignal;
  readonly stop: AbortController;
  readonly settled: () => Promise<unknown>;
}

/** New requests are refused at once; those under way have their time, then everything stops where it is. */
async function end(server: Server, { signal, stop, settled }: Ending): Promise<void> {
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => resolve(), { once: true });
  await asked;
  const closed = new Promise<void>((done) => server.close(() => done()));
  server.closeIdleConnections();
  stop.abort(new TidemarkError('INTERRUPTED', 'the server ends'));
  await within(END_LIMIT_MS, Promise.all([closed, settled()]));
  server.closeAllConnections();
  await within(END_LIMIT_MS, closed);
}

async function within(milliseconds: number, work: Promise<unknown>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race([work.catch(() => undefined), late]);
  clearTimeout(timer);
}
