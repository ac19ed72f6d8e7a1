import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceBusClient, type ServiceBusSender } from '@azure/service-bus';
import { expect } from 'vitest';
import { codeOf, next, NOTHING, SOON, take, useContract } from './contract-setup.ts';

const scenario = useContract();

scenario('takes one message, an array and a batch, and delivers them in order', async ({ client }) => {
  const sender = client.createSender('send');
  await sender.sendMessages({ body: 1 });
  await sender.sendMessages([{ body: 2 }, { body: 3 }]);
  const batch = await sender.createMessageBatch();
  expect([batch.tryAddMessage({ body: 4 }), batch.tryAddMessage({ body: 5 })]).toEqual([true, true]);
  await sender.sendMessages(batch);
  const receiver = client.createReceiver('send');
  expect(await take(receiver, 5)).toEqual([1, 2, 3, 4, 5]);
  expect(await receiver.receiveMessages(1, NOTHING)).toEqual([]);
});

scenario('limits a batch to 256 KiB', async ({ client }) => {
  const batch = await client.createSender('batch-size').createMessageBatch();
  expect(batch.maxSizeInBytes).toBe(262_144);
  let added = 0;
  while (batch.tryAddMessage({ body: Buffer.alloc(10_000) })) added++;
  expect(added).toBe(26);
});

scenario('keeps properties and every kind of body', async ({ client }) => {
  const date = new Date(1_700_000_000_000);
  const sent = {
    body: { a: [1, 'x'] },
    messageId: 'm1',
    correlationId: 'c1',
    subject: 'sub',
    to: 'to',
    replyTo: 'rt',
    contentType: 'application/json',
    timeToLive: 60_000,
    applicationProperties: { text: 'x', integer: 7, float: 1.5, truth: true, date, nothing: null },
  };
  const annotated: Parameters<ServiceBusSender['sendMessages']>[0] = [
    { body: { v: 42 }, bodyType: 'value' },
    { body: [1, 2], bodyType: 'sequence' },
  ];
  const sender = client.createSender('properties');
  await sender.sendMessages([sent, { body: 'text' }, { body: Buffer.from([1, 2, 3]) }]);
  await sender.sendMessages(annotated);
  const receiver = client.createReceiver('properties');
  const first = await next(receiver);
  const applicationProperties = { ...sent.applicationProperties, date: date.getTime() };
  expect(first).toMatchObject({ ...sent, deliveryCount: 0, applicationProperties });
  expect(Number(first.expiresAtUtc) - Number(first.enqueuedTimeUtc)).toBe(60_000);
  expect(Number(first.lockedUntilUtc)).toBeGreaterThan(Number(first.enqueuedTimeUtc));
  expect(first.sequenceNumber?.toNumber()).toBe(1);
  const rest = await take(receiver, 4);
  expect(rest[0]).toBe('text');
  expect(rest[1]).toEqual(Buffer.from([1, 2, 3]));
  expect({ ...(rest[2] as object) }).toEqual({ v: 42 });
  expect(rest[3]).toEqual([1, 2]);
});

scenario('delivers an abandoned message first again, with its new properties', async ({ client }) => {
  await client.createSender('abandon').sendMessages([{ body: 'a' }, { body: 'b' }]);
  const receiver = client.createReceiver('abandon');
  await receiver.abandonMessage(await next(receiver), { why: 'busy' });
  const again = await next(receiver);
  expect(again).toMatchObject({ body: 'a', deliveryCount: 1, applicationProperties: { why: 'busy' } });
});

scenario('dead-letters with a reason', async ({ client }) => {
  await client.createSender('dead-letter').sendMessages({ body: 'bad', messageId: 'b' });
  const receiver = client.createReceiver('dead-letter');
  await receiver.deadLetterMessage(await next(receiver), {
    deadLetterReason: 'Schema',
    deadLetterErrorDescription: 'no disk id',
    extra: 'e',
  });
  const dead = client.createReceiver('dead-letter', { subQueueType: 'deadLetter' });
  const message = await next(dead);
  expect(message).toMatchObject({
    body: 'bad',
    messageId: 'b',
    deadLetterReason: 'Schema',
    deadLetterErrorDescription: 'no disk id',
    applicationProperties: { extra: 'e' },
  });
  await dead.completeMessage(message);
});

scenario('dead-letters after the last delivery', async ({ client }) => {
  await client.createSender('max-delivery').sendMessages({ body: 1 });
  const receiver = client.createReceiver('max-delivery');
  for (const count of [0, 1, 2]) {
    const message = await next(receiver);
    expect(message.deliveryCount).toBe(count);
    await receiver.abandonMessage(message);
  }
  expect(await receiver.receiveMessages(1, NOTHING)).toEqual([]);
  const dead = await next(client.createReceiver('max-delivery', { subQueueType: 'deadLetter' }));
  expect(dead.deadLetterReason).toBe('MaxDeliveryCountExceeded');
});

scenario('keeps a deferred message until it is asked for', async ({ client }) => {
  await client.createSender('defer').sendMessages({ body: 'later' });
  const receiver = client.createReceiver('defer');
  const message = await next(receiver);
  const { sequenceNumber } = message;
  if (sequenceNumber === undefined) throw new Error('no sequence number');
  await receiver.deferMessage(message);
  expect(await receiver.receiveMessages(1, NOTHING)).toEqual([]);
  const [deferred] = await receiver.receiveDeferredMessages(sequenceNumber);
  expect(deferred).toMatchObject({ body: 'later', state: 'deferred' });
  if (deferred !== undefined) await receiver.completeMessage(deferred);
  expect(await codeOf(receiver.receiveDeferredMessages(sequenceNumber))).toBe('MessageNotFound');
});

scenario('receives and deletes at once', async ({ client }) => {
  await client.createSender('receive-and-delete').sendMessages([{ body: 1 }, { body: 2 }]);
  const receiver = client.createReceiver('receive-and-delete', { receiveMode: 'receiveAndDelete' });
  const bodies: unknown[] = [];
  while (bodies.length < 2) for (const { body } of await receiver.receiveMessages(5, SOON)) bodies.push(body);
  expect(bodies).toEqual([1, 2]);
  expect(await client.createReceiver('receive-and-delete').peekMessages(5)).toEqual([]);
});

scenario('delivers again when a lock expires, and refuses the old lock', async ({ client }) => {
  await client.createSender('lock-expiry').sendMessages({ body: 1 });
  const receiver = client.createReceiver('lock-expiry', { maxAutoLockRenewalDurationInMs: 0 });
  const first = await next(receiver);
  const startedMs = performance.now();
  const second = await next(receiver);
  expect(performance.now() - startedMs).toBeGreaterThan(3000);
  expect(second.deliveryCount).toBe(1);
  expect(await codeOf(receiver.completeMessage(first))).toBe('MessageLockLost');
  await receiver.completeMessage(second);
});

scenario('renews a lock, but not a lost one', async ({ client }) => {
  await client.createSender('lock-renewal').sendMessages({ body: 1 });
  const receiver = client.createReceiver('lock-renewal', { maxAutoLockRenewalDurationInMs: 0 });
  const message = await next(receiver);
  await sleep(3000);
  const until = await receiver.renewMessageLock(message);
  expect(Number(until)).toBeGreaterThan(Date.now() + 3000);
  await sleep(3000);
  await receiver.completeMessage(message);
  expect(await codeOf(receiver.renewMessageLock(message))).toBe('MessageLockLost');
});

scenario('lets a subscriber work longer than a lock lasts', async ({ client }) => {
  await client.createSender('auto-renewal').sendMessages({ body: 1 });
  const receiver = client.createReceiver('auto-renewal');
  let calls = 0;
  const errors: unknown[] = [];
  const done = Promise.withResolvers<void>();
  const subscription = receiver.subscribe({
    processMessage: async () => {
      calls++;
      await sleep(7000);
      done.resolve();
    },
    processError: async ({ error }) => void errors.push(error),
  });
  await done.promise;
  await subscription.close();
  await receiver.close();
  expect([calls, errors]).toEqual([1, []]);
  expect(await client.createReceiver('auto-renewal').peekMessages(1)).toEqual([]);
});

scenario('calls a subscriber four times at once, and again after its error', async ({ client }) => {
  const numbers = [...Array(20).keys()];
  await client.createSender('handler-error').sendMessages(numbers.map((body) => ({ body })));
  const receiver = client.createReceiver('handler-error');
  const bodies: number[] = [];
  const errors: unknown[] = [];
  const done = Promise.withResolvers<void>();
  let running = 0;
  let most = 0;
  let failed = false;
  receiver.subscribe(
    {
      processMessage: async ({ body }) => {
        most = Math.max(most, ++running);
        await sleep(30);
        running--;
        if (body === 7 && !failed) {
          failed = true;
          throw new Error('boom');
        }
        if (bodies.push(body as number) === numbers.length) done.resolve();
      },
      processError: async ({ errorSource }) => void errors.push(errorSource),
    },
    { maxConcurrentCalls: 4 },
  );
  await done.promise;
  await receiver.close();
  expect(most).toBe(4);
  expect(bodies.sort((a, b) => a - b)).toEqual(numbers);
  expect(errors).toEqual(['processMessageCallback']);
});

scenario('feeds an iterator', async ({ client }) => {
  await client.createSender('iterator').sendMessages([{ body: 1 }, { body: 2 }]);
  const receiver = client.createReceiver('iterator');
  const bodies: unknown[] = [];
  for await (const message of receiver.getMessageIterator()) {
    bodies.push(message.body);
    await receiver.completeMessage(message);
    if (bodies.length === 2) break;
  }
  expect(bodies).toEqual([1, 2]);
});

scenario('shows messages without taking them, on from a sequence number', async ({ client }) => {
  await client.createSender('peek').sendMessages([{ body: 1 }, { body: 2 }, { body: 3 }]);
  const receiver = client.createReceiver('peek');
  const seen = [...(await receiver.peekMessages(2)), ...(await receiver.peekMessages(2))];
  expect(seen.map(({ body }) => body as number)).toEqual([1, 2, 3]);
  const fromSequenceNumber = seen[1]?.sequenceNumber;
  if (fromSequenceNumber === undefined) throw new Error('no sequence number');
  expect(await receiver.peekMessages(5, { fromSequenceNumber })).toHaveLength(2);
});

scenario('holds scheduled messages back, and forgets cancelled ones', async ({ client }) => {
  const sender = client.createSender('schedule');
  const receiver = client.createReceiver('schedule');
  const dueAt = new Date(Date.now() + 3000);
  const [, cancelled] = await sender.scheduleMessages([{ body: 'a' }, { body: 'b' }], dueAt);
  if (cancelled === undefined) throw new Error('no sequence number');
  await sender.cancelScheduledMessages(cancelled);
  await sender.sendMessages({ body: 'c', scheduledEnqueueTimeUtc: dueAt });
  expect(await codeOf(sender.cancelScheduledMessages(cancelled))).toBe('MessageNotFound');
  const waiting = await receiver.peekMessages(5);
  expect(waiting.map(({ body, state }) => [body, state])).toEqual([
    ['a', 'scheduled'],
    ['c', 'scheduled'],
  ]);
  expect(new Set(await take(receiver, 2))).toEqual(new Set(['a', 'c']));
  expect(Date.now()).toBeGreaterThanOrEqual(dueAt.getTime());
});

scenario('dead-letters what has expired', async ({ client }) => {
  await client.createSender('ttl').sendMessages({ body: 1, timeToLive: 500 });
  const dead = await next(client.createReceiver('ttl', { subQueueType: 'deadLetter' }));
  expect(dead.deadLetterReason).toBe('TTLExpiredException');
});

scenario('drops duplicates until the window ends', async ({ client }) => {
  const sender = client.createSender('duplicates');
  const receiver = client.createReceiver('duplicates');
  for (const body of [1, 2, 3]) await sender.sendMessages({ body, messageId: 'same' });
  const first = await receiver.peekMessages(9);
  expect(first.map(({ body }) => body as number)).toEqual([1]);
  await sleep(5500);
  await sender.sendMessages({ body: 9, messageId: 'same' });
  expect(await take(receiver, 2)).toEqual([1, 9]);
});

scenario('fans a topic out by correlation rule, SQL rule and session', async ({ client }) => {
  const sessionId = 's9';
  await client.createSender('events').sendMessages([
    { sessionId, body: 1, subject: 'RpoExceeded', applicationProperties: { severity: 'error' } },
    { sessionId, body: 2, subject: 'RpoExceeded', applicationProperties: { severity: 'info' } },
    { sessionId, body: 3, subject: 'Progress', applicationProperties: { percent: 60 } },
    { sessionId, body: 4, subject: 'Progress', applicationProperties: { percent: 10, disk: 'd2' } },
    { sessionId, body: 5, subject: 'Progress', applicationProperties: { percent: 10, disk: 'd3' } },
  ]);
  const [all, correlated, selected] = ['all', 'correlated', 'selected'].map((name) =>
    client.createReceiver('events', name),
  );
  if (all === undefined || correlated === undefined || selected === undefined) throw new Error('three receivers');
  const bySession = await client.acceptSession('events', 'by-session', sessionId);
  expect(await take(all, 5)).toEqual([1, 2, 3, 4, 5]);
  expect(await take(correlated, 1)).toEqual([1]);
  expect(await take(selected, 2)).toEqual([3, 4]);
  expect(await take(bySession, 5)).toEqual([1, 2, 3, 4, 5]);
  for (const receiver of [correlated, selected]) expect(await receiver.receiveMessages(1, NOTHING)).toEqual([]);
  await bySession.close();
});

scenario('schedules on a topic', async ({ client }) => {
  const sender = client.createSender('events');
  const sequences = await sender.scheduleMessages({ body: 'x', sessionId: 'zz' }, new Date(Date.now() + 60_000));
  expect(sequences).toHaveLength(1);
  await sender.cancelScheduledMessages(sequences);
  expect(await codeOf(sender.cancelScheduledMessages(sequences))).toBe('MessageNotFound');
});

scenario('knows no other entities', async ({ client }) => {
  expect(await codeOf(client.createSender('nope').sendMessages({ body: 1 }))).toBe('MessagingEntityNotFound');
  expect(await codeOf(client.createReceiver('nope').receiveMessages(1, SOON))).toBe('MessagingEntityNotFound');
});

scenario('refuses a wrong key', async ({ connectionString }) => {
  const wrong = connectionString.replace(/SharedAccessKey=[^;]*/, 'SharedAccessKey=wrong');
  const client = new ServiceBusClient(wrong, { retryOptions: { maxRetries: 0, timeoutInMs: 5000 } });
  expect(await codeOf(client.createSender('unauthorized').sendMessages({ body: 1 }))).toBe('UnauthorizedAccess');
  await client.close();
});

scenario('refuses a message over 256 KiB', async ({ client }) => {
  const sending = client.createSender('too-large').sendMessages({ body: Buffer.alloc(300_000) });
  expect(await codeOf(sending)).toBe('MessageSizeExceeded');
});

scenario('settles for a receiver that is closed', async ({ client }) => {
  await client.createSender('settle-elsewhere').sendMessages({ body: 1 });
  const closed = client.createReceiver('settle-elsewhere');
  const message = await next(closed);
  await closed.close();
  const other = client.createReceiver('settle-elsewhere');
  await other.completeMessage(message);
  expect(await other.peekMessages(1)).toEqual([]);
});

scenario('gives each message to one of ten receivers', async ({ client }) => {
  const numbers = [...Array(500).keys()];
  await client.createSender('competing').sendMessages(numbers.map((body) => ({ body })));
  const receivers = numbers.slice(0, 10).map(() => client.createReceiver('competing'));
  const bodies: number[] = [];
  const done = Promise.withResolvers<void>();
  for (const receiver of receivers) {
    receiver.subscribe(
      {
        processMessage: async ({ body }) => {
          if (bodies.push(body as number) === numbers.length) done.resolve();
        },
        processError: async ({ error }) => done.reject(error),
      },
      { maxConcurrentCalls: 5 },
    );
  }
  await done.promise;
  await Promise.all(receivers.map((receiver) => receiver.close()));
  expect(bodies.sort((a, b) => a - b)).toEqual(numbers);
});
