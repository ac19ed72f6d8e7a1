/** Compares the points of a group with the plain replay of its trace, byte for byte. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, zstdDecompressSync } from 'node:zlib';
import { expect } from 'vitest';
import type { Operator } from '../support/cli.ts';
import { type ExpectedPoint, isoOf } from '../support/point-oracle.ts';
import { download, type RawStorage } from '../support/storage.ts';
import type { TraceReplay } from '../support/trace-oracle.ts';

/** As CLI.md promises it. */
export interface ListedPoint {
  readonly id: string;
  readonly kind: string;
  readonly cut: string;
  readonly created: string;
  readonly disks: readonly { machine: string; disk: string; sizeBytes: number; changedBytes: number }[];
  readonly pinned: boolean;
  readonly verified: unknown;
}

/** A protected disk, and the trace disk that plays it. */
export interface PlayedDisk {
  readonly machine: string;
  readonly disk: string;
  readonly replay: TraceReplay;
}

const PIECE_BYTES = 8 * 1024 * 1024;
const piece = Buffer.alloc(PIECE_BYTES);

/** The first offset at which file and image differ, -1 when they are equal; with `hash`, the file's SHA-256 is fed into it. */
function firstDifference(file: string, image: Buffer, hash?: ReturnType<typeof createHash>): number {
  if (statSync(file).size !== image.length) return Math.min(statSync(file).size, image.length);
  const fd = openSync(file, 'r');
  try {
    for (let at = 0; at < image.length;) {
      const read = readSync(fd, piece, 0, PIECE_BYTES, at);
      const bytes = piece.subarray(0, read);
      hash?.update(bytes);
      const wanted = image.subarray(at, at + read);
      if (!bytes.equals(wanted)) return at + bytes.findIndex((byte, index) => byte !== wanted[index]);
      at += read;
    }
    return -1;
  } finally {
    closeSync(fd);
  }
}

const ZEROES = Buffer.alloc(PIECE_BYTES);

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const part = bytes.subarray(at, at + PIECE_BYTES);
    if (!part.equals(ZEROES.subarray(0, part.length))) return false;
  }
  return true;
}

interface Extent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly checksum: string;
}

/** The `.changes` blob by disk, read as docs/points.md describes it. */
function readChanges(blob: Buffer): Map<string, Extent[]> {
  const [first, ...lines] = zstdDecompressSync(blob).toString('utf8').trimEnd().split('\n');
  expect(first).toBe('tidemark-changes 1');
  const disks = new Map<string, Extent[]>();
  for (const line of lines) {
    const [label = '', offset, length, checksum = ''] = line.split(' ');
    const extents = disks.get(label) ?? [];
    disks.set(label, extents);
    extents.push({ offsetBytes: Number(offset), lengthBytes: Number(length), checksum });
  }
  return disks;
}

/** Exactly the touched sectors, with checksums of what is in the image. */
function expectChanges(extents: readonly Extent[], touched: Uint8Array, image: Buffer): void {
  const listed = new Uint8Array(touched.length);
  let end = 0;
  const wrong: string[] = [];
  for (const { offsetBytes, lengthBytes, checksum } of extents) {
    expect(offsetBytes).toBeGreaterThanOrEqual(end);
    end = offsetBytes + lengthBytes;
    listed.fill(1, offsetBytes / 512, end / 512);
    const bytes = image.subarray(offsetBytes, end);
    const right = checksum === 'zero' ? isZero(bytes) : crc32(bytes) === Number.parseInt(checksum, 16);
    if (!right) wrong.push(`${offsetBytes} ${lengthBytes} ${checksum}`);
  }
  expect(wrong).toEqual([]);
  expect(Buffer.from(listed).equals(touched), 'the changes list names the sectors that were written').toBe(true);
}

/**
 * How closely a point is looked at. `list`: that it is listed; `changes`: its row, manifest and changes list as well; `snapshot`: and
 * every byte, of small disks read whole from storage; `export`: and every byte, by the command that exports it.
 */
export type Depth = 'list' | 'changes' | 'snapshot' | 'export';
type DepthOf = (index: number, points: readonly ExpectedPoint[]) => Depth;

/** The newest point is exported, the others are looked at as `depth` says. */
export const exportNewest =
  (depth: Depth): DepthOf =>
  (index, points) =>
    index === points.length - 1 ? 'export' : depth;

/** Exports the oldest and the newest point and the middle one of those at marks. */
export const exportSome: DepthOf = (index, points) => {
  const marks = points.filter(({ mark }) => mark !== null);
  const isMiddle = points[index] === marks[marks.length >> 1];
  return index === 0 || index === points.length - 1 || isMiddle ? 'export' : 'changes';
};

export interface VerifyOptions {
  readonly operator: Operator;
  readonly storage: RawStorage;
  readonly group: string;
  /** In the order of the trace's disks. */
  readonly disks: readonly PlayedDisk[];
  readonly expected: readonly ExpectedPoint[];
  /** How closely each point is looked at; every one is exported when left out. */
  readonly depthOf?: DepthOf;
  /** Folder for exported files. */
  readonly folder: string;
}

/** Lists the points, then compares every disk of every point with the replay. */
export async function verifyPoints(options: VerifyOptions): Promise<ListedPoint[]> {
  const { operator, group, expected, depthOf = () => 'export' } = options;
  const listed = await operator.json<ListedPoint[]>('point', 'list', group);
  expect(listed.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
  let previous: string | null = null;
  for (const [index, point] of expected.entries()) {
    const row = listed[index];
    if (row === undefined) throw new Error('the lists have one length');
    const depth = depthOf(index, expected);
    if (depth === 'list') moveTo(point, options.disks);
    else await verifyPoint({ ...options, depth, previous }, point, row);
    previous = point.id;
  }
  return listed;
}

function moveTo({ cuts }: ExpectedPoint, disks: readonly PlayedDisk[]): Uint8Array[] {
  return disks.map(({ replay }, index) => {
    const cut = cuts[index];
    if (cut === undefined) throw new Error('there is a cut per disk');
    replay.advance(cut);
    return replay.takeTouched();
  });
}

interface ManifestDisk {
  readonly machine: string;
  readonly disk: string;
  readonly snapshot: string;
}

/** Compares the bytes of one disk of a point, and those of an exported one with the hash that the recorder has noted at a mark. */
async function verifyDisk(
  options: VerifyOptions & { readonly depth: Depth },
  id: string,
  part: PlayedDisk & { readonly snapshot: string; readonly recorded: string | undefined },
): Promise<void> {
  const { operator, storage, group, folder, depth } = options;
  const { machine, disk, replay, snapshot, recorded } = part;
  let differsAt = -1;
  if (depth === 'export') {
    const file = join(folder, `${group}-${machine}-${disk}.img`);
    await operator.ok('point', 'export', group, id, '--disk', `${machine}/${disk}`, '--out', file);
    const exported = recorded === undefined ? undefined : createHash('sha256');
    differsAt = firstDifference(file, replay.image, exported);
    expect(exported?.digest('hex')).toBe(recorded);
    rmSync(file);
  } else if (depth === 'snapshot') {
    const blob = storage.seed(`${group}/${machine}/${disk}`).withSnapshot(snapshot);
    const bytes = await blob.downloadToBuffer(0, replay.image.length);
    if (!bytes.equals(replay.image)) differsAt = bytes.findIndex((byte, index) => byte !== replay.image[index]);
  }
  expect({ point: id, disk, differsAt }).toEqual({ point: id, disk, differsAt: -1 });
}

async function verifyPoint(
  options: VerifyOptions & { readonly depth: Depth; readonly previous: string | null },
  point: ExpectedPoint,
  row: ListedPoint,
): Promise<void> {
  const { operator, storage, group, disks, previous } = options;
  const changesBlob = storage.catalog.getBlobClient(`points/${group}/${point.id}.changes`);
  const [shown, changes] = await Promise.all([
    operator.json<{ manifest: { disks: readonly ManifestDisk[] } }>('point', 'show', group, point.id),
    download(changesBlob).then(readChanges),
  ]);
  expect(shown.manifest).toMatchObject({ point: point.id, mark: point.mark, previousPoint: previous });
  const rows = [];
  const touchedSectors = moveTo(point, disks);
  for (const [index, { machine, disk, replay }] of disks.entries()) {
    const touched = touchedSectors[index] ?? new Uint8Array();
    const snapshot = shown.manifest.disks.find((one) => one.machine === machine && one.disk === disk)?.snapshot ?? '';
    await verifyDisk(options, point.id, { machine, disk, replay, snapshot, recorded: point.recorded[index] });
    expectChanges(changes.get(`${machine}/${disk}`) ?? [], touched, replay.image);
    let changedBytes = 0;
    for (const sector of touched) changedBytes += sector * 512;
    rows.push({ machine, disk, sizeBytes: replay.image.length, changedBytes });
  }
  expect(row).toEqual({
    id: point.id,
    kind: point.kind,
    cut: isoOf(point.cutUs),
    created: expect.stringMatching(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/),
    disks: rows,
    pinned: false,
    // A worker has looked at app-consistent points, one in each cycle, and at no others.
    verified: point.kind === 'app' ? expect.toBeOneOf([null, expect.objectContaining({ ok: true })]) : null,
  });
}
