import type { Message } from 'rhea';
import { describe, expect, it } from 'vitest';
import { Directory } from '../../src/local/broker/directory.ts';
import { MAX_MESSAGES } from '../../src/local/broker/entity.ts';
import { Queue } from '../../src/local/broker/queue.ts';
import type { Timers } from '../../src/local/broker/timers.ts';

/** Timers whose hands the test turns; a single wait is cut short at `maxDelayMs`, as setTimeout does. */
function manualTimers(maxDelayMs = Infinity) {
  let nowMs = 1_000_000;
  const waiting = new Set<{ dueMs: number; action: () => void }>();
  const timers: Timers = {
    now: () => nowMs,
    later(delayMs, action) {
      const entry = { dueMs: nowMs + Math.min(delayMs, maxDelayMs), action };
      waiting.add(entry);
      return () => waiting.delete(entry);
    },
  };
  const advance = (byMs: number): void => {
    const endMs = nowMs + byMs;
    for (;;) {
      const [first] = [...waiting].filter(({ dueMs }) => dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs);
      if (first === undefined) break;
      waiting.delete(first);
      nowMs = Math.max(nowMs, first.dueMs);
      first.action();
    }
    nowMs = endMs;
  };
  return { timers, advance };
}

const message = (fields: Partial<Message> = {}): Message => ({ body: undefined, ...fields });
const bodies = (queue: Queue): unknown[] =>
  [...queue.messages.values()].map((record) => record.message.body as unknown);

describe('a queue', () => {
  const neighbours = new Directory({ Name: 'n' }, manualTimers().timers);

  it('refuses what is beyond its limit, and takes more once there is room', () => {
    const { timers, advance } = manualTimers();
    const queue = new Queue('q', { DefaultMessageTimeToLive: 'PT1M' }, { neighbours, timers });
    for (let index = 0; index < MAX_MESSAGES; index++) queue.send(message());
    expect(() => queue.send(message())).toThrow('holds 200000 messages already');
    advance(60_000);
    queue.sweep();
    expect(queue.messages.size).toBe(0);
    queue.send(message());
    expect(queue.messages.size).toBe(1);
  });

  it('delivers a message that is scheduled for longer than a timer can wait', () => {
    const dayMs = 86_400_000;
    const { timers, advance } = manualTimers(25 * dayMs);
    const queue = new Queue('q', {}, { neighbours, timers });
    const dueAt = new Date(timers.now() + 60 * dayMs);
    queue.send(message({ body: 'x', message_annotations: { 'x-opt-scheduled-enqueue-time': dueAt } }));
    const states = (): string[] => [...queue.messages.values()].map(({ state }) => state);
    advance(60 * dayMs - 1);
    expect(states()).toEqual(['scheduled']);
    advance(1);
    expect(states()).toEqual(['active']);
  });

  it('remembers ids for the window only', () => {
    const { timers, advance } = manualTimers();
    const properties = { RequiresDuplicateDetection: true, DuplicateDetectionHistoryTimeWindow: 'PT5M' };
    const queue = new Queue('q', properties, { neighbours, timers });
    for (const [waitMs, body] of [
      [0, 'first'],
      [299_999, 'duplicate'],
      [1, 'second'],
      [299_999, 'duplicate'],
    ] as const) {
      advance(waitMs);
      queue.send(message({ message_id: 'same', body }));
    }
    expect(bodies(queue)).toEqual(['first', 'second']);
  });
});
