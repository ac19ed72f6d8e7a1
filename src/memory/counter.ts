/** Pure. The only clock and source of names of the memory adapters: a counter. */
export interface Counter {
  /** 1, 2, 3 … */
  next(): number;
}

export function createCounter(): Counter {
  let value = 0;
  return { next: () => ++value };
}

const TICKS_PER_SECOND = 10_000_000;

export const etagOf = (tick: number): string => `"0x${tick.toString(16).toUpperCase().padStart(16, '0')}"`;

/** In storage's form, a time with 100 ns digits: ticks since 2000. */
export function snapshotTimeOf(tick: number): string {
  const seconds = Math.floor(tick / TICKS_PER_SECOND);
  const time = new Date(Date.UTC(2000, 0, 1) + seconds * 1000).toISOString().slice(0, 19);
  return `${time}.${String(tick % TICKS_PER_SECOND).padStart(7, '0')}Z`;
}
