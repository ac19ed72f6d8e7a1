import { readFileSync } from 'node:fs';
import { ServiceBusClient, type ServiceBusReceiver, type ServiceBusSessionReceiver } from '@azure/service-bus';
import { afterAll, beforeAll, it } from 'vitest';
import { Broker } from '../../src/local/broker/broker.ts';
import type { BrokerConfig } from '../../src/local/broker/config.ts';
import { BROKER_SAS_KEY } from '../../src/local/stack-config.ts';

/** The entities that the contract uses, for the emulator as well: start it with this file as its Config.json. */
const CONFIG_FILE = new URL('./contract-config.json', import.meta.url);

/** Enough for a message that is there already, on a busy machine. */
export const SOON = { maxWaitTimeInMs: 8000 };
/** Long enough to see that nothing comes. */
export const NOTHING = { maxWaitTimeInMs: 300 };

export interface World {
  readonly client: ServiceBusClient;
  readonly connectionString: string;
}

/**
 * The contract of a Service Bus-compatible broker, by the real SDK. Runs on the local broker, or on the one that SB_CONNECTION_STRING
 * names (with the same entities, empty). All scenarios start together, since some wait for real locks to expire; each has its own entity.
 */
export function useContract(): (name: string, scenario: (world: World) => Promise<void>) => void {
  const external = process.env['SB_CONNECTION_STRING'];
  let broker: Broker | undefined;
  let client: ServiceBusClient | undefined;
  const start = Promise.withResolvers<World>();
  beforeAll(async () => {
    if (external === undefined) {
      const config = JSON.parse(readFileSync(CONFIG_FILE, 'utf8')) as BrokerConfig;
      broker = await new Broker(config, { sasKey: BROKER_SAS_KEY }).listen(0);
    }
    const connectionString = external ?? broker?.connectionString ?? '';
    client = new ServiceBusClient(connectionString, { retryOptions: { maxRetries: 0, timeoutInMs: 5000 } });
    start.resolve({ client, connectionString });
  });
  afterAll(async () => {
    await client?.close();
    await broker?.close();
  });
  return (name, scenario) => {
    const outcome = start.promise.then(scenario);
    // Its test reports the failure, when its turn comes.
    outcome.catch(() => undefined);
    it(name, () => outcome);
  };
}

/** Bodies of the next `count` messages; each is completed. */
export async function take(
  receiver: ServiceBusReceiver | ServiceBusSessionReceiver,
  count: number,
): Promise<unknown[]> {
  const bodies: unknown[] = [];
  while (bodies.length < count) {
    const messages = await receiver.receiveMessages(count - bodies.length, SOON);
    if (messages.length === 0) break;
    for (const message of messages) {
      bodies.push(message.body);
      await receiver.completeMessage(message);
    }
  }
  return bodies;
}

/** The next message. */
export async function next(receiver: ServiceBusReceiver | ServiceBusSessionReceiver) {
  const [message] = await receiver.receiveMessages(1, SOON);
  if (message === undefined) throw new Error('no message came');
  return message;
}

/** What `attempt` fails with; it must fail. */
export async function errorOf(attempt: Promise<unknown>): Promise<{ code?: unknown; message: string }> {
  try {
    await attempt;
  } catch (error) {
    return error as { code?: unknown; message: string };
  }
  throw new Error('no error was thrown');
}

/** The code of the error that `attempt` fails with; it must fail. */
export const codeOf = async (attempt: Promise<unknown>): Promise<unknown> => (await errorOf(attempt)).code;
