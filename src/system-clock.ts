import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from './worker/ports.ts';

export const systemClock: Clock = {
  nowUs: () => Date.now() * 1000,
  nowMs: () => performance.now(),
  sleep: async (ms, signal) => {
    await sleep(Math.max(0, ms), undefined, { signal });
  },
};
