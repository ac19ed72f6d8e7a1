import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeEvent } from '../../src/monitoring/describe.ts';
import { fitEventData, MAX_LISTED } from '../../src/monitoring/event-limits.ts';
import {
  EVENT_CATALOGUE,
  EVENT_TYPES,
  type MonitoringEvent,
  parseEvent,
  requireEvent,
  severityOf,
} from '../../src/monitoring/events.ts';
import { arbitraryEvent, pointCreated } from './arbitrary-events.ts';

const fitted = (event: MonitoringEvent) => ({ ...event, data: fitEventData(event.data) }) as MonitoringEvent;

describe('event catalogue', () => {
  it('has a generator for every type', () => {
    const seen = new Set(fc.sample(arbitraryEvent, { numRuns: 500, seed: 1 }).map((event) => event.type));
    expect([...seen].sort()).toEqual([...EVENT_TYPES].sort());
  });

  it('takes every event after fitting, with a severity of its type and one line of text', () => {
    fc.assert(
      fc.property(arbitraryEvent, (event) => {
        const checked = requireEvent(fitted(event));
        expect(EVENT_CATALOGUE[event.type].severities).toContain(severityOf(checked));
        const text = describeEvent(checked);
        expect(text).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u);
        expect(text).not.toMatch(/undefined|NaN|\[object|null/);
      }),
      { numRuns: 300, examples: [[pointCreated('p1')]] },
    );
  });

  it('survives JSON: what is parsed back is what was checked', () => {
    fc.assert(
      fc.property(arbitraryEvent, (event) => {
        const checked = requireEvent(fitted(event));
        const wire: unknown = JSON.parse(JSON.stringify(checked.data));
        expect(parseEvent(checked.type, wire)).toEqual(checked);
      }),
      { numRuns: 200 },
    );
  });

  it('refuses a foreign field, a missing field and a foreign type', () => {
    const { data } = pointCreated('p1');
    expect(parseEvent('PointCreated', { ...data, extra: 1 })).toBeUndefined();
    expect(parseEvent('PointCreated', { ...data, cut: '2026-11-23T04:30:00Z' })).toBeUndefined();
    expect(parseEvent('PointCreated', {})).toBeUndefined();
    expect(parseEvent('toString', {})).toBeUndefined();
    expect(() => requireEvent({ type: 'PointsPruned', data: { removed: [], kept: -1 } })).toThrow(
      expect.objectContaining({ code: 'ASSERTION' }),
    );
  });

  it('cuts long lists and counts what it left out', () => {
    const removed = Array.from({ length: MAX_LISTED + 7 }, (_, i) => ({ point: `p${i}`, reason: 'beyond 24 h' }));
    const event = requireEvent(fitted({ type: 'PointsPruned', data: { removed, kept: 31 } }));
    expect(event.data).toMatchObject({ kept: 31, omitted: 7 });
    expect(describeEvent(event)).toBe(
      '407 points pruned, 31 kept: p0 (beyond 24 h), p1 (beyond 24 h), p2 (beyond 24 h) and 404 more',
    );
  });

  it('cuts texts without splitting a character', () => {
    const reason = `${'x'.repeat(998)}${'\u{1F30A}'.repeat(10)}`;
    const data = fitEventData({ reason, list: [{ text: 'y'.repeat(300) }] });
    expect(data['reason']).toHaveLength(1000);
    expect(String(data['reason']).isWellFormed()).toBe(true);
    expect(data['list']).toEqual([{ text: `${'y'.repeat(199)}…` }]);
  });

  it('keeps control characters of a hostile log off the terminal', () => {
    const text = describeEvent({
      type: 'ResyncRequired',
      data: {
        machine: 'web',
        disk: 'os',
        blob: 'g/a.seg',
        offset: 88,
        code: 'LOG_CHECKSUM',
        reason: 'mark \u001b[2J\n\u202Eid',
      },
    });
    expect(text).toBe('disk web/os needs a resync: LOG_CHECKSUM in g/a.seg at byte 88: mark  [2J id');
  });
});
