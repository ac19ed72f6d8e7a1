import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface SeenRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
}

/**
 * - `pass`: forwarded, answered.
 * - `lose-request`: the connection breaks before the server sees it.
 * - `lose-answer`: the server does it, then the connection breaks.
 * - `hang`: never answered.
 * - `hang-body`, `break-body`: half of the answer's body, then nothing, or the end of the connection.
 * - `answer`: an answer that the proxy makes up.
 */
export type Fault =
  | 'pass'
  | 'lose-request'
  | 'lose-answer'
  | 'hang'
  | 'hang-body'
  | 'break-body'
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string };

/** Decides each request's fate; may do something first, such as write as another owner. `after`: the server has done it. */
export type Rule = (seen: SeenRequest) => Fault | Promise<Fault>;

/** An HTTP proxy in front of Azurite that breaks what the test says. */
export class FaultyProxy {
  readonly seen: SeenRequest[] = [];
  /** What is done after the server has answered and before the client learns of it. */
  beforeAnswer: (seen: SeenRequest, headers: Record<string, string | string[]>) => void | Promise<void> = () => {};
  /** Called when a request hangs, or half of a hanging body has been sent. */
  onHang: () => void = () => {};
  connections = 0;
  rule: Rule = () => 'pass';
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #targetPort: number;

  private constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = createServer((incoming, outgoing) => {
      this.#serve(incoming, outgoing).catch(() => incoming.socket.destroy());
    });
    // Longer than any test, so that it is the client who ends a connection.
    this.#server.keepAliveTimeout = 600_000;
    this.#server.on('connection', (socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => {});
    });
  }

  static async start(targetPort: number): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(targetPort);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  /** Waits for the next connection to end. */
  async connectionEnd(): Promise<void> {
    const [socket] = this.#sockets;
    if (socket !== undefined) await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  }

  /** `faults` for the first requests that match, one each; then, and for all others, `pass`. */
  inject(matches: (seen: SeenRequest) => boolean, ...faults: Fault[]): void {
    this.rule = (seen) => (matches(seen) ? (faults.shift() ?? 'pass') : 'pass');
  }

  reset(): void {
    this.rule = () => 'pass';
    this.beforeAnswer = () => {};
    this.onHang = () => {};
    this.seen.length = 0;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const seen = { method: incoming.method ?? '', url: incoming.url ?? '', headers: incoming.headers };
    this.seen.push(seen);
    const body = await collect(incoming);
    const fault = await this.rule(seen);
    if (fault === 'hang') {
      this.onHang();
      return;
    }
    if (fault === 'lose-request') {
      incoming.socket.destroy();
      return;
    }
    if (typeof fault === 'object') {
      outgoing.writeHead(fault.status, { 'content-length': Buffer.byteLength(fault.body ?? ''), ...fault.headers });
      outgoing.end(fault.body);
      return;
    }
    const answer = await this.#forward(incoming, body);
    await this.beforeAnswer(seen, answer.headers);
    if (fault === 'lose-answer') {
      incoming.socket.destroy();
      return;
    }
    outgoing.writeHead(answer.status, answer.headers);
    if (fault === 'pass') {
      outgoing.end(answer.body);
      return;
    }
    outgoing.write(answer.body.subarray(0, answer.body.length / 2), () => {
      if (fault === 'break-body') incoming.socket.destroy();
      else this.onHang();
    });
  }

  async #forward(
    incoming: IncomingMessage,
    body: Buffer,
  ): Promise<{ status: number; headers: Record<string, string | string[]>; body: Buffer }> {
    const { method, url: path, headers } = incoming;
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = request({ host: '127.0.0.1', port: this.#targetPort, method, path, headers }, resolve);
      outgoing.on('error', reject);
      outgoing.end(body);
    });
    const kept = Object.entries(answer.headers).filter(
      ([name, value]) => value !== undefined && name !== 'transfer-encoding' && name !== 'connection',
    ) as [string, string | string[]][];
    return { status: answer.statusCode ?? 0, headers: Object.fromEntries(kept), body: await collect(answer) };
  }
}

async function collect(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
