/** Looks at the disks of a point as an operating system would, and judges what it finds by what the points before it held. */
import { pointReader, type CopyStore } from '../copies/copy-store.ts';
import { TidemarkError } from '../errors.ts';
import { inspectDisk } from '../inspect/inspect-disk.ts';
import { mapAll } from '../map-all.ts';
import { diskLabel } from '../model/names.ts';
import type { SeedStore } from '../seed/seed-store.ts';
import { pointDisk, type InspectedDisk, type Manifest, type ManifestDisk } from './manifest.ts';

const DISKS_AT_ONCE = 8;

export interface InspectOptions {
  readonly seeds: Pick<SeedStore, 'reader'>;
  readonly copies: Pick<CopyStore, 'reader'>;
  readonly manifest: Manifest;
  /** The points before it, oldest first. */
  readonly older: readonly Manifest[];
  readonly signal: AbortSignal;
}

/**
 * Writes nothing. A missing snapshot is damage.
 * @returns in the order of the manifest
 */
export async function inspectPoint(options: InspectOptions): Promise<InspectedDisk[]> {
  const { manifest, older, signal } = options;
  return mapAll(manifest.disks, DISKS_AT_ONCE, signal, async (cut, either) => {
    const { machine, disk, sizeBytes, snapshot } = cut;
    const seed = pointReader(options, pointDisk(manifest, cut));
    try {
      const read = (offsetBytes: number, lengthBytes: number, given: AbortSignal): Promise<Buffer> =>
        seed.read(snapshot, offsetBytes, lengthBytes, given);
      const { verdict, text } = await inspectDisk({ sizeBytes, read }, either);
      return { machine, disk, verdict, text, inherited: verdict === 'damaged' && !wasSound(older, cut) };
    } catch (error) {
      if (!(error instanceof TidemarkError) || error.code !== 'SNAPSHOT_MISSING') throw error;
      return { machine, disk, verdict: 'damaged', text: 'the snapshot is missing', inherited: false };
    }
  });
}

/** Damage counts when the disk was better before. */
export const isRecoverable = ({ verdict, inherited }: InspectedDisk): boolean => verdict !== 'damaged' || inherited;

/** Whether the newest point that tells has the disk sound, or already damaged in a way that counts. */
function wasSound(older: readonly Manifest[], cut: ManifestDisk): boolean {
  const before = inspectedBefore(older, cut);
  return before !== undefined && (before.verdict === 'ok' || !before.inherited);
}

/** What was found on the disk at the newest older point of its epoch at which something known was there. */
export function inspectedBefore(older: readonly Manifest[], cut: ManifestDisk): InspectedDisk | undefined {
  for (const { disks, verified } of older.toReversed()) {
    const isSameEpoch = disks.some((other) => diskLabel(other) === diskLabel(cut) && other.epoch === cut.epoch);
    const found = verified?.disks?.find((other) => diskLabel(other) === diskLabel(cut));
    if (isSameEpoch && found !== undefined && found.verdict !== 'unknown') return found;
  }
  return undefined;
}

/** The newest of these points whose disks were all inspected and can be recovered from; what an operator turns to instead. */
export const newestSound = (manifests: readonly Manifest[]): string | null =>
  manifests.findLast(({ verified }) => verified?.ok === true && verified.disks !== undefined)?.point ?? null;
