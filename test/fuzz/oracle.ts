/** What must come of logs as they are in the cache: read by the reference reader, replayed plainly. */
import { FIVE_MINUTES_US } from '../../src/model/time.ts';
import { DISK_BYTES } from '../support/model-log.ts';
import { judge, type ReferenceEntry } from './reference-reader.ts';
import { placeOf, type SoundLog } from './sound-logs.ts';

export interface ReadLog {
  readonly entries: readonly ReferenceEntry[];
  /** Records before segment `index + 1`. */
  readonly recordsBefore: readonly number[];
  readonly soundThrough: number;
  readonly watermarkUs: number;
  readonly defect: { readonly sequence: number; readonly codes: ReadonlySet<string> } | undefined;
}

/** Through the last sound segment. `unpacks: false`: as one reads who needs no payload that cannot be unpacked. */
export function readLog(log: SoundLog, blobs: ReadonlyMap<number, Buffer>, unpacks = true): ReadLog {
  const entries: ReferenceEntry[] = [];
  const recordsBefore: number[] = [];
  const last = Math.max(0, ...blobs.keys());
  let { previous, ...place } = placeOf(log, 1);
  let watermarkUs = 0;
  for (let sequence = 1; ; sequence++) {
    recordsBefore.push(entries.length);
    const read = (codes?: ReadonlySet<string>): ReadLog => {
      const defect = codes === undefined ? undefined : { sequence, codes };
      return { entries, recordsBefore, soundThrough: sequence - 1, watermarkUs, defect };
    };
    const bytes = blobs.get(sequence);
    if (bytes === undefined) return sequence > last ? read() : read(new Set(['LOG_SEQUENCE_GAP']));
    const judged = judge(bytes, { ...place, sequence, ...(previous !== undefined && { previous }) });
    const segment = 'sound' in judged ? judged.sound : unpacks ? undefined : judged.unpacked;
    if (segment === undefined) return read('codes' in judged ? judged.codes : undefined);
    for (const entry of segment.entries) entries.push(entry);
    previous = segment.tail;
    watermarkUs = previous.endTimeUs;
  }
}

export function replay(entries: readonly ReferenceEntry[]): Buffer {
  const image = Buffer.alloc(DISK_BYTES);
  for (const { kind, offsetBytes, lengthBytes, data } of entries) {
    if (kind === 'discard') image.fill(0, offsetBytes, offsetBytes + lengthBytes);
    data?.copy(image, offsetBytes);
  }
  return image;
}

export interface OraclePoint {
  readonly kind: 'crash' | 'app';
  readonly cutUs: number;
  readonly images: readonly Buffer[];
}

const baseOf = ({ entries }: ReadLog): number => entries.findIndex(({ kind }) => kind === 'base-complete');

/** The base copy, and every record before `cutUs`. */
const imageAt = (log: ReadLog, cutUs: number): Buffer => {
  const base = baseOf(log);
  return replay(log.entries.filter(({ timeUs }, index) => index < base || timeUs < cutUs));
};

/** Points at the boundaries that all logs have reached. */
export function crashPoints(logs: readonly ReadLog[]): OraclePoint[] {
  const bases = logs.map((log) => log.entries[baseOf(log)]?.timeUs ?? Number.POSITIVE_INFINITY);
  const first = Math.ceil(Math.max(...bases) / FIVE_MINUTES_US) * FIVE_MINUTES_US;
  const last = Math.min(...logs.map(({ watermarkUs }) => watermarkUs));
  const points: OraclePoint[] = [];
  for (let cutUs = first; cutUs <= last; cutUs += FIVE_MINUTES_US) {
    points.push({ kind: 'crash', cutUs, images: logs.map((log) => imageAt(log, cutUs)) });
  }
  return points;
}

interface PlacedMark {
  readonly id: string;
  readonly timeUs: number;
  readonly index: number;
}

const appMarks = (log: ReadLog): PlacedMark[] => {
  const base = baseOf(log);
  return log.entries.flatMap(({ mark, timeUs }, index) =>
    mark?.kind === 'app' && base >= 0 && index > base ? [{ id: mark.id, timeUs, index }] : [],
  );
};

/** Whether every disk has the same app marks at the same times, as far as it goes, each once: then it is plain what becomes of them. */
export function areMarksRegular(logs: readonly ReadLog[]): boolean {
  const all = logs.map((log) => appMarks(log).map(({ id, timeUs }) => `${timeUs} ${id}`));
  const [longest = []] = all.toSorted((a, b) => b.length - a.length);
  const ids = longest.map((mark) => mark.slice(mark.indexOf(' ')));
  return new Set(ids).size === ids.length && all.every((marks) => marks.every((mark, i) => mark === longest[i]));
}

/** Points at app marks that are on all disks; with irregular marks, more than will be made. */
export function appPoints(logs: readonly ReadLog[]): OraclePoint[] {
  const marks = logs.map(appMarks);
  const points: OraclePoint[] = [];
  for (const { id } of marks[0] ?? []) {
    const places = marks.map((ofDisk) => ofDisk.filter((mark) => mark.id === id));
    for (const combination of combinations(places)) {
      const images = combination.map(({ index }, disk) => replay((logs[disk]?.entries ?? []).slice(0, index)));
      points.push({ kind: 'app', cutUs: Math.max(...combination.map(({ timeUs }) => timeUs)), images });
    }
  }
  return points;
}

const combinations = <T>(lists: readonly (readonly T[])[]): T[][] =>
  lists.reduce<T[][]>((all, list) => all.flatMap((one) => list.map((item) => [...one, item])), [[]]);
