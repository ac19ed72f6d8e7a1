/** What the tests of many seeds share: they only differ in the seeds, so that they run side by side. */
import { describe, expect, it } from 'vitest';
import { extent } from '../support/extent.ts';
import { simulate } from './simulate.ts';

export const SEEDS_PER_FILE = extent({ quick: 250, full: 1000 });
const SEEDS_PER_TEST = 125;
/** Everything that a life may meet; a fault that never happens is not tested. */
const HAPPENINGS = [
  'at-made',
  'clock-jump',
  'crash-after',
  'crash-before',
  'kill',
  'late',
  'latest-made',
  'list-lag',
  'lost-answer',
  'never',
  'partial',
  'policy',
  'ship',
  'start',
  'steal',
  'stop',
  'throttled',
  'unavailable',
];

export function simulateSeeds(first: number, count: number): void {
  describe('whatever happens to a group, its points are right', () => {
    const happened = new Map<string, number>();
    let points = 0;
    let pruned = 0;
    for (let from = first; from < first + count; from += SEEDS_PER_TEST) {
      const end = Math.min(first + count, from + SEEDS_PER_TEST);
      it(`seeds ${from} to ${end - 1}`, async () => {
        for (let seed = from; seed < end; seed++) {
          const result = await simulate(seed);
          points += result.points;
          pruned += result.pruned;
          for (const [what, times] of result.happened) happened.set(what, (happened.get(what) ?? 0) + times);
        }
      });
    }

    it('and everything has happened', () => {
      for (const what of HAPPENINGS) expect(happened.get(what) ?? 0, what).toBeGreaterThan(count / 50);
      expect(points).toBeGreaterThan(5 * count);
      expect(pruned).toBeGreaterThan(count / 2);
    });
  });
}
