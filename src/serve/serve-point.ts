/** Serves one disk of a recovery point over NBD, from its snapshot, without a copy. */
import type { Catalog } from '../catalog/catalog.ts';
import { pointReader, type CopyStore } from '../copies/copy-store.ts';
import { TidemarkError } from '../errors.ts';
import type { NbdExport } from '../nbd/export.ts';
import { type NbdLimits, startNbdServer } from '../nbd/server.ts';
import { selectDisk } from '../points/export.ts';
import { pointDisk, type ManifestDisk } from '../points/manifest.ts';
import { requirePoint } from '../points/point-store.ts';
import type { SeedStore } from '../seed/seed-store.ts';
import type { Clock } from '../worker/ports.ts';
import type { DiskReader } from './disk-reader.ts';
import { holdPoint } from './held-point.ts';
import { createOverlay, type Overlay } from './overlay.ts';
import { openScratch } from './scratch-file.ts';
import { openSnapshotDisk } from './snapshot-disk.ts';

export interface ServeOptions {
  readonly catalog: Catalog;
  readonly seeds: Pick<SeedStore, 'reader'>;
  readonly copies: Pick<CopyStore, 'reader'>;
  readonly clock: Pick<Clock, 'nowUs' | 'sleep'>;
  readonly group: string;
  readonly point: string;
  /** A disk id, or `machine/disk`. */
  readonly disk: string;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly cacheBytes: number;
  readonly readAhead?: boolean;
  /** Absent: read-only. `file` absent: changes are gone at the end; else they are there for the next time. */
  readonly scratch?: { readonly file?: string };
  /** Who holds the point meanwhile. */
  readonly owner: string;
  readonly limits?: Partial<NbdLimits>;
  /** Told failures that may pass; clients have got an error for them, and may try again. */
  readonly onFailure: (error: unknown) => void;
  /** Of everything that waits while it opens and serves. */
  readonly signal: AbortSignal;
}

export interface ServedPoint {
  /** `nbd://HOST:PORT/EXPORT` */
  readonly uri: string;
  readonly host: string;
  readonly port: number;
  readonly exportName: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Aborts when the point cannot be served any longer; its reason is the error. */
  readonly failed: AbortSignal;
  /** Ends all clients, stores changes that are to be kept, and gives the point free. */
  close(): Promise<void>;
}

/**
 * The point is pinned first and looked up again after that: what was pruned in between is not served.
 * @throws TidemarkError GROUP_NOT_FOUND, POINT_NOT_FOUND, DISK_NOT_FOUND, SNAPSHOT_MISSING, SCRATCH_UNUSABLE, SERVE_PORT_TAKEN,
 * PIN_INVALID; nothing is left open then
 */
export async function servePoint(options: ServeOptions): Promise<ServedPoint> {
  const { catalog, group, point, signal } = options;
  selectDisk(await requirePoint(catalog, group, point, signal), options.disk);
  const opened = new AsyncDisposableStack();
  try {
    const reason = `disk ${options.disk} is served`;
    const held = await holdPoint({ ...options, reason });
    opened.defer(() => held.release());
    const manifest = await requirePoint(catalog, group, point, signal);
    const disk = selectDisk(manifest, options.disk);
    const closing = new AbortController();
    const either = AbortSignal.any([signal, closing.signal]);
    const base = await openSnapshotDisk({
      seed: pointReader(options, pointDisk(manifest, disk)),
      ...disk,
      cacheBytes: options.cacheBytes,
      readAhead: options.readAhead ?? true,
      signal: either,
    });
    opened.defer(() => closing.abort(new TidemarkError('INTERRUPTED', 'the point is no longer served')));
    const broken = new AbortController();
    const overlay = options.scratch === undefined ? undefined : await openOverlay(base, disk, options, opened);
    const exportName = [group, point, disk.disk].join('.');
    const server = await startNbdServer({
      exportName,
      disk: exportOf(overlay ?? base, overlay),
      host: options.host,
      port: options.port,
      ...(options.limits !== undefined && { limits: options.limits }),
      onFailure: (error) => (mayPass(error) ? options.onFailure(error) : broken.abort(error)),
    });
    opened.defer(() => server.close());
    const { host } = options;
    const { port } = server;
    return {
      uri: `nbd://${host.includes(':') ? `[${host}]` : host}:${port}/${exportName}`,
      host,
      port,
      exportName,
      sizeBytes: disk.sizeBytes,
      readOnly: overlay === undefined,
      failed: AbortSignal.any([held.lost, broken.signal]),
      close: () => opened.disposeAsync(),
    };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

async function openOverlay(
  base: DiskReader,
  { machine, disk, snapshot, sizeBytes }: ManifestDisk,
  { group, point, scratch: wanted }: ServeOptions,
  opened: AsyncDisposableStack,
): Promise<Overlay> {
  const scratch = await openScratch(wanted?.file, { group, point, machine, disk, snapshot, sizeBytes });
  opened.defer(async () => {
    try {
      await scratch.flush();
    } finally {
      await scratch.close();
    }
  });
  return createOverlay(base, scratch);
}

function exportOf(disk: DiskReader, overlay: Overlay | undefined): NbdExport {
  return {
    sizeBytes: disk.sizeBytes,
    async read(offsetBytes, lengthBytes, signal) {
      const bytes = Buffer.allocUnsafeSlow(lengthBytes);
      await disk.readInto(bytes, offsetBytes, signal);
      return bytes;
    },
    ranges: (offsetBytes, lengthBytes) => disk.ranges(offsetBytes, lengthBytes),
    ...(overlay !== undefined && { write: overlay.write }),
  };
}

/** Storage that is away comes back, and a full scratch disk can be given space; all else stays as it is. */
const mayPass = (error: unknown): boolean =>
  error instanceof TidemarkError && (error.class === 'retry' || error.code === 'SCRATCH_UNUSABLE');
