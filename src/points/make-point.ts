/**
 * Makes the recovery point of a cut. The caller guarantees that every seed holds exactly the disk's content at the cut.
 *
 * Snapshots first, then the changes list, then the manifest: the manifest is the commit. Each step finds the work of an earlier,
 * interrupted attempt and takes it over, since the content of a cut is always the same.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Catalog } from '../catalog/catalog.ts';
import { readDocument } from '../catalog/documents.ts';
import { totalBytes, type ChangedExtent } from '../coalesce/change-list.ts';
import { MAX_PUT_BYTES } from '../coalesce/requests.ts';
import type { CopyName } from '../copies/copy-store.ts';
import type { LogPosition } from '../drain/log-reader.ts';
import { assert, TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName, diskLabel, type LogStream } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import type { SeedDisk, SeedReader, SnapshotInfo } from '../seed/seed-store.ts';
import { encodeChanges } from './changes-file.ts';
import { manifestSchema, pointId, type Cut, type Manifest, type ManifestDisk } from './manifest.ts';
import { isSameSnapshot, membersDigest, snapshotMetadata, type PolicyNote } from './snapshot-metadata.ts';

/** Disks whose snapshots are taken at the same time; one blob has one at a time. */
const DISKS_AT_ONCE = 8;

/** A disk that stands at the cut. */
export interface DiskAtCut {
  readonly stream: LogStream;
  readonly sizeBytes: number;
  /** The seed disk, or the copy that the point is built on. */
  readonly seed: SeedDisk;
  readonly copy: CopyName | null;
  readonly position: LogPosition;
  /** Snapshot of the previous point of `seed`, null before the first. */
  readonly snapshot: string | null;
  /** What changed since that snapshot. */
  readonly changes: readonly ChangedExtent[];
  /** Snapshots that no manifest names: left by an interrupted attempt. */
  readonly orphans: readonly SnapshotInfo[];
}

export interface MakePointOptions {
  readonly catalog: Catalog;
  readonly group: string;
  readonly cut: Cut;
  readonly disks: readonly DiskAtCut[];
  readonly previousPoint: string | null;
  /** The group's policy, noted for whoever has to rebuild a lost catalog. */
  readonly policy?: PolicyNote;
  /** Wall-clock time, for people only. */
  readonly createdAtUs: number;
  /** @throws TidemarkError OWNERSHIP_LOST unless the group is still this owner's */
  readonly confirm: (signal: AbortSignal) => Promise<void>;
  readonly signal: AbortSignal;
}

/** @returns the manifest that is in the catalog: the new one, or the one that an interrupted attempt had committed */
export async function makePoint(options: MakePointOptions): Promise<Manifest> {
  const { catalog, group, cut, disks, signal } = options;
  const point = pointId(cut);
  const committed = await readDocument(catalog, catalogName.manifest(group, point), manifestSchema, signal);
  if (committed !== undefined) {
    requireSameCut(committed.value, disks);
    if (await isWhole(committed.value, options)) return committed.value;
    // With its ETag: a later owner may have made it again by now.
    const deleted = await catalog.delete(catalogName.manifest(group, point), committed.etag, signal);
    if (deleted === 'changed') throw new TidemarkError('CONFLICT', `point ${point} is made by somebody else`);
  }

  const kept: (string | null)[] = disks.map(keptSnapshot);
  // Nothing changed at all: the first disk gets one all the same, since no other blob but the manifest would tell of the point.
  if (!kept.includes(null)) kept[0] = null;
  const members = membersDigest(disks.map((disk, index) => ({ ...memberOf(disk), snapshot: kept[index] ?? null })));
  const snapshots = await mapAll(
    disks,
    DISKS_AT_ONCE,
    signal,
    async (disk, either, place) => kept[place] ?? snapshotAtCut(options, { disk, place, members }, either),
  );
  const extents = await mapAll(disks, DISKS_AT_ONCE, signal, (disk, either, index) =>
    readBackUnknown(disk.seed, snapshots[index] ?? '', disk.changes, either),
  );
  const changes = encodeChanges(
    disks.map(({ stream }, index) => ({ machine: stream.machine, disk: stream.disk, extents: extents[index] ?? [] })),
  );
  await putChanges(options, catalogName.changes(group, point), changes);

  const manifest: Manifest = {
    version: 1,
    point,
    group,
    kind: cut.kind,
    cutUs: cut.cutUs,
    cut: isoFromUs(cut.cutUs),
    mark: cut.mark,
    created: isoFromUs(options.createdAtUs),
    previousPoint: options.previousPoint,
    disks: disks.map((disk, index): ManifestDisk => ({ ...diskAt(disk), snapshot: snapshots[index] ?? '' })),
    changesSha256: sha256(changes),
    verified: null,
  };
  assert(
    manifest.disks.every((disk) => disk.snapshot !== ''),
    'snapshots before manifest: every disk has one',
  );
  const created = await catalog.create(
    catalogName.manifest(group, point),
    Buffer.from(JSON.stringify(manifest, null, 1)),
    signal,
  );
  if (created !== undefined) return manifest;
  // A request that an earlier attempt had given up has come through, and the changes list may be ours by now: look at both anew.
  throw new TidemarkError('CONFLICT', `point ${point} was committed by an earlier attempt while it was being made`);
}

const digestAt = (position: LogPosition): string => (position.previous?.digest ?? Buffer.alloc(32)).toString('hex');

function diskAt({ stream, sizeBytes, copy, changes, position }: DiskAtCut): Omit<ManifestDisk, 'snapshot'> {
  return {
    machine: stream.machine,
    disk: stream.disk,
    sizeBytes,
    copy,
    changedBytes: totalBytes(changes),
    epoch: stream.epoch,
    sequence: position.sequence,
    record: position.record,
    logDigest: digestAt(position),
  };
}

/** One log gives one content per cut: a manifest of the same id with another place in the log is a defect, never a second truth. */
function requireSameCut(manifest: Manifest, disks: readonly DiskAtCut[]): void {
  for (const disk of disks) {
    const ours = diskAt(disk);
    const theirs = manifest.disks.find((d) => d.machine === ours.machine && d.disk === ours.disk);
    assert(
      theirs !== undefined &&
        theirs.epoch === ours.epoch &&
        theirs.sequence === ours.sequence &&
        theirs.record === ours.record &&
        theirs.logDigest === ours.logDigest,
      `point ${manifest.point} exists with another cut of ${diskLabel(disk.stream)}`,
    );
  }
}

/**
 * Whether everything behind a committed point is there. It always is where storage keeps what it has acknowledged; an emulator that was
 * killed between the snapshots and the manifest may have lost the former.
 */
async function isWhole(manifest: Manifest, { catalog, group, disks, signal }: MakePointOptions): Promise<boolean> {
  for (const { stream, seed } of disks) {
    const named = manifest.disks.find((d) => d.machine === stream.machine && d.disk === stream.disk)?.snapshot;
    if ((await seed.listSnapshots(signal)).every(({ snapshot }) => snapshot !== named)) return false;
  }
  if (manifest.changesSha256 === null) return true; // rebuilt, without a list
  const changes = await catalog.read(catalogName.changes(group, manifest.point), signal);
  return changes !== undefined && sha256(changes.bytes) === manifest.changesSha256;
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** The snapshot of the point before, when nothing has changed since. */
const keptSnapshot = ({ snapshot, changes }: DiskAtCut): string | null => (changes.length === 0 ? snapshot : null);

const memberOf = ({ stream: { machine, disk, epoch }, sizeBytes }: DiskAtCut) => ({ machine, disk, epoch, sizeBytes });

interface WantedSnapshot {
  readonly disk: DiskAtCut;
  /** Among the disks of the point, from 0. */
  readonly place: number;
  readonly members: string;
}

async function snapshotAtCut(
  { cut, disks, previousPoint, policy }: MakePointOptions,
  { disk, place, members }: WantedSnapshot,
  signal: AbortSignal,
): Promise<string> {
  const point = pointId(cut);
  const metadata = snapshotMetadata({
    ...diskAt(disk),
    group: disk.stream.group,
    point,
    kind: cut.kind,
    cutUs: cut.cutUs,
    mark: cut.mark,
    previousPoint,
    place,
    diskCount: disks.length,
    members,
    ...(policy === undefined ? {} : { policy }),
  });
  let adopted: string | undefined;
  for (const orphan of disk.orphans) {
    if (orphan.metadata['point'] !== point) continue;
    if (adopted === undefined && isSameSnapshot(orphan.metadata, metadata)) adopted = orphan.snapshot;
    else await disk.seed.deleteSnapshot(orphan.snapshot, signal);
  }
  return adopted ?? disk.seed.snapshot(metadata, signal);
}

/** Fills in the checksums that partial overwrites and restarts have lost. */
async function readBackUnknown(
  seed: SeedReader,
  snapshot: string,
  extents: readonly ChangedExtent[],
  signal: AbortSignal,
): Promise<ChangedExtent[]> {
  const known: ChangedExtent[] = [];
  for (const extent of extents) {
    if (extent.checksum === 'unknown') {
      known.push({ ...extent, checksum: await checksumOf(seed, snapshot, extent, signal) });
    } else {
      known.push(extent);
    }
  }
  return known;
}

async function checksumOf(
  seed: SeedReader,
  snapshot: string,
  { offsetBytes, lengthBytes }: ChangedExtent,
  signal: AbortSignal,
): Promise<number> {
  let checksum = 0;
  for (let at = 0; at < lengthBytes; at += MAX_PUT_BYTES) {
    const length = Math.min(MAX_PUT_BYTES, lengthBytes - at);
    checksum = crc32(await seed.read(snapshot, offsetBytes + at, length, signal), checksum);
  }
  return checksum;
}

/**
 * Writes the list whatever was there: an interrupted attempt may have cut the same extents differently. Confirming between reading the
 * ETag and replacing keeps an owner that was thrown out from replacing what its successor has written.
 */
async function putChanges({ catalog, confirm, signal }: MakePointOptions, name: string, bytes: Buffer): Promise<void> {
  if ((await catalog.create(name, bytes, signal)) !== undefined) return;
  const existing = await catalog.read(name, signal);
  await confirm(signal);
  const replaced = existing && (await catalog.replace(name, bytes, existing.etag, undefined, signal));
  if (replaced === undefined) throw new TidemarkError('CONFLICT', `${name} was changed while its point was being made`);
}
