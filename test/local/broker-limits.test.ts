import { ServiceBusClient } from '@azure/service-bus';
import { assert as check, nat, property } from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import { Broker } from '../../src/local/broker/broker.ts';
import type { BrokerConfig } from '../../src/local/broker/config.ts';
import { parseDurationMs } from '../../src/local/broker/durations.ts';
import { sqlFilter } from '../../src/local/broker/sql-filter.ts';
import { errorOf, next, NOTHING, take } from './contract-setup.ts';

type Namespace = BrokerConfig['UserConfig']['Namespaces'][number];

const configOf = (namespace: Partial<Namespace>): BrokerConfig => ({
  UserConfig: { Namespaces: [{ Name: 'sbemulatorns', ...namespace }] },
});

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function connect(namespace: Partial<Namespace>): Promise<{ broker: Broker; client: ServiceBusClient }> {
  const broker = await new Broker(configOf(namespace)).listen(0);
  const client = new ServiceBusClient(broker.connectionString, { retryOptions: { maxRetries: 0, timeoutInMs: 2000 } });
  closers.push(
    () => broker.close(),
    () => client.close(),
  );
  return { broker, client };
}

function configError(namespace: Partial<Namespace>): string {
  try {
    void new Broker(configOf(namespace));
  } catch (error) {
    if (error instanceof TidemarkError && error.code === 'BROKER_CONFIG_INVALID') return error.message;
    throw error;
  }
  throw new Error('the config was taken');
}

const topicWithRule = (properties: object): Partial<Namespace> => ({
  Topics: [
    {
      Name: 't',
      Subscriptions: [{ Name: 's', Rules: [{ Name: 'r', Properties: { FilterType: 'Sql', ...properties } }] }],
    },
  ],
});

describe('what the broker does not do', () => {
  it('refuses the rule manager by name', async () => {
    const { client } = await connect({ Topics: [{ Name: 't', Subscriptions: [{ Name: 's' }] }] });
    const manager = client.createRuleManager('t', 's');
    const error = await errorOf(manager.listRules().next());
    expect(error.message).toContain("'enumerate-rules' is not supported by the local broker");
  });

  it('refuses configs that it cannot follow', () => {
    const sql = { SqlFilter: { SqlExpression: '1=1' } };
    expect(configError(topicWithRule({ ...sql, Action: { SqlExpression: 'SET a = 1' } }))).toContain('rule actions');
    expect(configError(topicWithRule({}))).toContain('SqlFilter is missing');
    expect(configError({ Queues: [{ Name: 'q', Properties: { LockDuration: '1 minute' } }] })).toContain('"1 minute"');
    expect(configError({ Topics: [{ Name: 't', Subscriptions: [] }] })).toContain('Subscriptions');
  });

  it('takes all of a batch or nothing', async () => {
    const { client } = await connect({ Queues: [{ Name: 'q', Properties: { RequiresSession: true } }] });
    const sending = client.createSender('q').sendMessages([{ body: 1, sessionId: 'a' }, { body: 2 }]);
    expect((await errorOf(sending)).message).toContain('requires sessions');
    const session = await client.acceptSession('q', 'a');
    expect(await session.receiveMessages(1, NOTHING)).toEqual([]);
    await session.close();
  });
});

describe('the test hook', () => {
  it('keeps a message whose acknowledgement is lost, and duplicate detection drops the retry', async () => {
    const properties = { RequiresDuplicateDetection: true };
    const { broker, client } = await connect({ Queues: [{ Name: 'q', Properties: properties }] });
    let calls = 0;
    broker.onSend = () => (++calls === 1 ? 'lost-ack' : undefined);
    const sender = client.createSender('q');
    expect(await errorOf(sender.sendMessages({ body: 1, messageId: 'a' }))).toMatchObject({ code: 'ServiceTimeout' });
    await sender.sendMessages({ body: 1, messageId: 'a' });
    expect(await client.createReceiver('q').peekMessages(9)).toHaveLength(1);
    expect(calls).toBe(2);
  });

  it('refuses a message with the error of the test', async () => {
    const { broker, client } = await connect({ Queues: [{ Name: 'q' }] });
    broker.onSend = () => ({ condition: 'com.microsoft:server-busy', description: 'throttled' });
    const sending = client.createSender('q').sendMessages({ body: 1 });
    expect(await errorOf(sending)).toMatchObject({
      code: 'ServiceBusy',
      message: expect.stringContaining('throttled'),
    });
    expect(broker.stats).toEqual({ received: 0, connections: 1 });
  });

  it('cuts connections, and keeps what it holds', async () => {
    const { broker, client } = await connect({ Queues: [{ Name: 'q' }] });
    await client.createSender('q').sendMessages({ body: 1 });
    broker.dropConnections();
    const second = new ServiceBusClient(broker.connectionString);
    closers.push(() => second.close());
    expect((await next(second.createReceiver('q'))).body).toBe(1);
    expect(broker.stats).toEqual({ received: 1, connections: 2 });
  });
});

it('forwards messages and dead letters', async () => {
  const { client } = await connect({
    Queues: [
      { Name: 'in', Properties: { ForwardTo: 'work' } },
      { Name: 'work', Properties: { ForwardDeadLetteredMessagesTo: 'dead' } },
      { Name: 'dead' },
    ],
  });
  await client.createSender('in').sendMessages({ body: 'x' });
  const receiver = client.createReceiver('work');
  await receiver.deadLetterMessage(await next(receiver));
  expect(await take(client.createReceiver('dead'), 1)).toEqual(['x']);
});

describe('durations', () => {
  it('reads what ISO 8601 writes', () => {
    const days = nat(9);
    const sixties = nat(59);
    check(
      property(days, nat(23), sixties, sixties, (d, h, m, s) => {
        const text = `P${d}DT${h}H${m}M${s}S`;
        expect(parseDurationMs(text, -1)).toBe((((d * 24 + h) * 60 + m) * 60 + s) * 1000);
      }),
    );
    expect(['PT5S', 'PT1M', 'P1D', 'PT0.5S', '', undefined].map((text) => parseDurationMs(text, 7))).toEqual([
      5000, 60_000, 86_400_000, 500, 7, 7,
    ]);
  });

  it.each(['5S', 'P', 'PT', 'PT5', 'P5S', 'PT-5S'])('refuses %s', (text) => {
    expect(() => parseDurationMs(text, 0)).toThrow(TidemarkError);
  });
});

describe('SQL filters', () => {
  const message = {
    body: undefined,
    subject: 'Progress',
    message_id: 'm',
    application_properties: { severity: 'error', percent: 60, done: false, 'odd name': "it's" },
  };
  it.each([
    ["severity IN ('error', 'critical')", true],
    ["severity NOT IN ('error', 'critical')", false],
    ["nothing NOT IN ('error')", false],
    ["severity = 'info' OR percent >= 60 AND NOT done = true", true],
    ["(severity = 'info' OR percent >= 60) AND done = true", false],
    ["sys.Label = 'Progress' AND user.percent < 60.5", true],
    ["[odd name] = 'it''s'", true],
    ["severity LIKE 'e%r'", true],
    ["severity NOT LIKE '_rror'", false],
    ["severity LIKE 'e.*'", false],
    ['nothing IS NULL AND percent IS NOT NULL', true],
    ['EXISTS(percent) AND NOT EXISTS(nothing)', true],
    ['nothing <> 1', false],
    ["severity <> 'info'", true],
    ['1=1', true],
  ])('%s is %s', (expression, expected) => {
    expect(sqlFilter(expression)(message)).toBe(expected);
  });

  it.each([
    '',
    'a =',
    'a = 1 b',
    'a + 1 = 2',
    "a = 'open",
    'a IN ()',
    '(a = 1',
    'a = NULL',
    'sys.Nope = 1',
    "newid() = 'x'",
  ])('refuses %s', (expression) => {
    expect(() => sqlFilter(expression)).toThrow(TidemarkError);
  });
});
