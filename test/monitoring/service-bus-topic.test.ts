import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { serviceBusClient, ServiceBusTopic } from '../../src/azure/service-bus-topic.ts';
import { Broker } from '../../src/local/broker/broker.ts';
import type { BrokerConfig } from '../../src/local/broker/config.ts';
import { MESSAGING_RETRY, type RetryPolicy } from '../../src/retry.ts';
import { RetryingTopic } from '../../src/monitoring/retrying-topic.ts';
import { collect, idsOf, messages, messageTopicContract } from '../contracts/message-topic.contract.ts';

const TOPIC = 'monitoring';
/** What the local stack and the official emulator are deployed with. */
const CONFIG = JSON.parse(
  readFileSync(new URL('../../infra/service-bus/Config.json', import.meta.url), 'utf8'),
) as BrokerConfig;

/** Real, but short: the broker is a real server on this machine. */
const retry: RetryPolicy = {
  ...MESSAGING_RETRY,
  sleep: (milliseconds, signal) => delay(Math.min(milliseconds, 50), undefined, { signal }),
  random: () => 0.5,
};
const signal = AbortSignal.timeout(50_000);

let broker: Broker;
beforeAll(async () => {
  broker = await new Broker(CONFIG).listen(0);
});
afterAll(() => broker.close());

const open = (connectionString = broker.connectionString, topic = TOPIC) =>
  new ServiceBusTopic({
    connect: () => serviceBusClient({ connectionString }),
    topic,
    retry,
    callTimeoutMs: 1500,
    pollMs: 20,
  });

messageTopicContract('Service Bus', async () => open());

describe('Service Bus topic', () => {
  beforeEach(() => {
    broker.onSend = undefined;
  });

  it('gets every message through once when an answer is lost', async () => {
    let calls = 0;
    broker.onSend = () => (++calls === 1 ? 'lost-ack' : undefined);
    const topic = new RetryingTopic(open(), retry);
    await topic.send(messages('lost', 3), signal);
    expect(calls).toBe(6);
    expect(idsOf(await collect(topic, 'lost'))).toEqual(['lost:1', 'lost:2', 'lost:3']);
    await topic.close();
  });

  it('goes on with a tail behind a broken connection, without repeating or missing a message', async () => {
    const topic = open();
    await topic.send(messages('broken', 2), signal);
    const received: string[] = [];
    for await (const message of topic.tail(signal)) {
      if (!message.messageId.startsWith('broken:')) continue;
      received.push(message.messageId);
      if (received.length === 2) {
        broker.dropConnections();
        await new RetryingTopic(topic, retry).send(messages('broken', 4), signal);
      }
      if (received.length === 4) break;
    }
    expect(received).toEqual(['broken:1', 'broken:2', 'broken:3', 'broken:4']);
    await topic.close();
  });

  it('says that nobody answers, and closes, when a server accepts and keeps silent', async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => {
      silent.listen(0, '127.0.0.1', resolve);
    });
    const address = silent.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const topic = open(broker.connectionString.replace(/:\d+;/, `:${port};`));
    const startMs = performance.now();
    await expect(topic.send(messages('silent', 1), signal)).rejects.toMatchObject({
      code: 'MESSAGING_UNAVAILABLE',
      message: 'topic monitoring: no answer within 1500 ms',
    });
    await topic.close();
    expect(performance.now() - startMs).toBeLessThan(6000);
    silent.close();
  });

  it('says that the namespace is unavailable when the port is refused', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    await new Promise((resolve) => {
      server.close(resolve);
    });
    const topic = open(broker.connectionString.replace(/:\d+;/, `:${port};`));
    await expect(topic.send(messages('refused', 1), signal)).rejects.toMatchObject({ code: 'MESSAGING_UNAVAILABLE' });
    await topic.close();
  });

  it('tells a topic or a subscription that is missing from one that is away', async () => {
    const topic = open(broker.connectionString, 'nowhere');
    await expect(topic.send(messages('a', 1), signal)).rejects.toMatchObject({ code: 'MESSAGING_REFUSED' });
    await expect(collect(topic, '')).rejects.toMatchObject({ code: 'MESSAGING_REFUSED' });
    await topic.close();
    const malformed = (): unknown => serviceBusClient({ connectionString: 'Endpoint=nonsense' });
    expect(malformed).toThrow(expect.objectContaining({ code: 'MESSAGING_REFUSED' }));
  });

  it('sets what subscription rules read', async () => {
    const topic = open();
    const [info] = messages('rules', 1);
    const severe = messages('severe', 1).map((message) => ({
      ...message,
      applicationProperties: { ...message.applicationProperties, severity: 'critical' },
    }));
    await topic.send([...(info === undefined ? [] : [info]), ...severe], signal);
    const client = serviceBusClient(broker);
    const alerts = await client.createReceiver(TOPIC, 'alerts').peekMessages(10, { abortSignal: signal });
    expect(alerts.map((message) => [message.messageId, message.subject, message.contentType])).toEqual([
      ['severe:1', 'points/1', 'application/cloudevents+json; charset=utf-8'],
    ]);
    await client.close();
    await topic.close();
  });
});
