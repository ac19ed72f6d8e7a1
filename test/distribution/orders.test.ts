import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cycleOrder,
  EVENT_SPAN_MS,
  eventOrder,
  groupOfEvent,
  moreOrder,
  pruneOrder,
} from '../../src/distribution/orders.ts';
import { segmentName } from '../../src/model/names.ts';

const name = fc
  .stringMatching(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,20}[A-Za-z0-9])?$/)
  .filter((text) => !text.includes('..'));
const time = fc.integer({ min: 0, max: 4_000_000_000_000 });

describe('the id of an order', () => {
  it('is one per group and period, whoever gives it', () => {
    fc.assert(
      fc.property(name, name, time, time, fc.integer({ min: 1, max: 300 }), (one, other, at, later, seconds) => {
        const periodMs = seconds * 1000;
        for (const orderOf of [cycleOrder, pruneOrder]) {
          const isSame = orderOf(one, periodMs, at).messageId === orderOf(other, periodMs, later).messageId;
          expect(isSame).toBe(one === other && Math.floor(at / periodMs) === Math.floor(later / periodMs));
        }
        expect(cycleOrder(one, periodMs, at).messageId).not.toBe(pruneOrder(one, periodMs, at).messageId);
      }),
    );
  });

  it('is short enough for Service Bus with the longest name', () => {
    const group = 'g'.repeat(63);
    for (const { messageId } of [
      cycleOrder(group, 300_000, 4e12),
      eventOrder(group, 4e12),
      moreOrder(group, '9'.repeat(20), 0),
    ]) {
      expect(messageId.length).toBeLessThanOrEqual(128);
    }
  });
});

it('an order for an event is kept back until no event of its span can come any more', () => {
  fc.assert(
    fc.property(time, fc.nat(2 * EVENT_SPAN_MS), (at, gapMs) => {
      const [first, second] = [eventOrder('g', at), eventOrder('g', at + gapMs)];
      expect(first.notBeforeMs).toBeGreaterThan(at);
      expect(first.notBeforeMs).toBeLessThanOrEqual(at + EVENT_SPAN_MS);
      if (first.messageId === second.messageId) expect(first.notBeforeMs).toBeGreaterThan(at + gapMs);
      else expect(first.notBeforeMs).toBeLessThanOrEqual(at + gapMs);
    }),
  );
});

describe('a cache event', () => {
  const segment = segmentName({ group: 'shop.1', machine: 'web', disk: 'disk0', epoch: 1 }, 7);
  const subject = `/blobServices/default/containers/replication-logs/blobs/${segment}`;

  it('names its group in either schema', () => {
    expect(groupOfEvent({ eventType: 'Microsoft.Storage.BlobCreated', subject, data: {} })).toBe('shop.1');
    expect(groupOfEvent({ specversion: '1.0', type: 'Microsoft.Storage.BlobCreated', subject })).toBe('shop.1');
  });

  it.each([
    ['no object', 'text'],
    ['null', null],
    ['another type', { eventType: 'Microsoft.Storage.BlobDeleted', subject }],
    ['no subject', { eventType: 'Microsoft.Storage.BlobCreated' }],
    [
      'another container',
      { eventType: 'Microsoft.Storage.BlobCreated', subject: subject.replace('replication-logs', 'catalog') },
    ],
    ['no segment', { eventType: 'Microsoft.Storage.BlobCreated', subject: `${subject}/more/and/more` }],
    ['a name that is none', { eventType: 'Microsoft.Storage.BlobCreated', subject: subject.replace('shop.1', '..') }],
  ])('is none: %s', (_, body) => {
    expect(groupOfEvent(body)).toBeUndefined();
  });
});
