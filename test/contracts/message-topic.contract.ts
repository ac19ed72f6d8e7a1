import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MessageTopic, OutgoingMessage, ReceivedMessage } from '../../src/monitoring/message-topic.ts';

/** What every adapter of the monitoring topic promises. Tests share one topic, so each uses ids of its own. */
export function messageTopicContract(adapter: string, open: () => Promise<MessageTopic>): void {
  describe(`message topic on ${adapter}`, () => {
    let topic: MessageTopic;
    const signal = AbortSignal.timeout(50_000);
    beforeAll(async () => {
      topic = await open();
    });
    afterAll(() => topic.close());

    it('gives back what was sent, in order', async () => {
      const sent = messages('order', 5);
      await topic.send(sent, signal);
      const received = await collect(topic, 'order');
      expect(received).toEqual(sent.map((message) => ({ ...message, enqueuedAt: expect.any(Date) as Date })));
      for (const { enqueuedAt } of received) expect(enqueuedAt.getTime()).toBeGreaterThan(Date.UTC(2020));
    });

    it('takes the same ids again without showing them twice', async () => {
      const sent = messages('twice', 4);
      await topic.send(sent.slice(0, 3), signal);
      await topic.send(sent, signal);
      await topic.send(sent, signal);
      expect(idsOf(await collect(topic, 'twice'))).toEqual(idsOf(sent));
    });

    it('keeps messages that were read', async () => {
      await topic.send(messages('kept', 2), signal);
      expect(await collect(topic, 'kept')).toEqual(await collect(topic, 'kept'));
      expect(await collect(topic, 'kept')).toHaveLength(2);
    });

    it('splits what is larger than one message may be, and keeps the order', async () => {
      const sent = messages('large', 40, 'x'.repeat(20_000));
      await topic.send(sent, signal);
      expect(idsOf(await collect(topic, 'large'))).toEqual(idsOf(sent));
    });

    it('refuses a message beyond the limit', async () => {
      await expect(topic.send(messages('huge', 1, 'x'.repeat(300_000)), signal)).rejects.toMatchObject({
        code: 'MESSAGE_TOO_LARGE',
      });
      expect(await collect(topic, 'huge')).toEqual([]);
    });

    it('sends nothing for no messages, and nothing once the signal has aborted', async () => {
      await topic.send([], signal);
      const reason = new Error('stopping');
      await expect(topic.send(messages('late', 1), AbortSignal.abort(reason))).rejects.toBe(reason);
      expect(await collect(topic, 'late')).toEqual([]);
    });

    it('follows: shows what is sent after the tail has begun', async () => {
      await topic.send(messages('follow', 1), signal);
      const tail = topic.tail(signal);
      const received: string[] = [];
      for await (const message of tail) {
        if (!message.messageId.startsWith('follow:')) continue;
        received.push(message.messageId);
        if (received.length === 1) await topic.send(messages('follow', 3), signal);
        if (received.length === 3) break;
      }
      expect(received).toEqual(['follow:1', 'follow:2', 'follow:3']);
    });

    it('ends a waiting tail when its signal aborts, without an error', async () => {
      const stop = new AbortController();
      const known = (await collect(topic, '')).length;
      let seen = 0;
      const ended = (async () => {
        for await (const _ of topic.tail(stop.signal)) if (++seen === known) stop.abort();
      })();
      expect(await Promise.race([ended.then(() => 'ended'), delay(5000, 'waits', { ref: false })])).toBe('ended');
      for await (const _ of topic.tail(AbortSignal.abort())) seen++;
      expect(seen).toBe(known);
    });

    it('is of no use once closed', async () => {
      const other = await open();
      await other.send(messages('closed', 1), signal);
      await other.close();
      await other.close();
      await expect(other.send(messages('closed', 2), signal)).rejects.toMatchObject({ code: 'MESSAGING_UNAVAILABLE' });
      await expect(collect(other, '')).rejects.toMatchObject({ code: 'MESSAGING_UNAVAILABLE' });
    });
  });
}

/** Messages `{name}:1` … `{name}:{count}`. */
export const messages = (name: string, count: number, filler = ''): readonly OutgoingMessage[] =>
  Array.from({ length: count }, (_, i) => ({
    messageId: `${name}:${i + 1}`,
    subject: `points/${i + 1}`,
    body: { specversion: '1.0', data: { number: i + 1, ratio: 0.5, text: `grüße ${filler}`, none: null } },
    applicationProperties: { type: 'PointCreated', group: name, severity: 'info', number: i, flag: true },
  }));

export const idsOf = (list: readonly { readonly messageId: string }[]): readonly string[] =>
  list.map((message) => message.messageId);

/** All messages there are whose ids begin with the name. */
export async function collect(topic: MessageTopic, name: string): Promise<readonly ReceivedMessage[]> {
  const received: ReceivedMessage[] = [];
  for await (const message of topic.tail(AbortSignal.timeout(20_000), { follow: false })) {
    if (name === '' || message.messageId.startsWith(`${name}:`)) received.push(message);
  }
  return received;
}
