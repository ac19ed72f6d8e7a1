/** A trace folder of one small disk, made by hand, and what its recovery points must hold. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeLog, encodeTimes, type MadeEntry } from '../source/make-trace.ts';
import { sha256 } from '../support/trace-oracle.ts';

const MIB = 1024 * 1024;
export const DISK_BYTES = 12 * MIB;
/** 40 s of trace: the demo stretches it by 67, to 44 min 40 s. */
export const END_US = 40_000_000;
export const STRETCH = 67;

const write = (timeUs: number, sector: number, sectors: number, fill: number): MadeEntry => ({
  kind: 'write',
  timeUs,
  sector,
  data: Buffer.alloc(sectors * 512, fill),
});

/** Writes to the first and last 4 MiB, none to the 4 MiB between them; overwrites, a discard and marks of all kinds. */
export const ENTRIES: readonly MadeEntry[] = [
  write(0, 0, 8, 0x11),
  { kind: 'flush', timeUs: 10 },
  write(5_000_000, 20_000, 64, 0x22),
  { kind: 'mark', timeUs: 6_000_000, text: 'app-consistent id=1' },
  write(9_000_000, 4, 8, 0x33),
  { kind: 'mark', timeUs: 12_000_000, text: 'crash-consistent id=2' },
  { kind: 'mark', timeUs: 13_000_000, text: 'fs-consistent id=3' },
  { kind: 'discard', timeUs: 20_000_000, sector: 20_016, sectors: 8 },
  write(25_000_000, 100, 2, 0x44),
  { kind: 'mark', timeUs: 30_000_000, text: 'app-consistent id=4' },
  write(35_000_000, 0, 1, 0x55),
  { kind: 'mark', timeUs: END_US, text: 'trace-end' },
];

const IMAGE = Buffer.alloc(MIB, 0x66);

/** The disk after the first `entries` entries, from the entries above. */
export function imageAfter(entries: number): Buffer {
  const image = Buffer.alloc(DISK_BYTES);
  IMAGE.copy(image);
  for (const entry of ENTRIES.slice(0, entries)) {
    if (entry.kind === 'write') entry.data.copy(image, entry.sector * 512);
    if (entry.kind === 'discard') image.fill(0, entry.sector * 512, (entry.sector + entry.sectors) * 512);
  }
  return image;
}

/** `wrongMark`: its hash in expect.json is another one. */
export async function writeSmallTrace(folder: string, wrongMark?: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  const marks = ENTRIES.flatMap((entry, index) => {
    if (entry.kind !== 'mark') return [];
    const hash = sha256(entry.text === wrongMark ? Buffer.alloc(1) : imageAfter(index));
    return [{ kind: 'any', text: entry.text, t_us: entry.timeUs, seq: index, idx: [index], sha256: [hash] }];
  });
  await writeFile(join(folder, 'disk0.log'), encodeLog(ENTRIES));
  await writeFile(join(folder, 'disk0.times.csv'), encodeTimes(ENTRIES.map(({ timeUs }) => timeUs)));
  await writeFile(join(folder, 'initial0.img'), IMAGE);
  await writeFile(join(folder, 'expect.json'), JSON.stringify({ disk_size: [DISK_BYTES], marks }));
  return folder;
}
