/** The point of a cut that all seed disks of a group stand at. */
import type { GroupDocument } from '../catalog/groups.ts';
import { makePoint } from '../points/make-point.ts';
import type { Cut, Manifest } from '../points/manifest.ts';
import type { Policy } from '../retention/policy.ts';
import type { OwnedGroup } from './group-owner.ts';
import type { WorkerPorts } from './ports.ts';
import { storedPosition } from './progress.ts';

export interface CutPointOptions {
  readonly owned: OwnedGroup;
  readonly document: Pick<GroupDocument, 'policy'>;
  readonly policy: Policy;
  readonly ports: Pick<WorkerPorts, 'catalog' | 'clock'>;
  readonly signal: AbortSignal;
}

/** Makes the point, or finds it made, and lets the disks' changes count from it. The caller writes that down. */
export async function makeCutPoint(options: CutPointOptions, cut: Cut): Promise<Manifest> {
  const { owned, document, policy, ports, signal } = options;
  const { progress, disks, manifests, group, lease } = owned;
  const manifest = await makePoint({
    catalog: ports.catalog,
    group,
    cut,
    disks: disks.map(({ drain, orphans }) => ({
      stream: drain.stream,
      sizeBytes: drain.sizeBytes,
      seed: drain.seed,
      copy: null,
      position: drain.place.position,
      snapshot: drain.snapshot,
      changes: drain.changes,
      orphans,
    })),
    // The first point of an epoch begins anew: its changes count from an empty disk.
    previousPoint: disks.every(({ drain }) => drain.snapshot === null) ? null : (progress.newestPoint?.id ?? null),
    policy: { ...policy, policy: document.policy },
    createdAtUs: ports.clock.nowUs(),
    confirm: (either) => lease.renew(either),
    signal,
  });
  const listed = manifests.findIndex(({ point }) => point === manifest.point); // committed before a crash
  if (listed < 0) manifests.push(manifest);
  else manifests[listed] = manifest;
  for (const [index, disk] of disks.entries()) {
    disk.drain.snapshot = manifest.disks[index]?.snapshot ?? null;
    disk.drain.changes = [];
    disk.cut = storedPosition(disk.drain.place.position);
    disk.orphans = [];
  }
  return manifest;
}
