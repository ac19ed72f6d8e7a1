/** Links on which the peer sends to the broker: messages for entities, requests for `$cbs` and `$management`. */
import type { Connection, Delivery, Message, Receiver, Sender } from 'rhea';
import { checkToken } from './cbs.ts';
import type { Directory } from './directory.ts';
import type { Entity } from './entity.ts';
import { amqpErrorOf, Fault, notAllowed } from './fault.ts';
import { manage } from './management.ts';
import { Queue } from './queue.ts';
import { setAttach } from './rhea-internals.ts';
import type { Timers } from './timers.ts';
import { bodyBytes, decodeBatch, int, symbol } from './wire.ts';

/** The real service's limit in its standard tier. */
export const MAX_MESSAGE_BYTES = 256 * 1024;

const MANAGEMENT = '/$management';

/**
 * What a test makes of a message that was sent to an entity: nothing, an AMQP error to refuse it with, `drop` (lose it and never
 * answer), or `lost-ack` (keep it and never answer).
 */
export type SendFault = 'drop' | 'lost-ack' | { readonly condition: string; readonly description: string };
export type SendHook = (path: string, message: Message) => SendFault | undefined | Promise<SendFault | undefined>;

type Node =
  | { readonly kind: 'cbs' }
  | { readonly kind: 'management'; readonly entity: Entity }
  | { readonly kind: 'entity'; readonly entity: Entity };

export interface IncomingOptions {
  readonly directory: Directory;
  readonly timers: Timers;
  readonly sasKey: string | undefined;
  /** Where answers to requests go, by the peer's address for them. */
  readonly replyLink: (connection: Connection, address: string | undefined) => Sender | undefined;
  readonly hook: () => SendHook | undefined;
  /** Counts a message that was taken. */
  readonly onReceived: () => void;
}

export class IncomingLinks {
  readonly #nodes = new WeakMap<Receiver, Node>();
  readonly #options: IncomingOptions;

  constructor(options: IncomingOptions) {
    this.#options = options;
  }

  attach(receiver: Receiver): void {
    const address = receiver.target?.address ?? '';
    receiver.set_target({ address });
    setAttach(receiver, { max_message_size: MAX_MESSAGE_BYTES });
    try {
      this.#nodes.set(receiver, this.#resolve(address));
    } catch (error) {
      setAttach(receiver, { target: undefined });
      receiver.close(amqpErrorOf(error));
    }
  }

  /** Takes a message, a batch of them (then `message` is its bytes) or a request. */
  async message(receiver: Receiver, delivery: Delivery, message: Message | Buffer): Promise<void> {
    const node = this.#nodes.get(receiver);
    if (node === undefined)
      return delivery.reject({ condition: 'amqp:internal-error', description: 'link has no node' });
    if (node.kind !== 'entity') {
      delivery.accept();
      if (!Buffer.isBuffer(message)) this.#answer(receiver.connection, node, message);
      return;
    }
    try {
      const messages = Buffer.isBuffer(message) ? decodeBatch(message) : [message];
      const answers = await this.#takeAll(node.entity, messages);
      if (answers) delivery.accept();
    } catch (error) {
      delivery.reject(amqpErrorOf(error));
    }
  }

  #resolve(address: string): Node {
    const { directory } = this.#options;
    if (address === '$cbs') return { kind: 'cbs' };
    if (address.endsWith(MANAGEMENT)) {
      return { kind: 'management', entity: directory.entity(address.slice(0, -MANAGEMENT.length)) };
    }
    const entity = directory.entity(address);
    if (entity instanceof Queue && entity.isDeadLetter) throw notAllowed('Cannot send to a dead-letter queue.');
    return { kind: 'entity', entity };
  }

  /** All or none of a batch, unless the test hook interferes. @returns whether the sender gets an answer. */
  async #takeAll(entity: Entity, messages: readonly Message[]): Promise<boolean> {
    for (const message of messages) {
      if (bodyBytes(message) > MAX_MESSAGE_BYTES) {
        throw new Fault(
          'amqp:link:message-size-exceeded',
          `The message exceeds the limit of ${MAX_MESSAGE_BYTES} bytes.`,
        );
      }
      entity.requireAcceptable(message);
    }
    const hook = this.#options.hook();
    let answers = true;
    for (const message of messages) {
      const fault = await hook?.(entity.path, message);
      if (fault === 'drop') return false;
      if (fault === 'lost-ack') answers = false;
      else if (fault !== undefined) throw new Fault(fault.condition, fault.description);
      entity.send(message);
      this.#options.onReceived();
    }
    return answers;
  }

  #answer(connection: Connection, node: Exclude<Node, { kind: 'entity' }>, request: Message): void {
    const reply = this.#options.replyLink(connection, request.reply_to);
    if (reply === undefined) return;
    let status = 200;
    let description = 'OK';
    let condition: string | undefined;
    let body: unknown;
    try {
      if (node.kind === 'cbs') checkToken(request, this.#options.sasKey, this.#options.timers.now());
      else {
        body = manage(node.entity, request);
        if (body === undefined) status = 204;
      }
    } catch (error) {
      status = error instanceof Fault ? error.status : 500;
      ({ condition, description } = amqpErrorOf(error));
    }
    // The two nodes spell their answers differently.
    const names =
      node.kind === 'cbs'
        ? (['status-code', 'status-description', 'error-condition'] as const)
        : (['statusCode', 'statusDescription', 'errorCondition'] as const);
    reply.send({
      ...(request.message_id !== undefined && { correlation_id: request.message_id }),
      body,
      application_properties: {
        [names[0]]: int(status),
        [names[1]]: description,
        ...(condition !== undefined && { [names[2]]: symbol(condition) }),
      },
    });
  }
}
