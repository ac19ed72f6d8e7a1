import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { planPrune } from '../../src/retention/plan.ts';
import { parsePolicy } from '../../src/retention/policy.ts';
import { GOLDEN_DAYS, goldenFile, goldenPlan, pointsUntil, pruneStepByStep, START_US } from './simulation.ts';
import { HOUR_US } from '../../src/model/time.ts';

/**
 * Counted by hand from ASR's table with the newest point at 10:25: 25 points in the window; then buckets of the grid, the oldest
 * one from the bucket that the retention cuts through, whose newest point is still young enough (for 15 days its keeper, an
 * app-consistent point, is not).
 */
const COUNTED = {
  1: 25 + 14 + 8 + 1,
  3: 25 + 7 + 2 * 12 + 4 + 1,
  7: 25 + 7 + 6 * 12 + 4 + 1,
  15: 25 + (7 + 6 * 12 + 4 + 1) + (3 + 7 * 6 + 3),
} as const;

describe.each(GOLDEN_DAYS)('a retention of %d days, point by point', (days) => {
  it('gives the golden plan', () => {
    expect(goldenPlan(days)).toEqual(JSON.parse(readFileSync(goldenFile(days), 'utf8')));
  });

  it('keeps as many points as counted by hand', () => {
    expect(goldenPlan(days).pointsKept).toBe(COUNTED[days]);
  });

  it('keeps the same points when it is pruned once at the end', () => {
    const arrivals = pointsUntil(START_US + (days + 1) * 24 * HOUR_US);
    const policy = parsePolicy({ retentionHours: days * 24 });
    const once = planPrune(arrivals, policy, { holds: [], nowUs: 0 });
    expect(pruneStepByStep(arrivals, policy).left.map(({ id }) => id)).toEqual(once.keep.map(({ id }) => id));
  });
});
