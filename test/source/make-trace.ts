/** Writes small dm-log-writes traces for tests. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';

export type MadeEntry =
  | { readonly kind: 'write'; readonly timeUs: number; readonly sector: number; readonly data: Buffer }
  | { readonly kind: 'discard'; readonly timeUs: number; readonly sector: number; readonly sectors: number }
  | { readonly kind: 'mark'; readonly timeUs: number; readonly text: string }
  | { readonly kind: 'flush'; readonly timeUs: number };

/** The log file's bytes. Sectors are log sectors of `sectorBytes`. */
export function encodeLog(entries: readonly MadeEntry[], sectorBytes = 512): Buffer {
  const header = Buffer.alloc(sectorBytes);
  header.writeBigUInt64LE(0x6a_7366_7773_6872n, 0);
  header.writeBigUInt64LE(1n, 8);
  header.writeBigUInt64LE(BigInt(entries.length), 16);
  header.writeUInt32LE(sectorBytes, 24);
  const parts: Buffer[] = [header];
  for (const entry of entries) {
    const sector = Buffer.alloc(sectorBytes);
    parts.push(sector);
    if (entry.kind === 'flush') sector.writeBigUInt64LE(1n, 16);
    if (entry.kind === 'mark') {
      sector.writeBigUInt64LE(8n, 16);
      const text = Buffer.from(`${entry.text}\0`);
      sector.writeBigUInt64LE(BigInt(text.length), 24);
      text.copy(sector, 32);
    }
    if (entry.kind === 'write' || entry.kind === 'discard') {
      const sectors = entry.kind === 'write' ? entry.data.length / sectorBytes : entry.sectors;
      sector.writeBigUInt64LE(BigInt(entry.sector), 0);
      sector.writeBigUInt64LE(BigInt(sectors), 8);
      sector.writeBigUInt64LE(entry.kind === 'discard' ? 4n : 0n, 16);
    }
    if (entry.kind === 'write') parts.push(entry.data);
  }
  return Buffer.concat(parts);
}

export const encodeTimes = (timesUs: readonly number[]): string =>
  `idx,seq,t_in_us,t_done_us,rwbs\n${timesUs.map((t, i) => `${i},${i},${t},${t + 1},W\n`).join('')}`;

export interface MadeDisk {
  readonly entries: readonly MadeEntry[];
  readonly image?: Buffer;
  readonly sectorBytes?: number;
}

/** Writes the folder; odd disks compressed, even ones plain. */
export async function writeTrace(folder: string, disks: readonly MadeDisk[]): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const [number, disk] of disks.entries()) {
    const files: Record<string, Uint8Array> = {
      [`disk${number}.log`]: encodeLog(disk.entries, disk.sectorBytes),
      [`disk${number}.times.csv`]: Buffer.from(encodeTimes(disk.entries.map(({ timeUs }) => timeUs))),
    };
    if (disk.image !== undefined) files[`initial${number}.img`] = disk.image;
    for (const [name, bytes] of Object.entries(files)) {
      const packed = number % 2 === 1;
      await writeFile(join(folder, packed ? `${name}.zst` : name), packed ? zstdCompressSync(bytes) : bytes);
    }
  }
  return folder;
}
