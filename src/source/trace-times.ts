/** Reads the times of a trace's log entries: a csv with a header row and one row per entry, in order. */
import { TidemarkError } from '../errors.ts';
import { readBytes } from './byte-source.ts';

/** A row is a handful of numbers and flags. */
const MAX_ROW_CHARS = 1024;

async function* readRows(file: string, signal: AbortSignal): AsyncGenerator<string, void, undefined> {
  let rest = '';
  for await (const chunk of readBytes(file, signal)) {
    const rows = (rest + chunk.toString('latin1')).split('\n');
    rest = rows.pop() ?? '';
    if (rest.length > MAX_ROW_CHARS) throw invalid(file, `a row is longer than ${MAX_ROW_CHARS} characters`);
    for (const row of rows) yield row.endsWith('\r') ? row.slice(0, -1) : row;
  }
  if (rest !== '') yield rest;
}

const invalid = (file: string, problem: string): TidemarkError =>
  new TidemarkError('TRACE_TIMES_INVALID', `${file}: ${problem}`, { details: { file } });

function parseTime(file: string, index: number, text: string): number {
  const timeUs = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(timeUs)) {
    throw invalid(file, `row ${index} has no whole number of microseconds in t_in_us`);
  }
  return timeUs;
}

/**
 * The time of each log entry (column `t_in_us`, microseconds of trace time), entry 0 first.
 * @throws TidemarkError TRACE_TIMES_INVALID for a missing column, a number that is none, a wrong `idx`, or time going backwards
 */
export async function* readTimes(file: string, signal: AbortSignal): AsyncGenerator<number, void, undefined> {
  const rows = readRows(file, signal);
  try {
    const header = await rows.next();
    const columns = (header.done === true ? '' : header.value).split(',');
    const timeColumn = columns.indexOf('t_in_us');
    const indexColumn = columns.indexOf('idx');
    if (timeColumn < 0) throw invalid(file, 'the header row has no column t_in_us');
    let index = 0;
    let previousUs = 0;
    for await (const row of rows) {
      if (row === '') continue;
      const cells = row.split(',');
      const timeUs = parseTime(file, index, cells[timeColumn] ?? '');
      if (indexColumn >= 0 && cells[indexColumn] !== String(index)) {
        throw invalid(file, `row ${index} is numbered ${JSON.stringify((cells[indexColumn] ?? '').slice(0, 20))}`);
      }
      if (timeUs < previousUs) throw invalid(file, `time goes back from ${previousUs} to ${timeUs} at row ${index}`);
      previousUs = timeUs;
      index++;
      yield timeUs;
    }
  } finally {
    await rows.return();
  }
}

/** The largest time in the file, 0 when it has no rows. @throws TidemarkError TRACE_TIMES_INVALID */
export async function lastTimeUs(file: string, signal: AbortSignal): Promise<number> {
  let lastUs = 0;
  for await (const timeUs of readTimes(file, signal)) lastUs = timeUs;
  return lastUs;
}
