/** Writes one disk of a point to a local file. */
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { KIB, MIB } from '../model/sizes.ts';
import type { ByteRange, SeedReader } from '../seed/seed-store.ts';
import { vhdFooter } from '../seed/vhd-footer.ts';
import type { Manifest, ManifestDisk } from './manifest.ts';

/** Bytes per download, and how many run at once: 32 MiB in memory, and few requests. */
const READ_BYTES = 16 * MIB;
const READS_IN_FLIGHT = 2;
/** Zeroes between two ranges that are read along with them: another request takes longer than so many bytes. */
const MAX_GAP_BYTES = 64 * KIB;

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
 * The file appears under its name only when it is complete; holes stay holes. An existing file is replaced, anything else of that
 * name (a folder, a device) is refused before a byte is read.
 * @returns the file's length and the bytes of the snapshot that are in it, without its holes
 * @throws TidemarkError EXPORT_TARGET, SNAPSHOT_MISSING
 */
export async function exportDisk(options: ExportOptions): Promise<{ fileBytes: number; readBytes: number }> {
  const { seed, manifest, disk, format, outFile, signal } = options;
  await requireReplaceable(outFile);
  const ranges = await seed.ranges(disk.snapshot, disk.sizeBytes, signal);
  const totalBytes = ranges.reduce((sum, range) => sum + range.lengthBytes, 0);
  const footer = format === 'vhd' ? vhdFooter({ group: manifest.group, ...disk }, disk.sizeBytes) : undefined;
  const fileBytes = disk.sizeBytes + (footer?.length ?? 0);
  const partial = `${outFile}.partial`;
  const file = await open(partial, 'w').catch((error: unknown) => {
    throw targetError(error, outFile);
  });
  let readBytes = 0;
  try {
    await file.truncate(fileBytes);
    await mapAll(planReads(ranges), READS_IN_FLIGHT, signal, async ({ offsetBytes, lengthBytes, parts }, either) => {
      const bytes = await seed.read(disk.snapshot, offsetBytes, lengthBytes, either);
      for (const part of parts) {
        const from = part.offsetBytes - offsetBytes;
        await writeWhole(file, bytes.subarray(from, from + part.lengthBytes), part.offsetBytes);
        readBytes += part.lengthBytes;
      }
      options.onProgress?.(readBytes, totalBytes);
    });
    if (footer !== undefined) await writeWhole(file, footer, disk.sizeBytes);
    await file.sync();
    await file.close();
    await rename(partial, outFile);
  } catch (error) {
    await file.close(); // closed already: nothing happens
    await rm(partial, { force: true });
    throw targetError(error, outFile);
  }
  return { fileBytes, readBytes };
}

/** @throws TidemarkError EXPORT_TARGET when something that is no file has the name: a rename would fail, or replace a device. */
async function requireReplaceable(outFile: string): Promise<void> {
  const existing = await stat(outFile).catch(() => undefined);
  if (existing === undefined || existing.isFile()) return;
  throw new TidemarkError('EXPORT_TARGET', `cannot write ${outFile}: it exists and is no regular file`);
}

/** A full disk takes a part of the bytes before it refuses the rest. */
async function writeWhole(file: FileHandle, bytes: Buffer, offsetBytes: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, offsetBytes + done);
    done += bytesWritten;
  }
}

/** Failures of the file system as what they mean to the operator; all others, such as those of storage, as they are. */
function targetError(error: unknown, outFile: string): unknown {
  if (!(error instanceof Error) || !('syscall' in error)) return error;
  return new TidemarkError('EXPORT_TARGET', `cannot write ${outFile}: ${error.message}`, { cause: error });
}

interface PlannedRead extends ByteRange {
  /** The ranges in it, ascending; what lies between them is zero. */
  readonly parts: readonly ByteRange[];
}

/** Reads of at most {@link READ_BYTES} that cover all of `ranges` (ascending, apart), together where they are close. */
export function* planReads(ranges: Iterable<ByteRange>): Generator<PlannedRead> {
  let parts: ByteRange[] = [];
  let offsetBytes = 0;
  let endBytes = 0;
  for (const range of ranges) {
    const rangeEnd = range.offsetBytes + range.lengthBytes;
    for (let at = range.offsetBytes; at < rangeEnd;) {
      const isFar = at - endBytes > MAX_GAP_BYTES || at - offsetBytes >= READ_BYTES;
      if (parts.length > 0 && isFar) {
        yield { offsetBytes, lengthBytes: endBytes - offsetBytes, parts };
        parts = [];
      }
      if (parts.length === 0) offsetBytes = at;
      endBytes = Math.min(rangeEnd, offsetBytes + READ_BYTES);
      parts.push({ offsetBytes: at, lengthBytes: endBytes - at });
      at = endBytes;
    }
  }
  if (parts.length > 0) yield { offsetBytes, lengthBytes: endBytes - offsetBytes, parts };
}
