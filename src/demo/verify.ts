/** Reads recovery points back and compares them, byte by byte, with the plain replay of the trace. */
import { createHash } from 'node:crypto';
import { pMapIterable } from 'p-map';
import { assert, TidemarkError } from '../errors.ts';
import { MIB } from '../model/sizes.ts';
import type { Manifest } from '../points/manifest.ts';
import type { SeedReader } from '../seed/seed-store.ts';
import type { ExpectedPoint, PlainReplay } from './plain-replay.ts';

/** Bytes of a point that are read at a time, and how many such reads run ahead. */
const WINDOW_BYTES = 16 * MIB;
const WINDOWS_IN_FLIGHT = 2;

export interface VerifiedPoint {
  readonly point: string;
  readonly kind: Manifest['kind'];
  readonly cut: string;
  readonly changedBytes: number;
  /** SHA-256 of the disk as it was read back from the snapshot. */
  readonly sha256: string;
  /** What it must be: that of the replay. */
  readonly expectedSha256: string;
  /** What it was when the trace was recorded; null where nobody took it. */
  readonly recordedSha256: string | null;
  /** Place of the first byte that is not the replay's; null when all are. */
  readonly firstDifferenceBytes: number | null;
  readonly verified: boolean;
}

export interface VerifyOptions {
  /** All points of the group, in the order of their cuts. */
  readonly manifests: readonly Manifest[];
  readonly expected: readonly ExpectedPoint[];
  /** At or before the first expected point. */
  readonly replay: PlainReplay;
  readonly seed: SeedReader;
  readonly onProgress: (done: number, total: number) => void;
  readonly signal: AbortSignal;
}

/** @throws TidemarkError DEMO_POINTS_INCOMPLETE unless the points are exactly those expected; SNAPSHOT_MISSING */
export async function verifyPoints(options: VerifyOptions): Promise<VerifiedPoint[]> {
  const { manifests, expected, replay, seed, onProgress, signal } = options;
  requireExpected(manifests, expected);
  const verified: VerifiedPoint[] = [];
  for (const [index, { entries, recordedSha256 }] of expected.entries()) {
    onProgress(index, expected.length);
    const manifest = manifests[index];
    if (manifest === undefined) continue;
    replay.advance(entries);
    verified.push(await verifyPoint(manifest, recordedSha256, { replay, seed, signal }));
  }
  onProgress(expected.length, expected.length);
  return verified;
}

/** @throws TidemarkError DEMO_POINT_DIFFERS when a point is not what it must be */
export function requireVerified(points: readonly VerifiedPoint[]): void {
  const [first, ...others] = points.filter(({ verified }) => !verified);
  if (first === undefined) return;
  const what =
    first.firstDifferenceBytes === null
      ? `has SHA-256 ${first.sha256}, and ${first.recordedSha256} was recorded with the trace`
      : `differs from the replay of its trace, first at byte ${first.firstDifferenceBytes}`;
  const more = others.length === 0 ? '' : `; ${others.length} more points are wrong`;
  throw new TidemarkError('DEMO_POINT_DIFFERS', `point ${first.point} ${what}${more}`, {
    details: { point: first.point, offsetBytes: first.firstDifferenceBytes ?? -1 },
  });
}

function requireExpected(manifests: readonly Manifest[], expected: readonly ExpectedPoint[]): void {
  const made = manifests.map(({ point }) => point);
  const wanted = expected.map(({ point }) => point);
  if (made.join() === wanted.join()) return;
  const missing = wanted.filter((point) => !made.includes(point));
  const surplus = made.filter((point) => !wanted.includes(point));
  throw new TidemarkError(
    'DEMO_POINTS_INCOMPLETE',
    `the group has ${made.length} points and must have ${wanted.length}; missing: ${missing.join(', ') || 'none'}; not expected: ${surplus.join(', ') || 'none'}`,
  );
}

async function verifyPoint(
  manifest: Manifest,
  recordedSha256: string | null,
  { replay, seed, signal }: Pick<VerifyOptions, 'replay' | 'seed' | 'signal'>,
): Promise<VerifiedPoint> {
  const { image } = replay;
  const [disk] = manifest.disks;
  if (disk?.sizeBytes !== image.length) {
    throw new TidemarkError('DEMO_POINTS_INCOMPLETE', `point ${manifest.point} has another disk than its trace`);
  }
  const hash = createHash('sha256');
  let firstDifferenceBytes: number | null = null;
  let offsetBytes = 0;
  for await (const bytes of windows(seed, disk.snapshot, disk.sizeBytes, signal)) {
    hash.update(bytes);
    const wanted = image.subarray(offsetBytes, offsetBytes + bytes.length);
    if (firstDifferenceBytes === null && !bytes.equals(wanted)) {
      firstDifferenceBytes = offsetBytes + bytes.findIndex((byte, at) => byte !== wanted[at]);
    }
    offsetBytes += bytes.length;
  }
  assert(offsetBytes === image.length, 'a point is read to its end');
  const sha256 = hash.digest('hex');
  // Equal bytes have an equal hash; the image is hashed only where they differ.
  const expectedSha256 = firstDifferenceBytes === null ? sha256 : createHash('sha256').update(image).digest('hex');
  return {
    point: manifest.point,
    kind: manifest.kind,
    cut: manifest.cut,
    changedBytes: disk.changedBytes,
    sha256,
    expectedSha256,
    recordedSha256,
    firstDifferenceBytes,
    verified: firstDifferenceBytes === null && (recordedSha256 ?? sha256) === sha256,
  };
}

/** The disk's bytes in order. A window without data is not read. */
async function* windows(
  seed: SeedReader,
  snapshot: string,
  sizeBytes: number,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const ranges = await seed.ranges(snapshot, sizeBytes, signal);
  const offsets = Array.from({ length: Math.ceil(sizeBytes / WINDOW_BYTES) }, (_, index) => index * WINDOW_BYTES);
  const read = async (offsetBytes: number): Promise<Buffer> => {
    const lengthBytes = Math.min(WINDOW_BYTES, sizeBytes - offsetBytes);
    const endBytes = offsetBytes + lengthBytes;
    const hasData = ranges.some(
      (range) => range.offsetBytes < endBytes && range.offsetBytes + range.lengthBytes > offsetBytes,
    );
    return hasData ? seed.read(snapshot, offsetBytes, lengthBytes, signal) : Buffer.alloc(lengthBytes);
  };
  yield* pMapIterable(offsets, read, { concurrency: WINDOWS_IN_FLIGHT });
}
