/** Writes one disk of a point to a local file. */
import { open, rename, rm } from 'node:fs/promises';
import { TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { MIB } from '../model/sizes.ts';
import type { ByteRange, SeedReader } from '../seed/seed-store.ts';
import { vhdFooter } from '../seed/vhd-footer.ts';
import type { Manifest, ManifestDisk } from './manifest.ts';

/** Bytes per download, and how many run at once (storage streams best with about four). */
const READ_BYTES = 4 * MIB;
const READS_IN_FLIGHT = 4;

/**
 * `selector` is a disk id, or `machine/disk` where machines of a group share disk ids.
 * @throws TidemarkError DISK_NOT_FOUND
 */
export function selectDisk(manifest: Manifest, selector: string): ManifestDisk {
  const matches = manifest.disks.filter(({ machine, disk }) => disk === selector || `${machine}/${disk}` === selector);
  const [match] = matches;
  if (match === undefined || matches.length > 1) {
    const all = manifest.disks.map(({ machine, disk }) => `${machine}/${disk}`).join(', ');
    const what = match === undefined ? 'has no disk' : 'has several disks named';
    throw new TidemarkError('DISK_NOT_FOUND', `point ${manifest.point} ${what} ${selector}; its disks are ${all}`);
  }
  return match;
}

export interface ExportOptions {
  readonly seed: SeedReader;
  readonly manifest: Manifest;
  readonly disk: ManifestDisk;
  /** `raw`: the disk's bytes, exactly its size. `vhd`: the same and the 512-byte footer. */
  readonly format: 'raw' | 'vhd';
  readonly outFile: string;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * The file appears under its name only when it is complete; holes stay holes. An existing file is replaced.
 * @returns the file's length and the bytes that were read from the snapshot
 * @throws TidemarkError EXPORT_TARGET, SNAPSHOT_MISSING
 */
export async function exportDisk(options: ExportOptions): Promise<{ fileBytes: number; readBytes: number }> {
  const { seed, manifest, disk, format, outFile, signal } = options;
  const ranges = await seed.ranges(disk.snapshot, disk.sizeBytes, signal);
  const totalBytes = ranges.reduce((sum, range) => sum + range.lengthBytes, 0);
  const footer = format === 'vhd' ? vhdFooter({ group: manifest.group, ...disk }, disk.sizeBytes) : undefined;
  const fileBytes = disk.sizeBytes + (footer?.length ?? 0);
  const partial = `${outFile}.partial`;
  const file = await open(partial, 'w').catch((cause: unknown) => {
    throw new TidemarkError('EXPORT_TARGET', `cannot write ${outFile}: ${String(cause)}`, { cause });
  });
  let readBytes = 0;
  try {
    await file.truncate(fileBytes);
    await mapAll(slices(ranges), READS_IN_FLIGHT, signal, async ({ offsetBytes, lengthBytes }, either) => {
      const bytes = await seed.read(disk.snapshot, offsetBytes, lengthBytes, either);
      await file.write(bytes, 0, lengthBytes, offsetBytes);
      readBytes += lengthBytes;
      options.onProgress?.(readBytes, totalBytes);
    });
    if (footer !== undefined) await file.write(footer, 0, footer.length, disk.sizeBytes);
    await file.sync();
  } catch (error) {
    await file.close();
    await rm(partial, { force: true });
    throw error;
  }
  await file.close();
  await rename(partial, outFile);
  return { fileBytes, readBytes };
}

function* slices(ranges: readonly ByteRange[]): Generator<ByteRange> {
  for (const range of ranges) {
    for (let at = 0; at < range.lengthBytes; at += READ_BYTES) {
      yield { offsetBytes: range.offsetBytes + at, lengthBytes: Math.min(READ_BYTES, range.lengthBytes - at) };
    }
  }
}
