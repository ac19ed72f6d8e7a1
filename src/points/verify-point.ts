/** Reads a point back, compares it with the checksums that were recorded when it was made, and inspects its disks. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Catalog } from '../catalog/catalog.ts';
import { updateDocument } from '../catalog/documents.ts';
import type { ChangedExtent } from '../coalesce/change-list.ts';
import { MAX_PUT_BYTES } from '../coalesce/requests.ts';
import { TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { catalogName, diskLabel } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import { pointReader, type CopyStore } from '../copies/copy-store.ts';
import type { SeedReader, SeedStore } from '../seed/seed-store.ts';
import { decodeChanges } from './changes-file.ts';
import { inspectPoint, isRecoverable } from './inspect-point.ts';
import { manifestSchema, pointDisk, type InspectedDisk, type Manifest, type Verified } from './manifest.ts';

/** Reads at the same time: storage streams best with about four. */
const READS_IN_FLIGHT = 4;

export interface DamagedExtent {
  readonly machine: string;
  readonly disk: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface Verification {
  readonly point: string;
  readonly at: string;
  readonly ok: boolean;
  /** False: the checksums of the point are lost, and its disks were only inspected. */
  readonly bytes: boolean;
  /** Bytes read back: what changed at this point. What did not is verified with the point that recorded it. */
  readonly checkedBytes: number;
  readonly damaged: readonly DamagedExtent[];
  /** What an operating system would find on each disk. */
  readonly disks: readonly InspectedDisk[];
}

export interface VerifyOptions {
  readonly catalog: Catalog;
  readonly seeds: Pick<SeedStore, 'reader'>;
  readonly copies: Pick<CopyStore, 'reader'>;
  readonly manifest: Manifest;
  /** The points before it, oldest first: whether its disks were sound then. */
  readonly older: readonly Manifest[];
  readonly nowUs: number;
  readonly signal: AbortSignal;
}

/**
 * A snapshot that is missing is damage of all its extents. The result is written into the manifest, where lists show it.
 * @returns undefined when the point was pruned meanwhile
 * @throws TidemarkError DOCUMENT_INVALID when the changes list is not the one the manifest was written with
 */
export async function verifyPoint(options: VerifyOptions): Promise<Verification | undefined> {
  const { catalog, manifest, nowUs, signal } = options;
  const { group, point, disks } = manifest;
  const lists = await readChanges(catalog, manifest, signal);
  const damaged: DamagedExtent[] = [];
  let checkedBytes = 0;
  for (const cut of disks) {
    const { machine, disk, snapshot } = cut;
    const extents = lists.get(diskLabel({ machine, disk })) ?? [];
    const seed = pointReader(options, pointDisk(manifest, cut));
    await mapAll(runsOf(extents), READS_IN_FLIGHT, signal, async (run, either) => {
      for (const { offsetBytes, lengthBytes } of await damageIn(seed, snapshot, run, either)) {
        damaged.push({ machine, disk, offsetBytes, lengthBytes });
      }
      checkedBytes += run.lengthBytes;
    });
  }
  const inspected = await inspectPoint(options);
  const verified: Verified = {
    at: isoFromUs(nowUs),
    ok: damaged.length === 0 && inspected.every(isRecoverable),
    bytes: manifest.changesSha256 !== null,
    disks: [...inspected],
  };
  const name = catalogName.manifest(group, point);
  const kept = await updateDocument(catalog, name, manifestSchema, (current) => ({ ...current, verified }), signal);
  if (kept === undefined) return undefined;
  const { at, ok, bytes } = verified;
  return { point, at, ok, bytes, checkedBytes, damaged: damaged.toSorted(byPlace), disks: inspected };
}

async function readChanges(
  catalog: Catalog,
  { group, point, changesSha256 }: Manifest,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, readonly ChangedExtent[]>> {
  if (changesSha256 === null) return new Map();
  const name = catalogName.changes(group, point);
  const blob = await catalog.read(name, signal);
  if (blob === undefined || createHash('sha256').update(blob.bytes).digest('hex') !== changesSha256) {
    throw new TidemarkError('DOCUMENT_INVALID', `${name} is not the list that the manifest of ${point} names`);
  }
  return new Map(decodeChanges(blob.bytes).map((list) => [diskLabel(list), list.extents]));
}

interface Run {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly extents: readonly ChangedExtent[];
}

/** Neighbouring extents of up to 4 MiB together, which one request reads; a longer extent is a run of its own. */
function* runsOf(extents: readonly ChangedExtent[]): Generator<Run> {
  let run: ChangedExtent[] = [];
  let lengthBytes = 0;
  const take = (): Run => ({ offsetBytes: run[0]?.offsetBytes ?? 0, lengthBytes, extents: run });
  for (const extent of extents) {
    const last = run.at(-1);
    const touches = last !== undefined && last.offsetBytes + last.lengthBytes === extent.offsetBytes;
    if (last !== undefined && (!touches || lengthBytes + extent.lengthBytes > MAX_PUT_BYTES)) {
      yield take();
      run = [];
      lengthBytes = 0;
    }
    run.push(extent);
    lengthBytes += extent.lengthBytes;
  }
  if (run.length > 0) yield take();
}

async function damageIn(
  seed: SeedReader,
  snapshot: string,
  run: Run,
  signal: AbortSignal,
): Promise<readonly ChangedExtent[]> {
  const sums = run.extents.map((extent) => new ExtentSum(extent));
  try {
    for (let at = 0; at < run.lengthBytes; at += MAX_PUT_BYTES) {
      const length = Math.min(MAX_PUT_BYTES, run.lengthBytes - at);
      const bytes = await seed.read(snapshot, run.offsetBytes + at, length, signal);
      for (const sum of sums) sum.add(bytes, run.offsetBytes + at);
    }
  } catch (error) {
    if (error instanceof TidemarkError && error.code === 'SNAPSHOT_MISSING') return run.extents;
    throw error;
  }
  return sums.filter((sum) => !sum.matches).map(({ extent }) => extent);
}

/** The checksum of an extent, from pieces of the disk in ascending order. */
class ExtentSum {
  readonly extent: ChangedExtent;
  #crc = 0;
  #isZero = true;

  constructor(extent: ChangedExtent) {
    this.extent = extent;
  }

  add(bytes: Buffer, offsetBytes: number): void {
    const start = Math.max(0, this.extent.offsetBytes - offsetBytes);
    const part = bytes.subarray(
      start,
      Math.max(start, this.extent.offsetBytes + this.extent.lengthBytes - offsetBytes),
    );
    if (this.extent.checksum === 'zero') this.#isZero &&= part.every((byte) => byte === 0);
    else this.#crc = crc32(part, this.#crc);
  }

  get matches(): boolean {
    return this.extent.checksum === 'zero' ? this.#isZero : this.#crc === this.extent.checksum;
  }
}

const byPlace = (a: DamagedExtent, b: DamagedExtent): number =>
  diskLabel(a) === diskLabel(b) ? a.offsetBytes - b.offsetBytes : diskLabel(a) < diskLabel(b) ? -1 : 1;
