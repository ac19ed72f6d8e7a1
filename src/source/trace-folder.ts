/** Finds the files of a trace folder, and which protected disk is played by which of its disks. */
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { TidemarkError } from '../errors.ts';
import { lastTimeUs } from './trace-times.ts';
import type { TraceFiles } from './trace-reader.ts';

export interface TraceDisk extends TraceFiles {
  /** `disk0`, `disk1`, … */
  readonly name: string;
  /** Absent: the disk was all zero before the first entry. */
  readonly imageFile: string | undefined;
}

export interface TraceFolder {
  readonly folder: string;
  /** By number, at least one. */
  readonly disks: readonly TraceDisk[];
}

const LOG_NAME = /^disk(\d{1,4})\.log(?:\.zst)?$/;

const notFound = (message: string, cause?: unknown): TidemarkError =>
  new TidemarkError('TRACE_NOT_FOUND', message, { cause });

async function namesIn(folder: string): Promise<ReadonlySet<string>> {
  try {
    return new Set(await readdir(folder));
  } catch (error) {
    throw notFound(`cannot list the trace folder ${folder}`, error);
  }
}

/** Compressed before plain, when both are there. */
const pick = (names: ReadonlySet<string>, name: string): string | undefined =>
  [`${name}.zst`, name].find((candidate) => names.has(candidate));

function diskFiles(folder: string, names: ReadonlySet<string>, number: string): TraceDisk {
  const log = pick(names, `disk${number}.log`);
  const times = pick(names, `disk${number}.times.csv`);
  const image = pick(names, `initial${number}.img`);
  if (log === undefined) throw notFound(`${folder} has no disk${number}.log or disk${number}.log.zst`);
  if (times === undefined) throw notFound(`${folder} has a log of disk${number}, but no disk${number}.times.csv(.zst)`);
  return {
    name: `disk${number}`,
    logFile: join(folder, log),
    timesFile: join(folder, times),
    imageFile: image === undefined ? undefined : join(folder, image),
  };
}

/** @throws TidemarkError TRACE_NOT_FOUND when the folder is missing, has no log, or a log without times. */
export async function openTraceFolder(folder: string): Promise<TraceFolder> {
  const names = await namesIn(folder);
  const numbers = new Set<string>();
  for (const name of names) {
    const number = LOG_NAME.exec(name)?.[1];
    if (number !== undefined) numbers.add(number);
  }
  if (numbers.size === 0) throw notFound(`${folder} holds no diskK.log or diskK.log.zst`);
  const sorted = [...numbers].sort((a, b) => Number(a) - Number(b));
  return { folder, disks: sorted.map((number) => diskFiles(folder, names, number)) };
}

/** The trace's end in microseconds: the largest time over all of its disks. Reads every times file once. */
export async function traceEndUs(disks: readonly TraceDisk[], signal: AbortSignal): Promise<number> {
  let endUs = 0;
  for (const file of new Set(disks.map(({ timesFile }) => timesFile))) {
    endUs = Math.max(endUs, await lastTimeUs(file, signal));
  }
  return endUs;
}

/**
 * The trace disk that FILE names: `disk1`, `disk1.log.zst`, or a path to such a log (its times and image lie next to it).
 * @throws TidemarkError TRACE_NOT_FOUND
 */
export async function findTraceDisk(trace: TraceFolder, file: string): Promise<TraceDisk> {
  const number = /^disk(\d{1,4})(?:\.log(?:\.zst)?)?$/.exec(basename(file))?.[1];
  if (number === undefined) throw notFound(`${JSON.stringify(file)} is no trace disk such as disk1 or disk1.log.zst`);
  if (basename(file) !== file) {
    const folder = dirname(file);
    return diskFiles(folder, await namesIn(folder), number);
  }
  const disk = trace.disks.find(({ name }) => name === `disk${number}`);
  if (disk !== undefined) return disk;
  throw notFound(`${trace.folder} has no disk${number}; it has ${trace.disks.map(({ name }) => name).join(', ')}`);
}

/** A disk of a protected machine, as far as matching needs it. */
export interface DiskName {
  readonly machine: string;
  readonly disk: string;
}

/**
 * Which trace disk plays which of `disks`: by `mapping` (keys `disk` or `machine/disk`), else by the same name. Disks without a match are
 * left out.
 * @throws TidemarkError TRACE_DISK_UNMATCHED when a key of the mapping names none of `disks`, or nothing matches; TRACE_NOT_FOUND
 */
export async function matchTraceDisks<D extends DiskName>(
  trace: TraceFolder,
  disks: readonly D[],
  mapping: ReadonlyMap<string, string>,
): Promise<readonly { readonly target: D; readonly files: TraceDisk }[]> {
  const used = new Set<string>();
  const matches: { readonly target: D; readonly files: TraceDisk }[] = [];
  for (const target of disks) {
    const key = [`${target.machine}/${target.disk}`, target.disk].find((candidate) => mapping.has(candidate));
    const file = key === undefined ? undefined : mapping.get(key);
    if (key !== undefined) used.add(key);
    const files =
      file === undefined ? trace.disks.find(({ name }) => name === target.disk) : await findTraceDisk(trace, file);
    if (files !== undefined) matches.push({ target, files });
  }
  const known = disks.map(({ machine, disk }) => `${machine}/${disk}`).join(', ');
  const stray = [...mapping.keys()].find((key) => !used.has(key));
  if (stray !== undefined) {
    throw new TidemarkError('TRACE_DISK_UNMATCHED', `--disk ${stray}=… names none of the disks ${known}`);
  }
  if (matches.length === 0) {
    const offered = trace.disks.map(({ name }) => name).join(', ');
    throw new TidemarkError(
      'TRACE_DISK_UNMATCHED',
      `none of the disks ${known} is called like a trace disk (${offered})`,
    );
  }
  return matches;
}
