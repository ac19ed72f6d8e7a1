/** Pure. Sizes in bytes, and how operators write them. */
import { TidemarkError } from '../errors.ts';

export const SECTOR_BYTES = 512;
export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** A seed disk is a standard page blob with a 512-byte footer, and a page blob holds at most 8 TiB. */
export const MAX_DISK_BYTES = 8 * TIB - MIB;

const UNITS: Readonly<Record<string, number>> = { '': 1, B: 1, KIB, MIB, GIB, TIB };

/** Parses `67108864`, `64MiB`, `8GiB`, `4TiB`. @throws TidemarkError USAGE */
export function parseSize(text: string): number {
  const match = /^(\d+)\s*([A-Za-z]*)$/.exec(text);
  const unit = match === null ? undefined : UNITS[(match[2] ?? '').toUpperCase()];
  const bytes = match === null || unit === undefined ? Number.NaN : Number(match[1]) * unit;
  if (!Number.isSafeInteger(bytes)) {
    throw new TidemarkError('USAGE', `${JSON.stringify(text)} is no size such as 64MiB, 8GiB or 67108864`);
  }
  return bytes;
}

/** `28.3 MiB`: one decimal below 100, none above. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** @throws TidemarkError GROUP_INVALID unless `sizeBytes` is a multiple of 1 MiB that fits a page blob. */
export function requireDiskSize(label: string, sizeBytes: number): number {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < MIB || sizeBytes % MIB !== 0 || sizeBytes > MAX_DISK_BYTES) {
    throw new TidemarkError(
      'GROUP_INVALID',
      `disk ${label} has ${sizeBytes} bytes; a size is a multiple of 1 MiB from 1 MiB to ${formatBytes(MAX_DISK_BYTES)}`,
    );
  }
  return sizeBytes;
}
