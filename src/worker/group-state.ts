/** Pure. The state of a group follows from its disks. */
import type { DiskState } from './progress.ts';

/** The worst disk decides: one that needs a resync stops the group, one that is being copied delays its points. */
export function groupState(disks: readonly { readonly state: DiskState }[]): DiskState {
  if (disks.some(({ state }) => state === 'resync-required')) return 'resync-required';
  return disks.some(({ state }) => state === 'initial-replication') ? 'initial-replication' : 'protected';
}
