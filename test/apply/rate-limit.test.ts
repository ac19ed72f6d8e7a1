import { describe, expect, it } from 'vitest';
import { RateLimit } from '../../src/apply/rate-limit.ts';

/** A clock that only moves when somebody sleeps. */
function fakeTime() {
  let nowMs = 0;
  return {
    nowMs: () => nowMs,
    sleep: async (ms: number) => {
      nowMs += ms;
    },
  };
}

const signal = new AbortController().signal;

describe('RateLimit', () => {
  it('lets at most (t + 1) seconds of requests pass in t seconds', async () => {
    const time = fakeTime();
    const limit = new RateLimit({ requestsPerSecond: 500, bytesPerSecond: Number.MAX_SAFE_INTEGER }, time);
    for (let i = 0; i < 5000; i++) await limit.take(0, signal);
    expect(time.nowMs()).toBeGreaterThanOrEqual(8999);
    expect(time.nowMs()).toBeLessThanOrEqual(9001);
  });

  it('lets at most (t + 1) seconds of bytes pass in t seconds', async () => {
    const time = fakeTime();
    const limit = new RateLimit({ requestsPerSecond: 500, bytesPerSecond: 60 * 1024 * 1024 }, time);
    for (let i = 0; i < 60; i++) await limit.take(4 * 1024 * 1024, signal);
    expect(time.nowMs()).toBeCloseTo(3000, 0);
  });

  it('does not save up more than one second of a pause', async () => {
    const time = fakeTime();
    const limit = new RateLimit({ requestsPerSecond: 10, bytesPerSecond: 1e9 }, time);
    await time.sleep(60_000);
    for (let i = 0; i < 10; i++) await limit.take(0, signal);
    expect(time.nowMs()).toBe(60_000);
    await limit.take(0, signal);
    expect(time.nowMs()).toBeCloseTo(60_100, 6);
  });
});
