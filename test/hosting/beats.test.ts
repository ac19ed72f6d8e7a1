/** Loops beat while they wait, and while nothing that they depend on answers: liveness is judged by nothing else. */
import { expect, it, onTestFinished } from 'vitest';
import { listen } from '../../src/distribution/listener.ts';
import { openCacheEventQueue, openWorkQueue } from '../../src/azure/service-bus-work.ts';
import { Scheduler, STEP_LIMIT_MS } from '../../src/distribution/scheduler.ts';
import { BEAT_LIMIT_MS } from '../../src/hosting/heartbeats.ts';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { systemClock } from '../../src/system-clock.ts';
import type { Clock } from '../../src/worker/ports.ts';
import type { CommandService } from '../../src/commands/commands.ts';
import { listenerOptions, startBroker } from '../commands/support.ts';

const PERIOD_MS = 300_000;

/** Sleeps take no time, but the clock goes on by as much. */
class QuickClock implements Clock {
  longestSleepMs = 0;
  #ms = Math.ceil(Date.now() / PERIOD_MS) * PERIOD_MS;
  nowMs(): number {
    return this.#ms;
  }
  nowUs(): number {
    return this.#ms * 1000;
  }
  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    await systemClock.sleep(0, signal);
    this.#ms += ms;
    this.longestSleepMs = Math.max(this.longestSleepMs, ms);
  }
}

/** Aborts when the loop has beaten so often; gives the longest time from one beat to the next. */
function watch(clock: Clock, beats: number) {
  const stopping = new AbortController();
  let lastMs: number | undefined;
  let count = 0;
  const watched = {
    longestMs: 0,
    signal: stopping.signal,
    beat: () => {
      if (lastMs !== undefined) watched.longestMs = Math.max(watched.longestMs, clock.nowMs() - lastMs);
      lastMs = clock.nowMs();
      if (++count === beats) stopping.abort(new Error('enough'));
    },
  };
  return watched;
}

async function scheduling(connectionString: string, clock: Clock) {
  const queue = openWorkQueue({ connectionString }, 'commands');
  const events = openCacheEventQueue({ connectionString }, 'cache-events');
  onTestFinished(async () => {
    await Promise.all([queue.close(), events.close()]);
  });
  const errors: unknown[] = [];
  const report = (error: unknown): void => void errors.push(error);
  const ports = { ...createMemoryStorage(), clock, random: () => 0.5 };
  return { errors, options: { ports, queue, events, periodMs: PERIOD_MS, report } };
}

it('beats while a scheduler waits for its next tick', async () => {
  const broker = await startBroker();
  onTestFinished(() => broker.close());
  const clock = new QuickClock();
  const { options, errors } = await scheduling(broker.connectionString, clock);
  const watched = watch(clock, 40);
  const beat = (loop: string): void => {
    if (loop === 'ticks') watched.beat();
  };
  const scheduler = new Scheduler({ ...options, beat });
  await scheduler.run(watched.signal);
  expect(scheduler.counters.ticks).toBeGreaterThan(1);
  expect(watched.longestMs).toBeLessThanOrEqual(10_000);
  expect(errors).toEqual([]);
});

it('beats between two attempts while the queue cannot be reached', async () => {
  const broker = await startBroker();
  const { connectionString } = broker;
  await broker.close();
  const clock = new QuickClock();
  const { options, errors } = await scheduling(connectionString, clock);
  const counts = new Map<string, number>();
  const stopping = new AbortController();
  const beat = (loop: string): void => {
    counts.set(loop, (counts.get(loop) ?? 0) + 1);
    if (['ticks', 'cache-events'].every((one) => (counts.get(one) ?? 0) > 1)) stopping.abort(new Error('enough'));
  };
  await new Scheduler({ ...options, beat }).run(stopping.signal);
  const watched = watch(clock, 8);
  const none = {} as CommandService; // no command comes
  const { reported, ...listening } = listenerOptions(connectionString, none, { clock, signal: watched.signal });
  onTestFinished(() => listening.queue.close());
  await listen({ ...listening, beat: watched.beat }, watched.signal);
  expect(clock.longestSleepMs + STEP_LIMIT_MS).toBeLessThan(BEAT_LIMIT_MS);
  expect([errors.length, reported.length]).toEqual([2, 1]); // once per streak
});
