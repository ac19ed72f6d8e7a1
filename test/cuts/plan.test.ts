import { describe, expect, it } from 'vitest';
import { boundaryReachedBehindMark, stepAt, stopAtEnd, type WalkLimits } from '../../src/cuts/cursor.ts';
import { cutRules, decideCut, type DiskStop, type Stop } from '../../src/cuts/plan.ts';
import type { LogRecord } from '../../src/log/record.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';

const BOUNDARY = 6 * FIVE_MINUTES_US;
const mark = (id: string, timeUs: number, boundaryReached: boolean | 'unknown' = false): Stop => ({
  at: 'mark',
  id,
  kind: 'app',
  timeUs,
  boundaryReached,
});
const disks = (...stops: Stop[]): DiskStop[] => stops.map((stop, i) => ({ label: `m/disk${i}`, stop }));
const boundary: Stop = { at: 'boundary' };
const end: Stop = { at: 'end' };

describe('decideCut', () => {
  it('waits while any disk may still have records before the cut', () => {
    expect(decideCut(disks(boundary, end), BOUNDARY)).toEqual({ do: 'wait' });
    expect(decideCut(disks(mark('a', 5), end), BOUNDARY)).toEqual({ do: 'wait' });
    expect(decideCut([], BOUNDARY)).toEqual({ do: 'wait' });
  });

  it('cuts at the boundary that all disks have reached', () => {
    expect(decideCut(disks(boundary, boundary), BOUNDARY)).toEqual({
      do: 'cut',
      kind: 'crash',
      cutUs: BOUNDARY,
      mark: null,
    });
  });

  it('cuts at a mark of all disks, at the latest of its times', () => {
    expect(decideCut(disks(mark('a', 5), mark('a', 7)), BOUNDARY)).toEqual({
      do: 'cut',
      kind: 'app',
      cutUs: 7,
      mark: 'a',
    });
  });

  it('skips a mark that another disk has passed without it, and names that disk', () => {
    expect(decideCut(disks(mark('a', 5), boundary), BOUNDARY)).toMatchObject({
      do: 'skip-mark',
      id: 'a',
      missingOn: ['m/disk1'],
    });
    expect(decideCut(disks(mark('b', 9), mark('a', 5)), BOUNDARY)).toMatchObject({
      do: 'skip-mark',
      id: 'a',
      missingOn: ['m/disk0'],
    });
  });

  it('cuts at the boundary before a mark that straddles it, when no disk wrote in between', () => {
    expect(decideCut(disks(mark('a', BOUNDARY - 3, true), boundary), BOUNDARY)).toMatchObject({
      do: 'cut',
      kind: 'crash',
    });
    expect(decideCut(disks(mark('a', BOUNDARY - 3, 'unknown'), boundary), BOUNDARY)).toEqual({ do: 'wait' });
  });

  it('skips before it cuts at the boundary while every disk stands at some mark, so that cuts ascend', () => {
    const stops = disks(mark('a', 5, true), mark('b', 6, true));
    expect(decideCut(stops, BOUNDARY)).toMatchObject({ do: 'skip-mark', id: 'a', missingOn: ['m/disk1'] });
    expect(decideCut(disks(mark('a', 5, 'unknown'), mark('b', 6, 'unknown')), BOUNDARY)).toMatchObject({
      do: 'skip-mark',
    });
  });

  it('does not depend on the order of the disks', () => {
    const stops = [mark('b', 5), mark('a', 5), boundary];
    const decisions = [0, 1, 2].map((turn) =>
      decideCut(disks(...stops.slice(turn), ...stops.slice(0, turn)), BOUNDARY),
    );
    expect(new Set(decisions.map((d) => (d.do === 'skip-mark' ? d.id : d.do)))).toEqual(new Set(['a']));
  });
});

describe('a disk walks its log', () => {
  const single: WalkLimits = { rules: cutRules(1, true), boundaryUs: BOUNDARY };
  const multi: WalkLimits = { rules: cutRules(2, true), boundaryUs: null };
  const write = (timeUs: number): LogRecord => ({ kind: 'write', timeUs, offsetBytes: 0, lengthBytes: 512 });
  const markAt = (timeUs: number, markKind: 'app' | 'crash'): LogRecord => ({
    kind: 'mark',
    timeUs,
    markKind,
    id: 'x',
  });

  it('takes writes before the boundary and none at it', () => {
    expect(stepAt(write(BOUNDARY - 1), 0, single)).toBe('take');
    expect(stepAt(write(BOUNDARY), 0, single)).toBe('stop-at-boundary');
    expect(stopAtEnd(BOUNDARY, 0, single)).toEqual({ at: 'boundary' });
    expect(stopAtEnd(BOUNDARY - 1, 0, single)).toEqual({ at: 'end' });
    expect(stopAtEnd(null, null, single)).toEqual({ at: 'end' });
  });

  it('does not stop during the initial copy', () => {
    expect(stepAt(write(BOUNDARY + 1), null, single)).toBe('take');
    expect(stepAt(markAt(1, 'app'), null, single)).toBe('pass');
    expect(stopAtEnd(BOUNDARY + 1, null, single)).toEqual({ at: 'end' });
  });

  it('waits behind its own copy at the first boundary while other disks are copied', () => {
    const waiting = { ...single, boundaryUs: null };
    expect(stepAt(write(BOUNDARY), BOUNDARY - 5, waiting)).toBe('stop-at-boundary');
    expect(stepAt(write(BOUNDARY + 1), BOUNDARY + 1, waiting)).toBe('take');
    expect(stopAtEnd(BOUNDARY, BOUNDARY, waiting)).toEqual({ at: 'boundary' });
  });

  it('stops at the marks that the group cuts at', () => {
    expect(stepAt(markAt(1, 'app'), 0, single)).toBe('stop-at-mark');
    expect(stepAt(markAt(1, 'crash'), 0, single)).toBe('pass');
    expect(stepAt(markAt(1, 'crash'), 0, multi)).toBe('stop-at-mark');
    expect(stepAt(markAt(1, 'app'), 0, { ...single, rules: cutRules(1, false) })).toBe('pass');
    expect(stepAt(write(Number.MAX_SAFE_INTEGER), 0, multi)).toBe('take');
  });

  it('knows whether a mark stands at the boundary as well', () => {
    expect(boundaryReachedBehindMark([write(BOUNDARY - 1)], BOUNDARY, single)).toBe(false);
    expect(boundaryReachedBehindMark([markAt(BOUNDARY - 1, 'crash'), write(BOUNDARY)], BOUNDARY, single)).toBe(true);
    expect(boundaryReachedBehindMark([], BOUNDARY, single)).toBe(true);
    expect(boundaryReachedBehindMark([], BOUNDARY - 1, single)).toBe('unknown');
    expect(boundaryReachedBehindMark([], BOUNDARY, multi)).toBe(false);
  });
});
