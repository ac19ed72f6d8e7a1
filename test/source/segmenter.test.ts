import { describe, expect, test } from 'vitest';
import { Segmenter } from '../../src/source/segmenter.ts';
import type { SegmentPlan } from '../../src/source/segmenter.ts';
import type { SourceRecord } from '../../src/source/source-records.ts';

const LIMITS = { payloadBytes: 2048, tableBytes: 4 * 32, ageUs: 100 };

const write = (timeUs: number, lengthBytes: number): SourceRecord => ({
  record: { kind: 'write', timeUs, offsetBytes: 0, lengthBytes },
  data: Buffer.alloc(lengthBytes),
});
const discard = (timeUs: number): SourceRecord => ({
  record: { kind: 'discard', timeUs, offsetBytes: 0, lengthBytes: 512 },
});
const mark = (timeUs: number, id: string): SourceRecord => ({
  record: { kind: 'mark', timeUs, markKind: 'app', id },
});
const shape = (plan: SegmentPlan | undefined): unknown =>
  plan && [plan.firstTimeUs, plan.endTimeUs, plan.entries.length, plan.payloadBytes];

describe('closing', () => {
  test('by payload: before the record that is too much, at its time', () => {
    const segmenter = new Segmenter(1000, LIMITS);
    expect(segmenter.add(write(1000, 1024))).toBeUndefined();
    expect(segmenter.add(write(1010, 1024))).toBeUndefined();
    expect(shape(segmenter.add(write(1020, 512)))).toEqual([1000, 1020, 2, 2048]);
    expect(shape(segmenter.finish(1020))).toEqual([1020, 1020, 1, 512]);
  });

  test('between two records of one time, the watermark is that time', () => {
    const segmenter = new Segmenter(1000, LIMITS);
    segmenter.add(write(1005, 2048));
    expect(shape(segmenter.add(write(1005, 2048)))).toEqual([1000, 1005, 1, 2048]);
    expect(shape(segmenter.add(write(1005, 2048)))).toEqual([1005, 1005, 1, 2048]);
  });

  test('a write above the limit has a segment of its own, and no empty one goes before it', () => {
    const segmenter = new Segmenter(1000, LIMITS);
    expect(segmenter.add(write(1000, 4096))).toBeUndefined();
    expect(shape(segmenter.add(discard(1001)))).toEqual([1000, 1001, 1, 4096]);
  });

  test('by the length of the record table, marks counting with their text', () => {
    const segmenter = new Segmenter(1000, LIMITS);
    for (let i = 0; i < 4; i++) expect(segmenter.add(discard(1000))).toBeUndefined();
    expect(shape(segmenter.add(discard(1000)))).toEqual([1000, 1000, 4, 0]);
    expect(segmenter.add(mark(1000, 'x'.repeat(32)))).toBeUndefined();
    expect(shape(segmenter.add(mark(1000, 'ö')))).toEqual([1000, 1000, 2, 0]);
  });

  test('by age, empty or not; a record at the deadline belongs to the next segment', () => {
    const segmenter = new Segmenter(1000, LIMITS);
    segmenter.add(discard(1099));
    expect(segmenter.deadlineUs).toBe(1100);
    expect(() => segmenter.add(discard(1100))).toThrow('full of age');
    expect(shape(segmenter.closeByAge())).toEqual([1000, 1100, 1, 0]);
    expect(shape(segmenter.closeByAge())).toEqual([1100, 1200, 0, 0]);
    expect(segmenter.add(discard(1200))).toBeUndefined();
  });

  test('the end closes what is left, and makes a heartbeat only where the watermark moves', () => {
    expect(new Segmenter(1000, LIMITS).finish(1000)).toBeUndefined();
    expect(new Segmenter(1000, LIMITS).finish(900)).toBeUndefined();
    expect(shape(new Segmenter(1000, LIMITS).finish(1001))).toEqual([1000, 1001, 0, 0]);
  });

  test('time that goes backwards is refused', () => {
    const segmenter = new Segmenter(1000, LIMITS);
    segmenter.add(discard(1050));
    expect(() => segmenter.add(discard(1049))).toThrow('backwards');
    expect(() => segmenter.finish(1049)).toThrow('watermark');
  });
});
