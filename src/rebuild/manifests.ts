/** Pure. The manifest of a proven point, and what has to be alike in two manifests of one point. */
import { createHash } from 'node:crypto';
import { isoFromUs, usFromIso } from '../model/time.ts';
import type { Manifest } from '../points/manifest.ts';
import type { ProvenPoint } from './prove.ts';

/**
 * The place in the log of a disk that did not change is that of the snapshot which it still uses: what lies between is no write.
 *
 * @param changesSha256 of the list that is still there; null: it is lost
 */
export function manifestOf({ id, head, disks }: ProvenPoint, changesSha256: string | null): Manifest {
  return {
    version: 1,
    point: id,
    group: head.group,
    kind: head.kind,
    cutUs: head.cutUs,
    cut: isoFromUs(head.cutUs),
    mark: head.mark ?? null,
    created: createdOf({ id, head, disks }),
    previousPoint: head.previousPoint ?? null,
    disks: disks.map(({ snapshot, copy, sizeBytes, facts }) => ({
      machine: facts.machine,
      disk: facts.disk,
      sizeBytes,
      snapshot,
      copy,
      changedBytes: facts.point === id ? (facts.changedBytes ?? 0) : 0,
      epoch: facts.epoch,
      sequence: facts.sequence,
      record: facts.record,
      logDigest: facts.logDigest,
    })),
    changesSha256,
    verified: null,
  };
}

/** Storage names a snapshot by the time it was taken; where it does not, the cut has to do. */
export function createdOf({ id, head, disks }: ProvenPoint): string {
  const name = disks.find(({ facts }) => facts.point === id)?.snapshot ?? '';
  try {
    return isoFromUs(usFromIso(name));
  } catch {
    return isoFromUs(head.cutUs);
  }
}

/** A digest of what makes a point: its cut, and where the bytes of its disks are. */
export function fingerprintOf({ point, kind, cutUs, disks }: Manifest): string {
  const lines = disks.map(
    ({ machine, disk, sizeBytes, copy, snapshot }) => `${machine}/${disk} ${sizeBytes} ${copy ?? ''} ${snapshot}\n`,
  );
  return createHash('sha256')
    .update(`${point} ${kind} ${cutUs}\n${lines.toSorted().join('')}`)
    .digest('hex');
}
