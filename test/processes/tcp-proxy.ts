/** A TCP proxy on the loopback that cuts, delays and truncates, as its random source says. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

export interface Chances {
  /** Of each piece of a stream, 0–1. */
  readonly cut: number;
  readonly truncate: number;
  readonly delay: number;
}

/** The longest delay of a piece. */
const MAX_DELAY_MS = 120;

export class TcpProxy {
  /** Pieces passed on, both ways, over all connections. */
  pieces = 0;
  readonly faults = { cut: 0, truncate: 0, delay: 0 };
  /** Undefined: everything passes. */
  chances: Chances | undefined;
  readonly #random: () => number;
  readonly #targetPort: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #waiting = new Set<{ readonly atPieces: number; readonly resolve: () => void }>();

  private constructor(targetPort: number, random: () => number) {
    this.#targetPort = targetPort;
    this.#random = random;
    this.#server = createServer((client) => this.#serve(client));
  }

  /** `random`: from 0 up to 1. */
  static async start(targetPort: number, random: () => number): Promise<TcpProxy> {
    const proxy = new TcpProxy(targetPort, random);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Resolves when so many more pieces have passed. */
  traffic(pieces: number): Promise<void> {
    return new Promise((resolve) => this.#waiting.add({ atPieces: this.pieces + pieces, resolve }));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #serve(client: Socket): void {
    const target = connect({ host: '127.0.0.1', port: this.#targetPort });
    const both = [client, target];
    const endBoth = (): void => both.forEach((socket) => socket.destroy());
    for (const socket of both) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', endBoth);
    }
    void this.#pass(client, target).finally(endBoth);
    void this.#pass(target, client).finally(endBoth);
  }

  /** Passes on until either end is gone. */
  async #pass(from: Socket, to: Socket): Promise<void> {
    try {
      for await (const piece of from as AsyncIterable<Buffer>) {
        const fault = this.#fault();
        if (fault !== undefined) this.faults[fault]++;
        if (fault === 'cut') return;
        if (fault === 'truncate') {
          to.end(piece.subarray(0, piece.length >> 1));
          await once(to, 'close');
          return;
        }
        if (fault === 'delay') await pause(this.#random() * MAX_DELAY_MS);
        if (!to.write(piece)) await once(to, 'drain');
        this.#count();
      }
    } catch {
      // One end broke off; both are ended.
    }
  }

  #fault(): keyof Chances | undefined {
    if (this.chances === undefined) return undefined;
    let left = this.#random();
    for (const name of ['cut', 'truncate', 'delay'] as const) {
      left -= this.chances[name];
      if (left < 0) return name;
    }
    return undefined;
  }

  #count(): void {
    this.pieces++;
    for (const one of this.#waiting) {
      if (this.pieces < one.atPieces) continue;
      this.#waiting.delete(one);
      one.resolve();
    }
  }
}
