/** A socket for HTTP: its address, its limits, its end. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { TidemarkError } from '../errors.ts';

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
/** What requests that are under way, and what is behind them, are given to end. */
const END_LIMIT_MS = 4000;

/** `bindings` of the socket, if there is one. */
export type Fetch = (request: Request, bindings?: object) => Response | Promise<Response>;

export interface HttpOptions {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly fetch: Fetch;
}

export interface HttpService {
  /** `http://127.0.0.1:10103`. */
  readonly url: string;
  /** New connections are refused at once; those that are open end when `settled` has, or are ended after some seconds. */
  close(settled: () => Promise<unknown>): Promise<void>;
}

/** @throws TidemarkError API_PORT_TAKEN */
export async function serveHttp({ host, port, fetch }: HttpOptions): Promise<HttpService> {
  const server = createAdaptorServer({
    fetch: (request, bindings) => fetch(request, bindings),
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
  const { port: taken } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}`,
    close: (settled) => close(server, settled),
  };
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

async function close(server: Server, settled: () => Promise<unknown>): Promise<void> {
  const closed = new Promise<void>((done) => server.close(() => done()));
  server.closeIdleConnections();
  await within(END_LIMIT_MS, Promise.all([closed, settled()]));
  server.closeAllConnections();
  await within(END_LIMIT_MS, closed);
}

/** Waits for `work`, but no longer than so many milliseconds. Never throws. */
export async function within(milliseconds: number, work: Promise<unknown>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race([work.catch(() => undefined), late]);
  clearTimeout(timer);
}
