import { describe, expect, it } from 'vitest';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { collect, idsOf, messages, messageTopicContract } from '../contracts/message-topic.contract.ts';

messageTopicContract('memory', async () => new MemoryTopic({ now: () => new Date(), duplicateWindowMs: 300_000 }));

describe('memory topic', () => {
  const signal = new AbortController().signal;

  it('forgets ids after the window, as Service Bus does', async () => {
    let nowMs = Date.UTC(2026, 10, 23);
    const topic = new MemoryTopic({ now: () => new Date(nowMs), duplicateWindowMs: 1000 });
    await topic.send(messages('a', 1), signal);
    nowMs += 999;
    await topic.send(messages('a', 1), signal);
    expect(idsOf(await collect(topic, ''))).toEqual(['a:1']);
    nowMs += 1;
    await topic.send(messages('a', 1), signal);
    expect(idsOf(await collect(topic, ''))).toEqual(['a:1', 'a:1']);
  });

  it('has a quota', async () => {
    const topic = new MemoryTopic({ now: () => new Date(), duplicateWindowMs: 1000, maxMessages: 2 });
    await expect(topic.send(messages('a', 3), signal)).rejects.toMatchObject({ code: 'MESSAGING_UNAVAILABLE' });
    expect(idsOf(await collect(topic, ''))).toEqual(['a:1', 'a:2']);
  });

  it('gives away copies only', async () => {
    const topic = new MemoryTopic({ now: () => new Date(), duplicateWindowMs: 1000 });
    const body = { data: { n: 1 } };
    await topic.send([{ messageId: 'a', subject: 's', body, applicationProperties: {} }], signal);
    body.data.n = 2;
    const [first] = await collect(topic, '');
    Object.assign(first ?? {}, { body: 'changed' });
    expect((await collect(topic, '')).map((message) => message.body)).toEqual([{ data: { n: 1 } }]);
  });
});
