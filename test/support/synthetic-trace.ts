/** A small trace of one disk or two, for tests of which the writes are only the backdrop. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type MadeEntry, writeTrace } from '../source/make-trace.ts';

const MIB = 1024 * 1024;
export const SYNTHETIC_DISK_BYTES = 2 * MIB;
export const SYNTHETIC_SECONDS = 40;
const SECOND_US = 1_000_000;

/** Sectors of which no two are alike. */
function payload(seed: number, lengthBytes: number): Buffer {
  const data = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 512) data.fill(`${seed} ${at} `, at, at + 512);
  return data;
}

/** Four writes a second somewhere, a discard every seven seconds, an app mark at 5.5, 15.5, 25.5 and 35.5 seconds. */
function entriesOf(disk: number): MadeEntry[] {
  const entries: MadeEntry[] = [];
  for (let quarter = 0; quarter <= SYNTHETIC_SECONDS * 4; quarter++) {
    const timeUs = (quarter * SECOND_US) / 4;
    const sector = (quarter * 977 + disk * 131) % (SYNTHETIC_DISK_BYTES / 512 - 64);
    entries.push({ kind: 'write', timeUs, sector, data: payload(quarter * 2 + disk, 512 * (1 + (quarter % 24))) });
    if (quarter % 28 === 27) entries.push({ kind: 'discard', timeUs, sector: sector >> 1, sectors: 48 });
    if (quarter % 40 === 22) entries.push({ kind: 'mark', timeUs, text: `app-consistent id=${quarter}` });
  }
  return entries;
}

/** Writes the trace and the part of expect.json that oracles read. @returns the folder */
export async function writeSyntheticTrace(folder: string, diskCount: 1 | 2 = 2): Promise<string> {
  const disks = [0, 1]
    .slice(0, diskCount)
    .map((disk) => ({ entries: entriesOf(disk), image: payload(1000 + disk, MIB) }));
  await writeTrace(folder, disks);
  const places = disks.map(({ entries }) => entries.flatMap(({ kind }, index) => (kind === 'mark' ? [index] : [])));
  const marks = (disks[0]?.entries ?? [])
    .filter((entry) => entry.kind === 'mark')
    .map(({ text, timeUs }, nth) => ({
      kind: 'app',
      text,
      t_us: timeUs,
      idx: places.map((places) => places[nth]),
      sha256: [],
    }));
  const disk_size = disks.map(() => SYNTHETIC_DISK_BYTES);
  await writeFile(join(folder, 'expect.json'), JSON.stringify({ disk_size, marks, cuts: [] }));
  return folder;
}
