/** Calls of Service Bus by kind, on the broker of a local stack. */
import { expect, it } from 'vitest';
import { observedClient, serviceBusClient } from '../../src/azure/service-bus-calls.ts';
import { openCommandClient } from '../../src/azure/service-bus-command-client.ts';
import { ServiceBusCommandQueue } from '../../src/azure/service-bus-commands.ts';
import { openMonitoringTopic } from '../../src/azure/service-bus-topic.ts';
import { createRequestTally, type RequestCounts } from '../../src/telemetry/request-tally.ts';
import { Operator } from '../support/cli.ts';
import { useStack } from '../support/stack.ts';

const stack = useStack();
const live = new AbortController().signal;
const connection = (): string => stack.environment['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] ?? '';

it('counts sends, peeks and the messages in them of the monitoring topic', async () => {
  const tally = createRequestTally();
  const topic = openMonitoringTopic({ connectionString: connection() }, 'monitoring', tally);
  const message = (messageId: string) =>
    ({ messageId, subject: 'groups/a', body: {}, applicationProperties: {} }) as never;
  await topic.send([message('a'), message('b'), message('c')], live);
  await topic.send([message('d')], live);
  let seen = 0;
  for await (const each of topic.tail(live, { follow: false })) seen += each.messageId === '' ? 0 : 1;
  await topic.close();
  expect(seen).toBe(4);
  // A tail looks until it finds nothing.
  expect(tally.snapshot()).toMatchObject({ serviceBus: { send: 2, peek: 2 }, messages: { sent: 4, peeked: 4 } });
});

it('counts sessions, receives, settlements and renewals of a command queue', async () => {
  const sent = createRequestTally();
  const client = openCommandClient(
    { access: { connectionString: connection() }, commandQueue: 'commands', replyQueue: 'replies' },
    sent,
  );
  const command = { group: 'shop', messageId: 'm1', body: {}, requestedBy: 'me' } as never;
  await client.send(command, live);
  await client.close();
  expect(sent.snapshot().serviceBus).toEqual({ send: 1 });

  const tally = createRequestTally();
  const queue = new ServiceBusCommandQueue(
    () => observedClient(serviceBusClient({ connectionString: connection() }, 5000), tally),
    'commands',
  );
  expect(await queue.isEmpty(live)).toBe(false);
  const session = await queue.nextSession(live);
  const message = await session?.receive(live);
  if (session === undefined || message === undefined) throw new Error('the command is there');
  await session.complete(message, live);
  await session.close();
  await queue.close();
  expect(tally.snapshot()).toMatchObject({
    serviceBus: { peek: 1, 'accept-session': 1, receive: 1, settle: 1 },
    messages: { peeked: 1, received: 1 },
  });
});

it('counts a call that failed, and no messages', async () => {
  const tally = createRequestTally();
  const topic = openMonitoringTopic({ connectionString: connection() }, 'no-such-topic', tally);
  const message = { messageId: 'a', subject: 's', body: {}, applicationProperties: {} } as never;
  await expect(topic.send([message], live)).rejects.toMatchObject({ code: 'MESSAGING_REFUSED' });
  await topic.close();
  expect(tally.snapshot().messages).toEqual({});
});

it('prints requests by account and kind with the figures of a worker', async () => {
  const operator = new Operator(() => stack.environment);
  await operator.ok('policy', 'set', 'gold');
  await operator.ok('group', 'protect', 'till', '--policy', 'gold', '--machine', 'web', '--disk', 'disk0=1MiB');
  const { requests } = await operator.json<{ requests: RequestCounts }>('worker', 'run', '--once');
  expect(requests.storage.replica).toMatchObject({ PutPage: 1 }); // the footer
  expect(requests.storage.cache['ListBlobs']).toBeGreaterThan(0);
  expect(requests.leases).toMatchObject({ taken: 2, released: 2 }); // of the group and of its disk
  expect(requests.serviceBus.send).toBeGreaterThan(0);
  expect(requests.messages.sent).toBeGreaterThan(0);
});
