/** An NBD server for one export on a TCP port. No encryption and no passwords: whoever reaches the port has the disk. */
import { createServer, type Server, type Socket } from 'node:net';
import { TidemarkError } from '../errors.ts';
import { type ByteBudget, createByteBudget } from './byte-budget.ts';
import { openChannel } from './channel.ts';
import type { NbdExport } from './export.ts';
import { shakeHands } from './handshake.ts';
import { MAX_PAYLOAD_BYTES } from './protocol.ts';
import { serveRequests } from './transmission.ts';

/** All our choice. */
export const NBD_LIMITS = {
  /** Parallel clients such as nbdcopy open four each. */
  connections: 32,
  /** Per connection. The kernel's client sends up to 128, and waits as well in its own queue. */
  requestsInFlight: 16,
  /** Data of reads and writes of all connections; at least one request of the largest size. */
  bytesInFlight: 4 * MAX_PAYLOAD_BYTES,
  /** From the connection to the choice of the export. */
  handshakeTimeoutMs: 10_000,
  /** For the data of one write: 0.5 MiB/s at the largest size. */
  payloadTimeoutMs: 60_000,
  /** Without a byte of a reply taken. A client that wants nothing may stay for ever. */
  stallMs: 60_000,
} as const;
export type NbdLimits = { readonly [K in keyof typeof NBD_LIMITS]: number };

export interface NbdServerOptions {
  /** What clients name; the empty name means it too. */
  readonly exportName: string;
  readonly disk: NbdExport;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly limits?: Partial<NbdLimits>;
  /** Told every error that the disk threw; the client gets an error number, and goes on. */
  readonly onFailure?: (error: unknown) => void;
}

export interface NbdServer {
  readonly port: number;
  /** Clients at this moment. */
  readonly connections: number;
  /** Memory that requests hold at this moment. */
  readonly bytesInFlight: number;
  /** Ends all connections and the work for them; nothing is left behind. */
  close(): Promise<void>;
}

/** @throws TidemarkError SERVE_PORT_TAKEN */
export async function startNbdServer(options: NbdServerOptions): Promise<NbdServer> {
  const limits: NbdLimits = { ...NBD_LIMITS, ...options.limits };
  const budget = createByteBudget(Math.max(limits.bytesInFlight, MAX_PAYLOAD_BYTES));
  const closing = new AbortController();
  const clients = new Map<Socket, Promise<void>>();
  // Half open: a client may send its last requests, close its side, and still read the answers.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const client = serveClient(socket, { ...options, limits, budget, closing: closing.signal });
    clients.set(
      socket,
      client.finally(() => clients.delete(socket)),
    );
  });
  server.maxConnections = limits.connections;
  const port = await listen(server, options);
  return {
    port,
    get connections() {
      return clients.size;
    },
    get bytesInFlight() {
      return budget.takenBytes;
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      closing.abort(new TidemarkError('INTERRUPTED', 'the disk is no longer served'));
      for (const socket of clients.keys()) socket.destroy();
      await Promise.all(clients.values());
      await closed;
    },
  };
}

async function listen(server: Server, { host, port }: NbdServerOptions): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  }).catch((error: unknown) => {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const reason = code === 'EADDRINUSE' ? 'another program listens there' : String(code);
    throw new TidemarkError('SERVE_PORT_TAKEN', `cannot listen on ${host} port ${port}: ${reason}`, { cause: error });
  });
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : port;
}

interface ClientOptions extends NbdServerOptions {
  readonly limits: NbdLimits;
  readonly budget: ByteBudget;
  readonly closing: AbortSignal;
}

async function serveClient(socket: Socket, options: ClientOptions): Promise<void> {
  const { disk, exportName, limits, budget, closing } = options;
  const channel = openChannel(socket, limits.stallMs);
  const signal = AbortSignal.any([closing, channel.gone]);
  const late = setTimeout(() => channel.destroy(), limits.handshakeTimeoutMs);
  try {
    const served = { name: exportName, sizeBytes: disk.sizeBytes, writable: disk.write !== undefined };
    const agreement = await shakeHands(channel, served);
    clearTimeout(late);
    if (agreement === undefined) return;
    const onFailure = options.onFailure ?? (() => undefined);
    const { requestsInFlight, payloadTimeoutMs } = limits;
    await serveRequests({
      channel,
      disk,
      agreement,
      budget,
      requestsInFlight,
      payloadTimeoutMs,
      onFailure,
      signal,
    });
  } catch (error) {
    // Waiting for memory ends that way when the connection does.
    if (!signal.aborted) options.onFailure?.(error);
  } finally {
    clearTimeout(late);
    await channel.end();
  }
}
