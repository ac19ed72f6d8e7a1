/** Pure. Names of things and where they live in storage (the design's "Names in storage"). */
import { assert, TidemarkError } from '../errors.ts';

const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;

const isName = (value: string): boolean => NAME.test(value) && !value.includes('..');

/** @throws TidemarkError NAME_INVALID. Names become parts of blob names, so they hold no slash and no `..`. */
export function requireName(role: 'group' | 'machine' | 'disk' | 'policy' | 'point', value: string): string {
  if (!isName(value)) {
    throw new TidemarkError('NAME_INVALID', `${JSON.stringify(value.slice(0, 80))} is no valid ${role} name`);
  }
  return value;
}

/** One source disk of one group. */
export interface DiskKey {
  readonly group: string;
  readonly machine: string;
  readonly disk: string;
}

/** One replication log: a disk in one epoch (new at each initial replication or resync). */
export interface LogStream extends DiskKey {
  readonly epoch: number;
}

export const diskLabel = (key: { readonly machine: string; readonly disk: string }): string =>
  `${key.machine}/${key.disk}`;

/** First part of every blob name in the design is the container. */
export const CONTAINERS = {
  logs: 'replication-logs',
  seeds: 'seed-disks',
  catalog: 'catalog',
  failover: 'failover',
  pointDisks: 'point-disks',
} as const;

/** Largest sequence that fits the 12 digits of a segment's name. */
export const MAX_SEQUENCE = 999_999_999_999;
/** Largest epoch that fits the 8 digits of a segment's name. */
export const MAX_EPOCH = 99_999_999;

/** Prefix of a stream's segments inside the logs container, with a trailing slash. */
export function streamPrefix(stream: LogStream): string {
  assert(Number.isInteger(stream.epoch) && stream.epoch >= 1 && stream.epoch <= MAX_EPOCH, 'epoch out of range');
  return `${stream.group}/${stream.machine}/${stream.disk}/${String(stream.epoch).padStart(8, '0')}/`;
}

export function segmentName(stream: LogStream, sequence: number): string {
  assert(Number.isInteger(sequence) && sequence >= 1 && sequence <= MAX_SEQUENCE, 'sequence out of range');
  return `${streamPrefix(stream)}${String(sequence).padStart(12, '0')}.seg`;
}

/** The sequence in a segment's blob name below `streamPrefix`, or undefined when the name is none of ours. */
export function sequenceOfSegmentName(stream: LogStream, name: string): number | undefined {
  const match = /^(\d{12})\.seg$/.exec(name.slice(streamPrefix(stream).length));
  const sequence = match === null ? 0 : Number(match[1]);
  return sequence >= 1 ? sequence : undefined;
}

/** The stream whose prefix this is, or undefined when the prefix is none of ours. */
export function streamOfPrefix(prefix: string): LogStream | undefined {
  const [group, machine, disk, digits, end, ...rest] = prefix.split('/');
  if (group === undefined || machine === undefined || disk === undefined || digits === undefined) return undefined;
  if (end !== '' || rest.length > 0 || ![group, machine, disk].every(isName)) return undefined;
  const epoch = /^\d{8}$/.test(digits) ? Number(digits) : 0;
  return epoch >= 1 ? { group, machine, disk, epoch } : undefined;
}

/** Name of the seed blob inside the seeds container. */
export const seedName = (key: DiskKey): string => `${key.group}/${key.machine}/${key.disk}.vhd`;

/** The disk of a seed blob's name, or undefined when the name is none of ours. */
export function diskOfSeedName(name: string): DiskKey | undefined {
  const [group, machine, file, ...rest] = name.split('/');
  if (group === undefined || machine === undefined || file?.endsWith('.vhd') !== true || rest.length > 0)
    return undefined;
  const disk = file.slice(0, -'.vhd'.length);
  return [group, machine, disk].every(isName) ? { group, machine, disk } : undefined;
}

/** Names of documents inside the catalog container. */
export const catalogName = {
  policy: (policy: string): string => `policies/${policy}.json`,
  policies: 'policies/',
  group: (group: string): string => `groups/${group}.json`,
  groups: 'groups/',
  progress: (group: string): string => `progress/${group}.json`,
  points: (group: string): string => `points/${group}/`,
  manifest: (group: string, point: string): string => `points/${group}/${point}.json`,
  changes: (group: string, point: string): string => `points/${group}/${point}.changes`,
  jobs: (group: string): string => `jobs/${group}/`,
  job: (group: string, job: string): string => `jobs/${group}/${job}.json`,
  runs: 'runs/',
  run: (run: string): string => `runs/${run}.json`,
  /** The decision about the n-th wait of a run's step. */
  approval: (run: string, step: string, wait: number): string => `approvals/${run}/${step}/${wait}.json`,
} as const;
