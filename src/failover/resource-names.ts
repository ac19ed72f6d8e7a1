/**
 * Pure. Names and tags of what a failover makes in Azure. The same job, machine and disk always give the same name, so that a repeated
 * step finds its own work.
 */
import { createHash } from 'node:crypto';
import type { CopyName } from '../copies/copy-store.ts';
import { diskLabel } from '../model/names.ts';

/** Azure's limits: managed disks 80 characters (letters, digits, dashes, underscores), virtual machines 64. */
export const MAX_DISK_NAME_CHARS = 80;
export const MAX_MACHINE_NAME_CHARS = 64;
const TEST_SUFFIX = '-test';
/** Hex digits that tell apart what the readable part of a name does not. */
const HASH_DIGITS = 8;

const hashOf = (...parts: readonly string[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, HASH_DIGITS);

interface MadeBy {
  readonly job: string;
  readonly isTest: boolean;
}

/** `{machine}-{disk}-{8 hex digits}`, with `-test` behind it in a test failover. The digits are of job, machine and disk. */
export function managedDiskName(
  disk: { readonly machine: string; readonly disk: string },
  { job, isTest }: MadeBy,
): string {
  const suffix = `-${hashOf(job, disk.machine, disk.disk)}${isTest ? TEST_SUFFIX : ''}`;
  const readable = `${disk.machine}-${disk.disk}`.replaceAll('.', '-');
  return `${readable.slice(0, MAX_DISK_NAME_CHARS - suffix.length)}${suffix}`;
}

/** `wanted`, with `-test` behind it in a test failover; one that is too long is cut and told apart by a hash. */
export function virtualMachineName(wanted: string, isTest: boolean): string {
  const suffix = isTest ? TEST_SUFFIX : '';
  if (wanted.length + suffix.length <= MAX_MACHINE_NAME_CHARS) return `${wanted}${suffix}`;
  const ending = `-${hashOf(wanted)}${suffix}`;
  return `${wanted.slice(0, MAX_MACHINE_NAME_CHARS - ending.length)}${ending}`;
}

export const copyName = (job: string, disk: { readonly machine: string; readonly disk: string }): CopyName =>
  `failover/${job}/${diskLabel(disk)}.vhd`;

/** What every resource of a job has, and what must be there before anything is deleted. */
export const jobTags = (group: string, job: string): Readonly<Record<string, string>> => ({
  'tidemark-group': group,
  'tidemark-job': job,
});
