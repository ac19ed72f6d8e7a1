import type { ModelEvent } from '../support/model-log.ts';

/** Writes, discards and marks in turn; every seventh event lies exactly on a boundary, and one mark is lost on disk1. */
const scenario = (count: number): ModelEvent[] =>
  Array.from({ length: count }, (_, i) => ({
    gapUs: i % 7 === 3 ? ('boundary' as const) : 70_000_000,
    what: i % 5 === 4 ? 'mark' : i % 4 === 2 ? 'discard' : 'write',
    sector: (i * 389) % 2000,
    sectors: 1 + ((i * 31) % 300),
    fill: 1 + ((i * 17) % 250),
    disk: i % 3,
    lostOn: i === 14 ? 1 : null,
    skewUs: 0,
    markKind: 'app',
  }));

/** About half an hour. */
export const SHORT_SCENARIO = scenario(24);
/** About three and a half hours: longer than a retention of two. */
export const LONG_SCENARIO = scenario(150);
