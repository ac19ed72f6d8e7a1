import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextBatch } from '../../src/monitoring/cloud-event.ts';
import { type MonitoringEvent, progressKey } from '../../src/monitoring/events.ts';
import {
  acknowledge,
  enqueue,
  MAX_OUTBOX,
  MAX_OUTBOX_BYTES,
  newOutbox,
  outboxSchema,
  type OutboxState,
} from '../../src/monitoring/outbox.ts';
import { arbitraryEvent, pointCreated, progressOf, T0_US } from './arbitrary-events.ts';

const FIRST = T0_US / 1000;
const LAG: MonitoringEvent = {
  type: 'LagReported',
  data: { receivedRpoSeconds: 5, recoverableRpoSeconds: 99, backlogBytes: 0, disks: [] },
};
const sequences = (outbox: OutboxState) => outbox.queued.map((event) => event.sequence);

function fullOf(count: number): OutboxState {
  return enqueue(
    newOutbox(T0_US),
    Array.from({ length: count }, (_, i) => pointCreated(`p${i}`)),
    T0_US,
  );
}

describe('outbox', () => {
  it('counts on from the time of its making, so that a second life repeats no id', () => {
    const first = enqueue(newOutbox(T0_US), [pointCreated('a'), pointCreated('b')], T0_US);
    expect(sequences(first)).toEqual([FIRST, FIRST + 1]);
    const second = enqueue(newOutbox(T0_US + 2_000_000), [pointCreated('a')], T0_US);
    expect(sequences(second)).toEqual([FIRST + 2000]);
  });

  it('changes nothing of the outbox it was given', () => {
    const before = Object.freeze({ ...newOutbox(T0_US), queued: Object.freeze([]) });
    const after = enqueue(before, [pointCreated('a')], T0_US);
    expect(before.queued).toEqual([]);
    expect(after.queued).toHaveLength(1);
  });

  it('replaces a progress figure by the newest of its key, under a new sequence', () => {
    let outbox = enqueue(newOutbox(T0_US), [progressOf('os', 1), LAG, progressOf('data', 2)], T0_US);
    outbox = enqueue(outbox, [progressOf('os', 3), LAG], T0_US + 1);
    expect(outbox.queued.map((event) => [event.sequence - FIRST, event.type, event.data['appliedBytes']])).toEqual([
      [2, 'InitialReplicationProgress', 2],
      [3, 'InitialReplicationProgress', 3],
      [4, 'LagReported', undefined],
    ]);
  });

  it('gives a superseded figure and its successor different ids even when the first was sent', () => {
    const offered = enqueue(newOutbox(T0_US), [LAG], T0_US);
    const sent = nextBatch(offered, 'shop', 100);
    const later = acknowledge(enqueue(offered, [LAG], T0_US + 1), sent?.throughSequence ?? 0);
    const rest = nextBatch(later, 'shop', 100);
    expect(sent?.messages.map((message) => message.messageId)).toEqual([`shop:${FIRST}`]);
    expect(rest?.messages.map((message) => message.messageId)).toEqual([`shop:${FIRST + 1}`]);
  });

  it('acknowledges through a sequence, twice as well, and keeps what came later', () => {
    const outbox = fullOf(5);
    const acknowledged = acknowledge(outbox, FIRST + 2);
    expect(sequences(acknowledged)).toEqual([FIRST + 3, FIRST + 4]);
    expect(acknowledge(acknowledged, FIRST + 2)).toEqual(acknowledged);
    expect(() => acknowledge(outbox, FIRST + 5)).toThrow(expect.objectContaining({ code: 'ASSERTION' }));
  });

  it('refuses an event that does not match its schema, and queues none of the others', () => {
    const outbox = newOutbox(T0_US);
    const bad = { type: 'PointsPruned', data: { removed: [], kept: 0.5 } } as const;
    expect(() => enqueue(outbox, [pointCreated('a'), bad], T0_US)).toThrow(
      expect.objectContaining({ code: 'ASSERTION' }),
    );
    expect(outbox.queued).toEqual([]);
  });

  it('when full, lets progress figures make room for facts and leaves new figures out', () => {
    const outbox = enqueue(fullOf(MAX_OUTBOX - 2), [LAG, progressOf('os', 1)], T0_US);
    expect(outbox.queued).toHaveLength(MAX_OUTBOX);
    expect(enqueue(outbox, [progressOf('data', 1)], T0_US)).toEqual(outbox);
    const fact = enqueue(outbox, [pointCreated('one'), pointCreated('two')], T0_US);
    expect(fact.queued).toHaveLength(MAX_OUTBOX);
    expect(fact.queued.filter((event) => progressKey(event) !== undefined)).toEqual([]);
    expect(() => enqueue(fact, [pointCreated('three')], T0_US)).toThrow(
      expect.objectContaining({ code: 'OUTBOX_FULL', class: 'retry' }),
    );
    expect(enqueue(acknowledge(fact, FIRST), [pointCreated('three')], T0_US).queued).toHaveLength(MAX_OUTBOX);
  });

  it('is bounded in bytes as well', () => {
    const removed = Array.from({ length: 400 }, (_, i) => ({ point: `p${i}`, reason: 'r'.repeat(200) }));
    const large: MonitoringEvent = { type: 'PointsPruned', data: { removed, kept: 1 } };
    let outbox = newOutbox(T0_US);
    let count = 0;
    const fill = () => {
      for (; count < MAX_OUTBOX; count++) outbox = enqueue(outbox, [large], T0_US);
    };
    expect(fill).toThrow(expect.objectContaining({ code: 'OUTBOX_FULL' }));
    const bytes = JSON.stringify(outbox.queued).length;
    expect(bytes).toBeLessThan(MAX_OUTBOX_BYTES);
    expect(bytes).toBeGreaterThan(MAX_OUTBOX_BYTES * 0.9);
  });

  it('stays a valid document, sends every fact once and in order, whatever is sent and acknowledged when', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('enqueue' as const), events: fc.array(arbitraryEvent, { maxLength: 3 }) }),
      fc.record({
        do: fc.constant('send' as const),
        limit: fc.integer({ min: 1, max: 4 }),
        acknowledged: fc.boolean(),
      }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 15 }), (steps) => {
        let outbox: OutboxState = newOutbox(T0_US);
        const facts: string[] = [];
        const arrived = new Map<string, string>();
        for (const next of [...steps, { do: 'send', limit: 1000, acknowledged: true } as const]) {
          if (next.do === 'enqueue') {
            outbox = enqueue(outbox, next.events, T0_US);
            facts.push(...next.events.filter((event) => progressKey(event) === undefined).map((event) => event.type));
          } else {
            const batch = nextBatch(outbox, 'shop', next.limit);
            for (const message of batch?.messages ?? []) {
              const body = JSON.stringify(message.body);
              expect(arrived.get(message.messageId) ?? body).toBe(body);
              arrived.set(message.messageId, body);
            }
            if (batch !== undefined && next.acknowledged) outbox = acknowledge(outbox, batch.throughSequence);
          }
          outbox = outboxSchema.parse(JSON.parse(JSON.stringify(outbox)));
        }
        expect(outbox.queued).toEqual([]);
        const types = [...arrived.values()].map((body) => {
          const { type, data } = JSON.parse(body) as { type: string; data: Record<string, unknown> };
          return { type: type.replace('Tidemark.', ''), data };
        });
        expect(types.filter((event) => progressKey(event) === undefined).map((event) => event.type)).toEqual(facts);
      }),
      { numRuns: 100 },
    );
  });

  it('as a document, refuses sequences that repeat or run ahead, and keeps types of a newer version', () => {
    const outbox = fullOf(2);
    const [first, second] = outbox.queued;
    expect(outboxSchema.safeParse(outbox).success).toBe(true);
    expect(outboxSchema.safeParse({ ...outbox, queued: [second, first] }).success).toBe(false);
    expect(outboxSchema.safeParse({ ...outbox, queued: [first, first] }).success).toBe(false);
    expect(outboxSchema.safeParse({ ...outbox, nextSequence: FIRST + 1 }).success).toBe(false);
    const newer = { ...outbox, queued: [{ ...first, type: 'FromTheFuture', data: { x: 1 } }] };
    expect(nextBatch(outboxSchema.parse(newer), 'shop', 9)?.messages[0]?.body).toMatchObject({
      type: 'Tidemark.FromTheFuture',
      data: { x: 1 },
    });
  });
});
