/** A raw NBD client: writes and reads the protocol's bytes by itself, so that an error in src/nbd cannot hide here. */
import { connect, type Socket } from 'node:net';

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

export interface Request {
  readonly flags?: number;
  readonly command: number;
  readonly cookie?: bigint;
  readonly offset?: bigint | number;
  readonly length?: number;
  readonly payload?: Buffer;
}

export interface Chunk {
  readonly done: boolean;
  readonly type: number;
  readonly cookie: bigint;
  readonly payload: Buffer;
}

export type Reply =
  | { readonly kind: 'simple'; readonly error: number; readonly cookie: bigint }
  | { readonly kind: 'chunk'; readonly chunk: Chunk };

export function uints(...parts: readonly (readonly [width: 2 | 4 | 8, value: number | bigint])[]): Buffer {
  return Buffer.concat(
    parts.map(([width, value]) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(BigInt(value));
      return bytes.subarray(8 - width);
    }),
  );
}

export const text = (value: string): Buffer => {
  const bytes = Buffer.from(value);
  return Buffer.concat([uints([4, bytes.length]), bytes]);
};

export const optionBytes = (option: number, data: Buffer = Buffer.alloc(0), length = data.length): Buffer =>
  Buffer.concat([Buffer.from('IHAVEOPT'), uints([4, option], [4, length]), data]);

export const infoPayload = (name: string, ...requests: readonly number[]): Buffer =>
  Buffer.concat([text(name), uints([2, requests.length], ...requests.map((one) => [2, one] as const))]);

export const metaPayload = (name: string, ...queries: readonly string[]): Buffer =>
  Buffer.concat([text(name), uints([4, queries.length]), ...queries.map(text)]);

export function requestBytes({ flags = 0, command, cookie = 0n, offset = 0, length = 0, payload }: Request): Buffer {
  const header = uints([4, 0x25609513], [2, flags], [2, command], [8, cookie], [8, offset], [4, length]);
  return payload === undefined ? header : Buffer.concat([header, payload]);
}

/** One connection. Every wait for bytes fails when the server ends the stream first. */
export class NbdClient {
  readonly socket: Socket;
  #buffered: Buffer[] = [];
  #bufferedBytes = 0;
  #ended = false;
  #wake = (): void => undefined;

  constructor(port: number, host = '127.0.0.1') {
    this.socket = connect({ port, host });
    this.socket.on('data', (bytes: Buffer) => {
      this.#buffered.push(bytes);
      this.#bufferedBytes += bytes.length;
      this.#wake();
    });
    const onEnd = (): void => {
      this.#ended = true;
      this.#wake();
    };
    this.socket.on('end', onEnd).on('close', onEnd);
    this.socket.on('error', () => undefined);
  }

  send(...parts: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  async take(length: number): Promise<Buffer> {
    while (this.#bufferedBytes < length) {
      if (this.#ended) throw new Error(`the server ended the stream ${length - this.#bufferedBytes} bytes early`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const taken: Buffer[] = [];
    for (let missing = length; missing > 0;) {
      const head = this.#buffered[0] ?? Buffer.alloc(0);
      taken.push(head.subarray(0, missing));
      if (head.length > missing) this.#buffered[0] = head.subarray(missing);
      else this.#buffered.shift();
      missing -= Math.min(head.length, missing);
    }
    this.#bufferedBytes -= length;
    return taken.length === 1 ? (taken[0] ?? Buffer.alloc(0)) : Buffer.concat(taken);
  }

  /** Everything until the server ends the stream. */
  async rest(): Promise<Buffer> {
    while (!this.#ended) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.take(this.#bufferedBytes);
  }

  /** Greeting and flags. */
  async greet(flags = 3): Promise<Buffer> {
    const greeting = await this.take(18);
    this.send(uints([4, flags]));
    return greeting;
  }

  async optionReply(): Promise<OptionReply> {
    const header = await this.take(20);
    if (header.readBigUInt64BE(0) !== 0x3e889045565a9n) throw new Error('no option reply');
    const data = await this.take(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  /** Sends an option, and reads replies up to the acknowledgement or an error. */
  async negotiate(option: number, data?: Buffer): Promise<OptionReply[]> {
    this.send(optionBytes(option, data));
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.optionReply();
      replies.push(reply);
      if (reply.type === 1 || reply.type >= 2 ** 31) return replies;
    }
  }

  /** The whole handshake; returns size and flags of the export. */
  async open({ name = '', structured = true, allocation = true } = {}): Promise<{ size: bigint; flags: number }> {
    await this.greet();
    if (structured) await this.negotiate(8);
    if (structured && allocation) await this.negotiate(10, metaPayload(name, 'base:allocation'));
    const replies = await this.negotiate(7, infoPayload(name));
    const info = replies.find(({ type, data }) => type === 3 && data.readUInt16BE(0) === 0);
    if (info === undefined) throw new Error(`no export: ${replies.map(({ type }) => type).join(', ')}`);
    return { size: info.data.readBigUInt64BE(2), flags: info.data.readUInt16BE(10) };
  }

  async reply(): Promise<Reply> {
    const magic = (await this.take(4)).readUInt32BE(0);
    if (magic === 0x67446698) {
      const rest = await this.take(12);
      return { kind: 'simple', error: rest.readUInt32BE(0), cookie: rest.readBigUInt64BE(4) };
    }
    if (magic !== 0x668e33ef) throw new Error(`no reply: ${magic.toString(16)}`);
    const header = await this.take(16);
    const payload = await this.take(header.readUInt32BE(12));
    const chunk = { done: (header.readUInt16BE(0) & 1) !== 0, type: header.readUInt16BE(2), payload };
    return { kind: 'chunk', chunk: { ...chunk, cookie: header.readBigUInt64BE(4) } };
  }

  /** Sends a request and reads its one simple reply: its error number. */
  async simple(request: Request): Promise<number> {
    this.send(requestBytes(request));
    const reply = await this.reply();
    if (reply.kind !== 'simple') throw new Error('the reply has structure');
    return reply.error;
  }

  /** Sends a request and reads all chunks of its reply. */
  async chunks(request: Request): Promise<Chunk[]> {
    this.send(requestBytes(request));
    const chunks: Chunk[] = [];
    for (;;) {
      const reply = await this.reply();
      if (reply.kind !== 'chunk') throw new Error('the reply has no structure');
      chunks.push(reply.chunk);
      if (reply.chunk.done) return chunks;
    }
  }

  /** Reads with a structured reply and puts the pieces together; throws the error number as a message. */
  async read(offset: number, length: number, flags = 0): Promise<Buffer> {
    const chunks = await this.chunks({ command: 0, offset, length, flags });
    const bytes = Buffer.alloc(length, 0xee);
    let covered = 0;
    for (const { type, payload } of chunks) {
      if (type >= 2 ** 15) throw new Error(`error ${payload.readUInt32BE(0)}`);
      const at = Number(payload.readBigUInt64BE(0)) - offset;
      if (type === 2) bytes.fill(0, at, at + payload.readUInt32BE(8));
      else payload.copy(bytes, at, 8);
      covered += type === 2 ? payload.readUInt32BE(8) : payload.length - 8;
    }
    if (covered !== length) throw new Error(`the chunks cover ${covered} of ${length} bytes`);
    return bytes;
  }

  /** Extents of `base:allocation` as [length, flags]. */
  async status(offset: number, length: number, flags = 0): Promise<(readonly [number, number])[]> {
    const [chunk] = await this.chunks({ command: 7, offset, length, flags });
    if (chunk === undefined || chunk.type !== 5) throw new Error(`no status: ${chunk?.payload.readUInt32BE(0)}`);
    const extents: (readonly [number, number])[] = [];
    for (let at = 4; at < chunk.payload.length; at += 8) {
      extents.push([chunk.payload.readUInt32BE(at), chunk.payload.readUInt32BE(at + 4)]);
    }
    return extents;
  }

  /** Ends the connection and waits until it has ended on both sides. */
  async close(): Promise<void> {
    if (this.socket.closed) return;
    const closed = new Promise<void>((resolve) => this.socket.once('close', () => resolve()));
    this.socket.destroy();
    await closed;
  }
}
