import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Throttle } from '../../src/azure/throttle.ts';
import { Scheduler, virtualClock } from '../simulation/scheduler.ts';

const live = new AbortController().signal;
const MOST = 16;

function throttled(random: () => number = () => 0.5): { scheduler: Scheduler; throttle: Throttle } {
  const scheduler = new Scheduler();
  const waiting = virtualClock(
    scheduler,
    () => 0,
    () => true,
  );
  return { scheduler, throttle: new Throttle({ concurrency: MOST, waiting, random }) };
}

describe('a throttle', () => {
  it('sends nothing during a pause, and then half as many at once', async () => {
    const { scheduler, throttle } = throttled();
    throttle.refused(3000);
    expect(throttle.concurrency).toBe(MOST / 2);
    let startedAtMs = -1;
    void throttle.run(async () => {
      startedAtMs = scheduler.nowMs;
    }, live);
    await scheduler.runUntil(() => startedAtMs >= 0, 10);
    expect(startedAtMs).toBe(3000);
  });

  it('counts the refusals of one burst once, and takes the longest time that any of them asks for', () => {
    const { throttle } = throttled();
    throttle.refused(1000);
    expect(throttle.refused(5000)).toBe(5000);
    expect(throttle.refused(200)).toBe(5000);
    expect(throttle.concurrency).toBe(MOST / 2);
  });

  it('waits longer at each refusal when the account names no time, never twice the same', async () => {
    let roll = 0;
    const { scheduler, throttle } = throttled(() => (roll += 0.01));
    const pauses: number[] = [];
    for (let n = 0; n < 8; n++) {
      pauses.push(throttle.refused(undefined));
      await scheduler.runUntil(() => scheduler.waiting === 0, 10);
    }
    expect(new Set(pauses).size).toBe(pauses.length);
    expect(pauses[0]).toBeGreaterThanOrEqual(100);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(5000);
    expect(throttle.concurrency).toBe(1);
  });

  it('lets more through again as answers come, up to where it began', () => {
    const { throttle } = throttled();
    throttle.refused(0);
    let answers = 0;
    for (; throttle.concurrency < MOST; answers++) throttle.answered();
    expect(answers).toBe(8 + 9 + 10 + 11 + 12 + 13 + 14 + 15);
    for (let n = 0; n < 100; n++) throttle.answered();
    expect(throttle.concurrency).toBe(MOST);
  });

  it('lets go of who gives up waiting', async () => {
    const { throttle } = throttled();
    throttle.refused(60_000);
    const reason = new Error('stop now');
    const controller = new AbortController();
    const waiting = throttle.run(() => Promise.resolve(), controller.signal);
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });

  it('gets every request through an account that takes a few per second, in the end', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 60 }), async (perSecond, wanted) => {
        const { scheduler, throttle } = throttled();
        const taken = new Map<number, number>();
        let done = 0;
        const request = async (): Promise<void> => {
          for (;;) {
            const isTaken = await throttle.run(async () => {
              const second = Math.floor(scheduler.nowMs / 1000);
              const count = taken.get(second) ?? 0;
              await new Promise<void>((resolve) => scheduler.after(20, resolve));
              if (count >= perSecond) return false;
              taken.set(second, (taken.get(second) ?? 0) + 1);
              return true;
            }, live);
            if (isTaken) break;
            throttle.refused(undefined);
          }
          throttle.answered();
          done++;
        };
        for (let n = 0; n < wanted; n++) void request();
        await scheduler.runUntil(() => done === wanted, 20_000);
      }),
      { numRuns: 50 },
    );
  });
});
