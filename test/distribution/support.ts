/** A broker with the queues of `infra/service-bus/Config.json`, and who works on them. */
import { ServiceBusClient } from '@azure/service-bus';
import { afterEach, beforeEach } from 'vitest';
import { ServiceBusCommandQueue } from '../../src/azure/service-bus-commands.ts';
import { openCacheEventQueue, openWorkQueue } from '../../src/azure/service-bus-work.ts';
import { serviceBusClient } from '../../src/azure/service-bus-calls.ts';
import type { Queues } from '../../src/distribution/work.ts';
import type { Broker } from '../../src/local/broker/broker.ts';
import { startBroker } from '../commands/support.ts';

export interface TestQueues extends Queues {
  readonly client: ServiceBusClient;
  /** The same queues, by connections that go through another port. */
  readonly through: (port: number) => Queues;
  readonly port: number;
  /** Messages of the queue of commands, in whatever hands, in their order. */
  readonly inLine: () => Promise<
    readonly { readonly session: string; readonly id: string; readonly isKeptBack: boolean }[]
  >;
  readonly deadLetters: () => Promise<number>;
  /** Lets Event Grid tell of a blob. */
  readonly tell: (...subjects: readonly string[]) => Promise<void>;
}

/** A broker of its own for each test. */
export function useQueues(lockDuration?: string): () => TestQueues {
  let broker: Broker | undefined;
  let client: ServiceBusClient | undefined;
  beforeEach(async () => {
    broker = await startBroker(lockDuration);
    client = new ServiceBusClient(broker.connectionString);
  });
  afterEach(async () => {
    await client?.close();
    await broker?.close();
  });
  return () => {
    if (broker === undefined || client === undefined) throw new Error('the broker runs only inside of tests');
    return queuesOf(broker.connectionString, client);
  };
}

function queuesOf(connectionString: string, client: ServiceBusClient): TestQueues {
  const look = async (subQueueType?: 'deadLetter') => {
    // Looks of one client go on where the one before ended.
    const looking = new ServiceBusClient(connectionString);
    try {
      return await looking
        .createReceiver('commands', subQueueType === undefined ? {} : { subQueueType })
        .peekMessages(250);
    } finally {
      await looking.close();
    }
  };
  return {
    ...queuesAt(connectionString),
    client,
    port: Number(/:(\d+);/.exec(connectionString)?.[1]),
    through: (port) => queuesAt(connectionString.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`)),
    inLine: async () =>
      (await look()).map(({ sessionId, messageId, state }) => ({
        session: sessionId ?? '',
        id: String(messageId),
        isKeptBack: state === 'scheduled',
      })),
    deadLetters: async () => (await look('deadLetter')).length,
    tell: (...subjects) =>
      client
        .createSender('cache-events')
        .sendMessages(subjects.map((subject) => ({ body: { eventType: 'Microsoft.Storage.BlobCreated', subject } }))),
  };
}

const queuesAt = (connectionString: string): Queues => ({
  openCommandQueue: () => new ServiceBusCommandQueue(() => serviceBusClient({ connectionString }, 1000), 'commands'),
  openWorkQueue: () => openWorkQueue({ connectionString }, 'commands'),
  openCacheEvents: () => openCacheEventQueue({ connectionString }, 'cache-events'),
});

export const segmentSubject = (group: string, sequence = 1): string =>
  `/blobServices/default/containers/replication-logs/blobs/${group}/web/disk0/00000001/${String(sequence).padStart(12, '0')}.seg`;
