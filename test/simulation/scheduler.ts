/** Virtual time: what waits is run in the order of its time, and nothing else makes time pass. */
import type { Clock } from '../../src/worker/ports.ts';

interface Task {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

export class Scheduler {
  #nowMs = 0;
  #order = 0;
  /** A binary heap: the earliest task first, among those of one time the one that was added first. */
  readonly #tasks: Task[] = [];
  /** Tasks run so far. */
  steps = 0;

  get nowMs(): number {
    return this.#nowMs;
  }

  get waiting(): number {
    return this.#tasks.length;
  }

  /** Whole milliseconds from now on. */
  after(delayMs: number, run: () => void): void {
    const tasks = this.#tasks;
    const task = { atMs: this.#nowMs + Math.max(0, Math.ceil(delayMs)), order: this.#order++, run };
    let at = tasks.length;
    tasks.push(task);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = tasks[parent];
      if (above === undefined || !isBefore(task, above)) break;
      tasks[at] = above;
      at = parent;
    }
    tasks[at] = task;
  }

  /** Runs tasks until `done` says so. @throws Error when nothing waits any more, or after `maxSteps`: then something hangs */
  async runUntil(done: () => boolean, maxSteps: number): Promise<void> {
    const lastStep = this.steps + maxSteps;
    await settled();
    while (!done()) {
      const task = this.#take();
      if (task === undefined) throw new Error(`nothing waits at ${this.#nowMs} ms, and it is not over`);
      if (++this.steps > lastStep) throw new Error(`no end after ${maxSteps} steps, at ${this.#nowMs} ms`);
      this.#nowMs = task.atMs;
      task.run();
      await settled();
    }
  }

  #take(): Task | undefined {
    const tasks = this.#tasks;
    const first = tasks[0];
    const last = tasks.pop();
    if (last === undefined || tasks.length === 0) return last;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      let best = tasks[child];
      const right = tasks[child + 1];
      if (best === undefined) break;
      if (right !== undefined && isBefore(right, best)) {
        best = right;
        child++;
      }
      if (!isBefore(best, last)) break;
      tasks[at] = best;
      at = child;
    }
    tasks[at] = last;
    return first;
  }
}

const isBefore = (a: Task, b: Task): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

/** Resolves when every promise that can go on has gone on: callbacks of promises all run before the next immediate. */
const settled = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** A clock on virtual time. `offsetUs` is what the wall clock adds to it; `isAlive`: the sleeps of a dead process never end. */
export function virtualClock(scheduler: Scheduler, offsetUs: () => number, isAlive: () => boolean): Clock {
  return {
    nowMs: () => scheduler.nowMs,
    nowUs: () => offsetUs() + scheduler.nowMs * 1000,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const abort = (): void => {
          if (isAlive()) reject(signal.reason as Error);
        };
        if (signal.aborted) return abort();
        signal.addEventListener('abort', abort, { once: true });
        scheduler.after(ms, () => {
          signal.removeEventListener('abort', abort);
          if (isAlive()) resolve();
        });
      }),
  };
}
