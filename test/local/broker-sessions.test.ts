import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { codeOf, errorOf, next, NOTHING, take, useContract } from './contract-setup.ts';

const scenario = useContract();

scenario('keeps the order of a session, and its state', async ({ client }) => {
  const messages = ['a1', 'b1', 'a2', 'b2', 'a3'].map((body) => ({ body, sessionId: body.slice(0, 1) }));
  await client.createSender('session-order').sendMessages(messages);
  const session = await client.acceptSession('session-order', 'a');
  expect(session.sessionId).toBe('a');
  expect(Number(session.sessionLockedUntilUtc)).toBeGreaterThan(Date.now());
  expect(await take(session, 3)).toEqual(['a1', 'a2', 'a3']);
  expect(await session.receiveMessages(1, NOTHING)).toEqual([]);
  expect(await session.getSessionState()).toBeNull();
  await session.setSessionState({ last: 3 });
  expect(Number(await session.renewSessionLock())).toBeGreaterThan(Date.now());
  await session.close();
  const again = await client.acceptSession('session-order', 'a');
  expect(await again.getSessionState()).toEqual({ last: 3 });
  await again.close();
});

scenario('gives a session to one receiver only', async ({ client }) => {
  const session = await client.acceptSession('session-locked', 'x');
  expect(await codeOf(client.acceptSession('session-locked', 'x'))).toBe('SessionCannotBeLocked');
  await session.close();
  const again = await client.acceptSession('session-locked', 'x');
  expect(again.sessionId).toBe('x');
  await again.close();
});

scenario('gives two sessions to two receivers', async ({ client }) => {
  await client.createSender('session-lanes').sendMessages([
    { body: 1, sessionId: 'd1' },
    { body: 2, sessionId: 'd2' },
  ]);
  const sessions = await Promise.all([
    client.acceptNextSession('session-lanes'),
    client.acceptNextSession('session-lanes'),
  ]);
  expect(sessions.map(({ sessionId }) => sessionId).sort()).toEqual(['d1', 'd2']);
  for (const session of sessions) await session.close();
});

scenario('lets a receiver wait for the next session', async ({ client }) => {
  const waiting = client.acceptNextSession('session-late');
  await sleep(700);
  await client.createSender('session-late').sendMessages({ body: 1, sessionId: 'late' });
  const session = await waiting;
  expect(session.sessionId).toBe('late');
  expect(await take(session, 1)).toEqual([1]);
  await session.close();
});

scenario('ends the wait for a session after a while', async ({ client }) => {
  expect(await codeOf(client.acceptNextSession('session-none'))).toBe('ServiceTimeout');
});

scenario('takes a session away when its lock expires', async ({ client }) => {
  await client.createSender('session-expiry').sendMessages({ body: 1, sessionId: 'k' });
  const session = await client.acceptSession('session-expiry', 'k', { maxAutoLockRenewalDurationInMs: 0 });
  const message = await next(session);
  await sleep(5500);
  expect(await codeOf(session.completeMessage(message))).toBe('SessionLockLost');
  const other = await client.acceptNextSession('session-expiry');
  const again = await next(other);
  expect(again.deliveryCount).toBe(1);
  await other.completeMessage(again);
  await other.close();
});

scenario('keeps a session whose lock the SDK renews', async ({ client }) => {
  await client.createSender('session-auto-renewal').sendMessages({ body: 1, sessionId: 'k' });
  const session = await client.acceptSession('session-auto-renewal', 'k');
  const message = await next(session);
  await sleep(7000);
  await session.completeMessage(message);
  expect(await session.peekMessages(1)).toEqual([]);
  await session.close();
});

scenario('frees the messages of a closed session without counting a delivery', async ({ client }) => {
  await client.createSender('session-close').sendMessages({ body: 1, sessionId: 'k' });
  const session = await client.acceptSession('session-close', 'k');
  await next(session);
  await session.close();
  const again = await client.acceptSession('session-close', 'k');
  expect((await next(again)).deliveryCount).toBe(0);
  await again.close();
});

scenario('abandons, dead-letters and defers inside of a session', async ({ client }) => {
  await client.createSender('session-settle').sendMessages([1, 2, 3].map((body) => ({ body, sessionId: 'k' })));
  const session = await client.acceptSession('session-settle', 'k');
  await session.abandonMessage(await next(session));
  const first = await next(session);
  expect(first.body).toBe(1);
  await session.deadLetterMessage(first, { deadLetterReason: 'x', deadLetterErrorDescription: 'y' });
  const second = await next(session);
  expect(second.body).toBe(2);
  await session.deferMessage(second);
  if (second.sequenceNumber === undefined) throw new Error('no sequence number');
  const [deferred] = await session.receiveDeferredMessages(second.sequenceNumber);
  if (deferred === undefined) throw new Error('no deferred message');
  await session.completeMessage(deferred);
  const left = await session.peekMessages(9);
  expect(left.map(({ body }) => body as number)).toEqual([3]);
  await session.close();
  const dead = await next(client.createReceiver('session-settle', { subQueueType: 'deadLetter' }));
  expect(dead.sessionId).toBe('k');
});

scenario('feeds a subscriber of a session', async ({ client }) => {
  await client.createSender('session-subscribe').sendMessages([1, 2, 3, 4].map((body) => ({ body, sessionId: 'k' })));
  const session = await client.acceptNextSession('session-subscribe');
  const bodies: unknown[] = [];
  const done = Promise.withResolvers<void>();
  session.subscribe({
    processMessage: async ({ body }) => {
      if (bodies.push(body) === 4) done.resolve();
    },
    processError: async ({ error }) => done.reject(error),
  });
  await done.promise;
  await session.close();
  expect(bodies).toEqual([1, 2, 3, 4]);
});

scenario('refuses messages without a session, and receivers without one', async ({ client }) => {
  const sending = client.createSender('session-refuses').sendMessages({ body: 1 });
  expect((await errorOf(sending)).message).toContain('requires sessions');
  const receiving = client.createReceiver('session-refuses').receiveMessages(1, NOTHING);
  expect((await errorOf(receiving)).message).toContain('requires sessions');
});
