/**
 * Pure. The `.changes` blob of a point: which extents of each disk changed since the previous point, and what is there now.
 *
 * zstd over text lines, one per extent: `machine/disk offset length checksum`, where the checksum is eight hex digits of CRC-32, or
 * `zero`. The first line is `tidemark-changes 1`. Text, because it is read by people after an incident, and compresses well.
 */
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { ChangedExtent } from '../coalesce/change-list.ts';
import { TidemarkError } from '../errors.ts';
import { diskLabel } from '../model/names.ts';

const FIRST_LINE = 'tidemark-changes 1';
/** 16 machines with the most extents of one disk each, 64 bytes a line, is far below. */
const MAX_TEXT_BYTES = 512 * 1024 * 1024;

export interface DiskChanges {
  readonly machine: string;
  readonly disk: string;
  /** Ascending, free of overlaps, no checksum unknown. */
  readonly extents: readonly ChangedExtent[];
}

export function encodeChanges(disks: readonly DiskChanges[]): Buffer {
  const lines = [FIRST_LINE];
  for (const disk of disks) {
    const label = diskLabel(disk);
    for (const { offsetBytes, lengthBytes, checksum } of disk.extents) {
      const sum = typeof checksum === 'number' ? checksum.toString(16).padStart(8, '0') : checksum;
      lines.push(`${label} ${offsetBytes} ${lengthBytes} ${sum}`);
    }
  }
  return zstdCompressSync(Buffer.from(`${lines.join('\n')}\n`));
}

const LINE = /^([^/ ]+)\/([^/ ]+) (\d+) (\d+) ([0-9a-f]{8}|zero)$/;

/** @throws TidemarkError DOCUMENT_INVALID */
export function decodeChanges(bytes: Buffer): DiskChanges[] {
  const [first, ...lines] = zstdDecompressSync(bytes, { maxOutputLength: MAX_TEXT_BYTES }).toString('utf8').split('\n');
  if (first !== FIRST_LINE)
    throw new TidemarkError('DOCUMENT_INVALID', `a changes list does not begin with ${FIRST_LINE}`);
  const disks = new Map<string, { machine: string; disk: string; extents: ChangedExtent[] }>();
  for (const [index, line] of lines.entries()) {
    if (line === '' && index === lines.length - 1) break;
    const [, machine, disk, offset, length, sum] = LINE.exec(line) ?? [];
    if (machine === undefined || disk === undefined || sum === undefined) {
      throw new TidemarkError('DOCUMENT_INVALID', `line ${index + 2} of a changes list is damaged`);
    }
    const label = `${machine}/${disk}`;
    const entry = disks.get(label) ?? { machine, disk, extents: [] };
    disks.set(label, entry);
    entry.extents.push({
      offsetBytes: Number(offset),
      lengthBytes: Number(length),
      checksum: sum === 'zero' ? 'zero' : Number.parseInt(sum, 16),
    });
  }
  return [...disks.values()];
}
