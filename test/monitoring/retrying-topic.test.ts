import { describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import type { MessageTopic, OutgoingMessage } from '../../src/monitoring/message-topic.ts';
import { MESSAGING_RETRY } from '../../src/retry.ts';
import { RetryingTopic } from '../../src/monitoring/retrying-topic.ts';
import { collect, idsOf, messages, messageTopicContract } from '../contracts/message-topic.contract.ts';

const signal = new AbortController().signal;
const memory = () => new MemoryTopic({ now: () => new Date(), duplicateWindowMs: 300_000 });

/** Fails the first sends after the topic has taken some of their messages, as a lost answer would. */
function losing(topic: MessageTopic, failures: readonly Error[], taken: number): MessageTopic {
  let call = 0;
  return {
    tail: (...args) => topic.tail(...args),
    close: () => topic.close(),
    send: async (list: readonly OutgoingMessage[], signal) => {
      const failure = failures[call++];
      await topic.send(failure === undefined ? list : list.slice(0, taken), signal);
      if (failure !== undefined) throw failure;
    },
  };
}

function retrying(topic: MessageTopic, sleep?: (ms: number) => Promise<void>) {
  const delaysMs: number[] = [];
  const record = async (milliseconds: number) => {
    delaysMs.push(milliseconds);
    await sleep?.(milliseconds);
  };
  return { delaysMs, topic: new RetryingTopic(topic, { ...MESSAGING_RETRY, sleep: record, random: () => 0.5 }) };
}

const down = () => new TidemarkError('MESSAGING_UNAVAILABLE', 'no answer');

messageTopicContract('a retrying memory topic', async () => retrying(memory()).topic);

describe('retrying topic', () => {
  it('gets every message through once when answers are lost', async () => {
    const { topic, delaysMs } = retrying(losing(memory(), [down(), down(), down()], 2));
    await topic.send(messages('a', 5), signal);
    expect(idsOf(await collect(topic, ''))).toEqual(['a:1', 'a:2', 'a:3', 'a:4', 'a:5']);
    expect(delaysMs).toEqual([375, 750, 1500]);
  });

  it('gives up after four calls with the last error', async () => {
    const last = down();
    const { topic, delaysMs } = retrying(losing(memory(), [down(), down(), down(), last, down()], 0));
    await expect(topic.send(messages('a', 1), signal)).rejects.toBe(last);
    expect(delaysMs).toHaveLength(3);
  });

  it('does not repeat what a person must repair', async () => {
    const refused = new TidemarkError('MESSAGING_REFUSED', 'no such topic');
    const { topic, delaysMs } = retrying(losing(memory(), [refused], 0));
    await expect(topic.send(messages('a', 1), signal)).rejects.toBe(refused);
    expect(delaysMs).toEqual([]);
  });

  it('stops between two calls when the signal aborts', async () => {
    const stop = new AbortController();
    const { topic } = retrying(losing(memory(), [down()], 0), async () => stop.abort(new Error('stopping')));
    await expect(topic.send(messages('a', 1), stop.signal)).rejects.toThrow('stopping');
    expect(await collect(topic, '')).toEqual([]);
  });
});
