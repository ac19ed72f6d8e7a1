/**
 * Which points a shipped trace must give, and what must be in them: the design's rules and a plain replay, with none of the code that
 * cuts or drains.
 */
import { type Cut, expectations, traceEnd, type TraceReplay } from './trace-oracle.ts';

const FIVE_MINUTES_US = 300_000_000;

/** A trace as it was shipped. */
export interface Shipment {
  readonly dir: string;
  readonly startUs: number;
  readonly stretch: number;
  /** Trace time before which it was shipped; to the trace's end when left out. */
  readonly untilUs?: number;
}

export interface ExpectedPoint {
  readonly id: string;
  readonly kind: 'crash' | 'app';
  readonly cutUs: number;
  /** Text of the mark, null at a boundary. */
  readonly mark: string | null;
  /** Per disk of the trace: which entries are in the point. */
  readonly cuts: readonly Cut[];
  /** Per disk: what the trace's recorder has computed, at marks. */
  readonly recorded: readonly (string | undefined)[];
}

/** Microseconds since 1970. Tests write times with at most six decimals. */
export const usOf = (iso: string): number => {
  const [, seconds, fraction = ''] = /^(.*?)(?:\.(\d+))?Z$/.exec(iso) ?? [];
  return Date.parse(`${seconds}Z`) * 1000 + Number(fraction.padEnd(6, '0'));
};

/** `2026-11-20T04:05:00.000000Z` */
export const isoOf = (timeUs: number): string =>
  `${new Date(Math.floor(timeUs / 1e6) * 1000).toISOString().slice(0, 20)}${String(timeUs % 1e6).padStart(6, '0')}Z`;

export const pointIdOf = (cutUs: number, kind: string): string => `${isoOf(cutUs).replaceAll(/[-:]/g, '')}-${kind}`;

export const endUsOf = ({ dir, startUs, stretch, untilUs }: Shipment): number =>
  startUs + (untilUs ?? traceEnd(dir)) * stretch;

/** Every multiple of five minutes from the start to the final watermark, both included. */
function boundaryPoints(shipment: Shipment, diskCount: number): ExpectedPoint[] {
  const { startUs, stretch } = shipment;
  const points: ExpectedPoint[] = [];
  const first = Math.ceil(startUs / FIVE_MINUTES_US) * FIVE_MINUTES_US;
  for (let cutUs = first; cutUs <= endUsOf(shipment); cutUs += FIVE_MINUTES_US) {
    const cut = { beforeUs: cutUs, startUs, stretch };
    const cuts = Array.from({ length: diskCount }, () => cut);
    points.push({ id: pointIdOf(cutUs, 'crash'), kind: 'crash', cutUs, mark: null, cuts, recorded: [] });
  }
  return points;
}

/** A mark of this kind is a bookmark when its text says so; the recorder's notes have other texts. */
function markPoints(shipment: Shipment, replays: readonly TraceReplay[], kind: 'crash' | 'app'): ExpectedPoint[] {
  const { dir, startUs, stretch, untilUs = Number.POSITIVE_INFINITY } = shipment;
  const marks = expectations(dir).marks.filter(({ text }) => text.startsWith(`${kind}-consistent `));
  return marks.flatMap(({ text, idx, sha256 }) => {
    const timesUs = replays.map((replay, disk) => replay.times[idx[disk] ?? -1] ?? Number.NaN);
    if (!timesUs.every((timeUs) => timeUs < untilUs)) return [];
    const cutUs = startUs + Math.max(...timesUs) * stretch;
    const cuts = idx.map((entries) => ({ entries }));
    return [{ id: pointIdOf(cutUs, kind), kind, cutUs, mark: text, cuts, recorded: sha256 }];
  });
}

/** Points oldest first. `boundaries`: what a group of one machine gets; `crash-marks`: a group of several. */
export function expectedPoints(
  shipment: Shipment,
  replays: readonly TraceReplay[],
  crashCuts: 'boundaries' | 'crash-marks',
): ExpectedPoint[] {
  const crash =
    crashCuts === 'boundaries' ? boundaryPoints(shipment, replays.length) : markPoints(shipment, replays, 'crash');
  return [...crash, ...markPoints(shipment, replays, 'app')].toSorted((a, b) => a.cutUs - b.cutUs);
}
