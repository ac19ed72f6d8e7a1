import { beforeAll, describe, expect, it } from 'vitest';
import { WHOLE_DAMAGES } from './damage.ts';
import { judgeWorker, type WorkerVerdict } from './judge-worker.ts';

/** Seeds 1 to this; `npm run fuzz` goes on from there. */
const DAMAGED_LOGS = 250;

describe(`${DAMAGED_LOGS} damaged logs in front of a worker`, () => {
  const verdicts: WorkerVerdict[] = [];
  const findings: unknown[] = [];

  beforeAll(async () => {
    for (let seed = 1; seed <= DAMAGED_LOGS; seed++) {
      await judgeWorker(seed).then(
        (verdict) => verdicts.push(verdict),
        (error: unknown) => findings.push(error),
      );
    }
  });

  it('never touch a seed or a point, are reported once, and hold up no other group', () => {
    expect(findings.map(String)).toEqual([]);
  });

  it('end in each of the ways that there are', () => {
    const count = (end: WorkerVerdict['end']): number => verdicts.filter((verdict) => verdict.end === end).length;
    expect(count('resync')).toBeGreaterThan(DAMAGED_LOGS / 2);
    expect(count('sound')).toBeGreaterThan(DAMAGED_LOGS / 25);
    expect(count('operator')).toBeGreaterThan(0);
    expect(count('leap')).toBeLessThan(DAMAGED_LOGS / 20);
  });

  it('have segments missing, swapped, repeated and from elsewhere', () => {
    expect(WHOLE_DAMAGES.filter((name) => !verdicts.some(({ what }) => what[0] === name))).toEqual([]);
    expect(new Set(verdicts.map(({ code }) => code)).size).toBeGreaterThan(20);
  });
});
