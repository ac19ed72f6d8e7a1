import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import { changePolicy, parsePolicy, POLICY_DEFAULTS } from '../../src/retention/policy.ts';

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof TidemarkError && error.code === 'POLICY_INVALID') return error.message;
    throw error;
  }
  return 'accepted';
}

describe('parsePolicy', () => {
  it('fills in the defaults', () => {
    expect(parsePolicy({})).toEqual({
      retentionHours: 24,
      appConsistentHours: 4,
      rpoThresholdMinutes: 15,
      logRetentionHours: 0,
    });
  });

  it.each([
    ['retentionHours', 0, { retentionHours: 0 }],
    ['retentionHours', 360, { retentionHours: 360 }],
    ['appConsistentHours', 0, { appConsistentHours: 0 }],
    ['appConsistentHours', 12, { appConsistentHours: 12 }],
    ['rpoThresholdMinutes', 1, { rpoThresholdMinutes: 1 }],
    ['rpoThresholdMinutes', 1440, { rpoThresholdMinutes: 1440 }],
    ['logRetentionHours', 72, { logRetentionHours: 72 }],
  ] as const)('accepts the limit %s = %d', (field, value, input) => {
    expect(parsePolicy(input)[field]).toBe(value);
  });

  it.each([
    [{ retentionHours: -1 }, 'retentionHours is -1, but must be a whole number of hours from 0 to 360'],
    [{ retentionHours: 361 }, 'retentionHours is 361, but must be a whole number of hours from 0 to 360'],
    [{ retentionHours: 1.5 }, 'retentionHours is 1.5, but'],
    [{ retentionHours: '24' }, 'retentionHours is "24", but'],
    [{ retentionHours: Number.NaN }, 'retentionHours is NaN, but'],
    [{ retentionHours: Number.POSITIVE_INFINITY }, 'retentionHours is Infinity, but'],
    [{ retentionHours: null }, 'retentionHours is null, but'],
    [{ appConsistentHours: 13 }, 'appConsistentHours is 13, but must be a whole number of hours from 0 to 12'],
    [{ appConsistentHours: -1.5 }, 'appConsistentHours is -1.5, but'],
    [{ rpoThresholdMinutes: 0 }, 'rpoThresholdMinutes is 0, but must be a whole number of minutes from 1 to 1440'],
    [{ rpoThresholdMinutes: 1441 }, 'rpoThresholdMinutes is 1441, but'],
    [{ logRetentionHours: 73 }, 'logRetentionHours is 73, but must be a whole number of hours from 0 to 72'],
    [
      { retentionHours: 4, appConsistentHours: 4 },
      'appConsistentHours is 4, but must be smaller than retentionHours (4)',
    ],
    [
      { retentionHours: 0, appConsistentHours: 1 },
      'appConsistentHours is 1, but must be smaller than retentionHours (0)',
    ],
    [{ retention: 24 }, 'a policy has no "retention"'],
    [[], 'a policy is an object of numbers'],
    [null, 'a policy is an object of numbers'],
  ])('refuses %j', (input, message) => {
    expect(refusal(() => parsePolicy(input))).toContain(message);
  });

  it('says one sentence per bad value', () => {
    const message = refusal(() => parsePolicy({ retentionHours: -1.5, rpoThresholdMinutes: 0, logRetentionHours: 99 }));
    expect(message.split('; ').map((part) => part.split(' ')[0])).toEqual([
      'retentionHours',
      'rpoThresholdMinutes',
      'logRetentionHours',
    ]);
  });

  it.each([
    [0, 0],
    [1, 0],
    [2, 1],
    [4, 3],
    [5, 4],
    [360, 4],
  ])('with a retention of %d h and no interval named, app-consistent points come every %d h', (retentionHours, app) => {
    expect(parsePolicy({ retentionHours }).appConsistentHours).toBe(app);
  });

  it('accepts what it returned, and nothing outside the limits', () => {
    const field = fc.oneof(fc.integer({ min: -5, max: 1500 }), fc.double());
    fc.assert(
      fc.property(fc.record({ retentionHours: field, appConsistentHours: field }, { requiredKeys: [] }), (input) => {
        const message = refusal(() => parsePolicy(input));
        if (message !== 'accepted') {
          expect(message).toMatch(/retentionHours|appConsistentHours/);
          return;
        }
        const policy = parsePolicy(input);
        expect(parsePolicy(policy)).toEqual(policy);
        expect(policy.retentionHours).toBeLessThanOrEqual(360);
        expect(policy.retentionHours).toBeGreaterThanOrEqual(0);
        expect(policy.appConsistentHours === 0 || policy.appConsistentHours < policy.retentionHours).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

describe('changePolicy', () => {
  const current = { retentionHours: 72, appConsistentHours: 6, rpoThresholdMinutes: 30, logRetentionHours: 12 };

  it('keeps what is not named', () => {
    expect(changePolicy(current, { rpoThresholdMinutes: 5 })).toEqual({ ...current, rpoThresholdMinutes: 5 });
    expect(changePolicy(current, {})).toEqual(current);
    expect(changePolicy(current, { retentionHours: undefined })).toEqual(current);
  });

  it('lowers an interval that is not named below a shorter retention, and never raises it', () => {
    expect(changePolicy(current, { retentionHours: 6 }).appConsistentHours).toBe(5);
    expect(changePolicy(current, { retentionHours: 0 }).appConsistentHours).toBe(0);
    expect(changePolicy({ ...current, appConsistentHours: 0 }, { retentionHours: 24 }).appConsistentHours).toBe(0);
    expect(changePolicy(current, { retentionHours: 360 }).appConsistentHours).toBe(6);
  });

  it('refuses a named interval that does not fit', () => {
    expect(refusal(() => changePolicy(current, { retentionHours: 6, appConsistentHours: 6 }))).toContain(
      'smaller than',
    );
    expect(refusal(() => changePolicy(POLICY_DEFAULTS, { retentionHours: 400 }))).toContain('from 0 to 360');
  });
});
