/** Pure. What every implementation of {@link Compute} asks of its arguments, and how it tells its own resources from a stranger's. */
import { assert, TidemarkError } from '../errors.ts';
import { requireDiskSize, SECTOR_BYTES } from '../model/sizes.ts';
import type { DiskSpec, MachineSpec } from './compute.ts';

export type Tags = Readonly<Record<string, string>>;

const OWN_PREFIX = 'tidemark-';
/** On a disk whose upload has not ended; it is removed when the disk is whole. */
export const UPLOAD_TAG = 'tidemark-upload';
export const UNFINISHED = 'unfinished';

/** The tags that say whose a resource is. */
const ownTags = (tags: Tags): Map<string, string> =>
  new Map(Object.entries(tags).filter(([name]) => name.startsWith(OWN_PREFIX) && name !== UPLOAD_TAG));

export const isUnfinished = (tags: Tags): boolean => tags[UPLOAD_TAG] !== undefined;

/** @throws TidemarkError COMPUTE_CONFLICT unless both have the same `tidemark-*` tags */
export function requireSameOwner(what: string, wanted: Tags, found: Tags): void {
  const own = ownTags(wanted);
  const theirs = ownTags(found);
  const same = own.size === theirs.size && [...own].every(([name, value]) => theirs.get(name) === value);
  if (!same) throw new TidemarkError('COMPUTE_CONFLICT', `${what} exists with other tags: ${describe(theirs)}`);
}

/** @throws TidemarkError COMPUTE_CONFLICT unless the resource has all of `wanted` */
export function requireTags(what: string, wanted: Tags, found: Tags): void {
  if (Object.entries(wanted).every(([name, value]) => found[name] === value)) return;
  throw new TidemarkError('COMPUTE_CONFLICT', `${what} has other tags: ${describe(ownTags(found))}`);
}

/** @throws TidemarkError COMPUTE_CONFLICT */
export function requireSameSize(what: string, wantedBytes: number, foundBytes: number): void {
  if (wantedBytes === foundBytes) return;
  throw new TidemarkError('COMPUTE_CONFLICT', `${what} has ${foundBytes} bytes; wanted are ${wantedBytes}`);
}

const describe = (tags: ReadonlyMap<string, string>): string =>
  tags.size === 0 ? 'none of tidemark' : [...tags].map(([name, value]) => `${name}=${value}`).join(', ');

/** A resource without such tags could not be told from a stranger's. */
export function assertTags(tags: Tags): void {
  assert(ownTags(tags).size > 0, `tags name their owner by ${OWN_PREFIX}*`);
  assert(tags[UPLOAD_TAG] === undefined, `${UPLOAD_TAG} is set by the upload itself`);
}

export function assertDisk(spec: DiskSpec): void {
  assertTags(spec.tags);
  requireDiskSize(spec.name, spec.sizeBytes);
}

export function assertMachine(spec: MachineSpec): void {
  assertTags(spec.tags);
  assert(spec.networkInterfaceIds.length > 0, 'a machine has a network interface');
  const luns = spec.dataDisks.map(({ lun }) => lun);
  assert(new Set(luns).size === luns.length, 'each data disk has a LUN of its own');
}

/** @throws TidemarkError ASSERTION unless the ranges are whole sectors within the disk and its footer */
export function assertRanges(
  spec: DiskSpec,
  ranges: readonly { readonly offsetBytes: number; readonly lengthBytes: number }[],
): void {
  for (const { offsetBytes, lengthBytes } of ranges) {
    const whole = offsetBytes % SECTOR_BYTES === 0 && lengthBytes % SECTOR_BYTES === 0;
    const inside = offsetBytes >= 0 && lengthBytes > 0 && offsetBytes + lengthBytes <= spec.sizeBytes + SECTOR_BYTES;
    assert(whole && inside, `range ${offsetBytes}+${lengthBytes} is no range of sectors of the disk`);
  }
}

/** @throws TidemarkError ASSERTION for a URL with a query: a secret, or a snapshot, which cannot be imported */
export function assertSource(sourceUrl: string): void {
  const url = URL.canParse(sourceUrl) ? new URL(sourceUrl) : undefined;
  assert(url !== undefined && url.search === '' && url.hash === '', 'the source is the plain URL of a page blob');
}
