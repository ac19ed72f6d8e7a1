/** A real broker with the entities of `infra/service-bus/Config.json`, and somebody who sends commands and reads what comes back. */
import { readFileSync } from 'node:fs';
import {
  ServiceBusClient,
  type ServiceBusMessage,
  type ServiceBusReceivedMessage,
  type ServiceBusReceiverOptions,
} from '@azure/service-bus';
import { ServiceBusCommandQueue } from '../../src/azure/service-bus-commands.ts';
import { serviceBusClient } from '../../src/azure/service-bus-calls.ts';
import { createJobRunner } from '../../src/commands/job-runner.ts';
import type { CommandService } from '../../src/commands/commands.ts';
import { listen, type ListenerOptions } from '../../src/distribution/listener.ts';
import { replySchema, type Reply } from '../../src/commands/messages.ts';
import { Broker } from '../../src/local/broker/broker.ts';
import type { BrokerConfig } from '../../src/local/broker/config.ts';
import { BROKER_SAS_KEY } from '../../src/local/stack-config.ts';
import { systemClock } from '../../src/system-clock.ts';
import type { Clock } from '../../src/worker/ports.ts';
import { GROUP } from '../worker/discard-support.ts';

export const CONFIG_FILE = new URL('../../infra/service-bus/Config.json', import.meta.url);

export async function startBroker(lockDuration?: string): Promise<Broker> {
  const text = readFileSync(CONFIG_FILE, 'utf8');
  const changed = lockDuration === undefined ? text : text.replaceAll('"PT1M"', JSON.stringify(lockDuration));
  return new Broker(JSON.parse(changed) as BrokerConfig, { sasKey: BROKER_SAS_KEY }).listen(0);
}

/** Time passes at once, but the sockets have their turn. */
export const hastyClock: Clock = {
  ...systemClock,
  sleep: async (_ms, signal) => {
    signal.throwIfAborted();
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  },
};

export interface Listener {
  readonly reported: unknown[];
  readonly options: ListenerOptions;
  /** Ends it, as SIGTERM does. */
  stop(): Promise<void>;
}

export function listenerOptions(
  connectionString: string,
  commands: CommandService,
  { clock = systemClock, signal }: { readonly clock?: Clock; readonly signal: AbortSignal },
): ListenerOptions & { readonly reported: unknown[] } {
  const reported: unknown[] = [];
  const random = (): number => 0.5;
  return {
    queue: new ServiceBusCommandQueue(() => serviceBusClient({ connectionString }, 1000), 'commands'),
    commands,
    runner: createJobRunner({ commands, sleep: (ms, until) => clock.sleep(ms, until), random, signal }),
    clock,
    random,
    report: (error) => reported.push(error),
    reported,
  };
}

export function startListener(connectionString: string, commands: CommandService, clock?: Clock): Listener {
  const stopping = new AbortController();
  const { signal } = stopping;
  const options = listenerOptions(connectionString, commands, { signal, ...(clock !== undefined && { clock }) });
  const listening = listen(options, signal);
  return {
    reported: options.reported,
    options,
    stop: async () => {
      stopping.abort(new Error('SIGTERM'));
      await listening.catch(() => undefined);
      await options.queue.close();
      await options.runner.idle();
    },
  };
}

/** Somebody with the raw SDK. */
export class Sender {
  readonly #client: ServiceBusClient;
  readonly #connectionString: string;

  constructor(connectionString: string) {
    this.#connectionString = connectionString;
    this.#client = new ServiceBusClient(connectionString, { retryOptions: { maxRetries: 0, timeoutInMs: 10_000 } });
  }

  /** `command` as JSON, or bytes as they are; replies go to session `r-MESSAGEID`. */
  async send(messageId: string, command: unknown, more: Partial<ServiceBusMessage> = {}): Promise<void> {
    const body = Buffer.isBuffer(command) ? command : Buffer.from(JSON.stringify(command));
    await this.#client.createSender('commands').sendMessages({
      messageId,
      sessionId: GROUP,
      contentType: 'application/json',
      body,
      replyTo: 'replies',
      replyToSessionId: `r-${messageId}`,
      ...more,
    });
  }

  /** The next `count` replies to a message, as they came. */
  async replies(messageId: string, count: number): Promise<(ServiceBusReceivedMessage & { body: Reply })[]> {
    const receiver = await this.#client.acceptSession('replies', `r-${messageId}`);
    const found: ServiceBusReceivedMessage[] = [];
    while (found.length < count) {
      const [message] = await receiver.receiveMessages(1, { maxWaitTimeInMs: 20_000 });
      if (message === undefined) throw new Error(`${found.length} of ${count} replies came`);
      replySchema.parse(message.body);
      found.push(message);
      await receiver.completeMessage(message);
    }
    await receiver.close();
    return found;
  }

  deadLetters(): Promise<readonly ServiceBusReceivedMessage[]> {
    return this.#look('commands', { subQueueType: 'deadLetter' });
  }

  /** Ids of messages that are in the queue, in whatever hands. */
  async waiting(): Promise<readonly string[]> {
    return (await this.#look('commands', {})).map(({ messageId }) => String(messageId));
  }

  /** With a client of its own: looks of one client go on where the one before ended. */
  async #look(queue: string, options: ServiceBusReceiverOptions): Promise<readonly ServiceBusReceivedMessage[]> {
    const client = new ServiceBusClient(this.#connectionString);
    try {
      return await client.createReceiver(queue, options).peekMessages(100);
    } finally {
      await client.close();
    }
  }

  /** Whether nobody holds the session. */
  async isFree(session: string): Promise<boolean> {
    try {
      const receiver = await this.#client.acceptSession('commands', session);
      await receiver.close();
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === 'SessionCannotBeLocked') return false;
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#client.close();
  }
}
