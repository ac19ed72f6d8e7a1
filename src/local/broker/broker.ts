/**
 * A Service Bus-compatible broker for development and tests: AMQP 1.0, in memory, for the real @azure/service-bus SDK with
 * `UseDevelopmentEmulator=true`. It reads the Config.json of Microsoft's emulator.
 *
 * Not there, and refused with `amqp:not-implemented` or when the config is read: rule manager, rule actions, transactions,
 * WebSockets, the admin API.
 */
import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';
import rhea, { type Container, type EventContext } from 'rhea';
import { assert } from '../../errors.ts';
import { brokerConnectionString } from '../stack-config.ts';
import { type BrokerConfig, parseBrokerConfig } from './config.ts';
import { Directory } from './directory.ts';
import { IncomingLinks, MAX_MESSAGE_BYTES, type SendHook } from './incoming-links.ts';
import { OutgoingLinks, type Outcome } from './outgoing-links.ts';
import { socketOf, tuneConnection } from './rhea-internals.ts';
import { systemTimers } from './timers.ts';

/** How often expired messages are removed. */
const SWEEP_MS = 1000;
/** Deliveries in flight per session, each way. */
const SESSION_BUFFER = 16_384;
/** Messages a sender may have under way before it waits for answers. */
const CREDIT_WINDOW = 1000;

export interface BrokerOptions {
  /** Checks the signature of shared access tokens with this key; without it every token is taken. */
  readonly sasKey?: string;
}

export interface TlsOptions {
  readonly key: string | Buffer;
  readonly cert: string | Buffer;
}

export class Broker {
  /** Test hook, awaited for each message that is sent to an entity. */
  onSend: SendHook | undefined;
  readonly #stats = { received: 0, connections: 0 };
  readonly #directory: Directory;
  readonly #outgoing: OutgoingLinks;
  readonly #incoming: IncomingLinks;
  readonly #container: Container;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #sweeper: NodeJS.Timeout | undefined;

  /** @throws TidemarkError BROKER_CONFIG_INVALID */
  constructor(config: BrokerConfig, options: BrokerOptions = {}) {
    this.#directory = new Directory(parseBrokerConfig(config), systemTimers);
    this.#outgoing = new OutgoingLinks(this.#directory, systemTimers);
    this.#incoming = new IncomingLinks({
      directory: this.#directory,
      timers: systemTimers,
      sasKey: options.sasKey,
      replyLink: (connection, address) => this.#outgoing.replyLink(connection, address),
      hook: () => this.onSend,
      onReceived: () => this.#stats.received++,
    });
    this.#container = this.#createContainer();
  }

  /** Messages taken and connections opened since the start. */
  get stats(): Readonly<{ received: number; connections: number }> {
    return { ...this.#stats };
  }

  /** The port it listens on. */
  get port(): number {
    const address = this.#server?.address();
    assert(typeof address === 'object' && address !== null, 'the broker does not listen');
    return (address satisfies AddressInfo).port;
  }

  get connectionString(): string {
    return brokerConnectionString(this.port);
  }

  /**
   * Starts to listen; port 0 takes any free one. Rejects with the socket's error, such as EADDRINUSE.
   * With `tls`, clients speak AMQP over TLS, as with a TokenCredential.
   */
  async listen(port: number, host = '127.0.0.1', tls?: TlsOptions): Promise<this> {
    assert(this.#server === undefined, 'the broker listens already');
    const common = { port, host, session_buffer_size: SESSION_BUFFER };
    const server =
      tls === undefined
        ? this.#container.listen(common)
        : this.#container.listen({ ...common, ...tls, transport: 'tls' });
    this.#server = server;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    await once(server, 'listening');
    this.#sweeper = setInterval(() => this.#directory.sweep(), SWEEP_MS);
    this.#sweeper.unref();
    return this;
  }

  /** Cuts every connection, without a word of AMQP. */
  dropConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    clearInterval(this.#sweeper);
    if (server === undefined) return;
    this.dropConnections();
    server.close();
    await once(server, 'close');
  }

  #createContainer(): Container {
    const container = rhea.create_container({
      id: 'tidemark-local-broker',
      tcp_no_delay: true,
      sender_options: { treat_modified_as_released: false, max_message_size: MAX_MESSAGE_BYTES },
      receiver_options: { autoaccept: false, credit_window: CREDIT_WINDOW, max_message_size: MAX_MESSAGE_BYTES },
    });
    const mechanisms = container.sasl_server_mechanisms as {
      enable_anonymous(): void;
      enable_plain(check: () => boolean): void;
      MSSBCBS: unknown;
    };
    // Who connects is anybody; who may use an entity is decided by the token that is put to $cbs.
    mechanisms.enable_anonymous();
    mechanisms.enable_plain(() => true);
    mechanisms.MSSBCBS = () => ({
      start(this: { outcome: boolean; username: string }) {
        this.outcome = true;
        this.username = 'cbs';
      },
    });
    this.#wire(container);
    return container;
  }

  #wire(container: Container): void {
    const on = (event: string, handler: (context: EventContext) => void): void => {
      container.on(event, handler);
    };
    on('connection_open', ({ connection }) => {
      this.#stats.connections++;
      tuneConnection(connection);
      socketOf(connection).on('close', () => this.#outgoing.detachAll(connection));
    });
    on('receiver_open', ({ receiver }) => receiver && this.#incoming.attach(receiver));
    on('sender_open', ({ sender }) => sender && this.#outgoing.attach(sender));
    on('message', ({ receiver, delivery, message }) => {
      if (receiver === undefined || delivery === undefined || message === undefined) return;
      void this.#incoming.message(receiver, delivery, message);
    });
    for (const event of ['sender_flow', 'sendable']) on(event, ({ sender }) => sender && this.#outgoing.flow(sender));
    on('sender_draining', ({ sender }) => {
      if (sender === undefined) return;
      this.#outgoing.flow(sender);
      sender.set_drained(true);
    });
    for (const outcome of ['accepted', 'rejected', 'released', 'modified'] satisfies Outcome[]) {
      on(outcome, ({ sender, delivery }) => {
        if (sender !== undefined && delivery !== undefined) this.#outgoing.settle(sender, delivery, outcome);
      });
    }
    on('sender_close', ({ sender }) => sender && this.#outgoing.detach(sender));
    on('session_close', ({ session }) => {
      session?.each_sender(
        (sender: Parameters<OutgoingLinks['detach']>[0]) => this.#outgoing.detach(sender),
        () => true,
      );
    });
    for (const event of ['connection_close', 'disconnected']) {
      on(event, ({ connection }) => this.#outgoing.detachAll(connection));
    }
    // A peer's error ends its own link or connection; without a listener rhea would throw it at us.
    for (const endpoint of ['', 'connection_', 'session_', 'sender_', 'receiver_', 'protocol_']) {
      on(`${endpoint}error`, () => undefined);
    }
  }
}
