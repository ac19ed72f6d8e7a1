/** Time as the broker's entities see it, so that tests can turn the hands themselves. */
export interface Timers {
  /** Milliseconds since 1970. */
  now(): number;
  /** Runs `action` once, `delayMs` from now; the result cancels it. A waiting action does not keep the process alive. */
  later(delayMs: number, action: () => void): Cancel;
}

export type Cancel = () => void;

/** The longest delay of setTimeout, about 25 days. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export const systemTimers: Timers = {
  now: () => Date.now(),
  later(delayMs, action) {
    const timer = setTimeout(action, Math.min(Math.max(delayMs, 0), MAX_DELAY_MS));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
