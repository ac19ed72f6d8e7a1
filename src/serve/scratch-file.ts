/**
 * The file behind the changes to a served point. Sparse: the disk's bytes at their own offsets, then the map of its clusters, then a
 * label of 4 KiB, JSON filled up with spaces, that says which disk of which point it belongs to.
 */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TidemarkError } from '../errors.ts';
import { clusterBytesFor, type ClusterMap, createClusterMap, MAP_PAGE_BYTES, mapBytesFor } from './cluster-map.ts';

const LABEL_BYTES = 4096;

/** What the changes are changes to. */
export interface ScratchLabel {
  readonly group: string;
  readonly point: string;
  readonly machine: string;
  readonly disk: string;
  readonly snapshot: string;
  readonly sizeBytes: number;
}

export interface ScratchFile {
  readonly clusterBytes: number;
  readonly map: ClusterMap;
  readInto(target: Buffer, offsetBytes: number): Promise<void>;
  write(data: Buffer, offsetBytes: number): Promise<void>;
  /**
   * Of a file with a name: puts data and then map on the disk, so that a map never names data that is not there. Nothing may change
   * meanwhile. Without a name: nothing, since the file is gone when this process is.
   */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/**
 * `file` undefined: a file in a temporary folder that has lost its name before this returns. A file that exists is taken up again.
 * @throws TidemarkError SCRATCH_UNUSABLE here and from all calls, with the cause of the file system
 */
export async function openScratch(file: string | undefined, label: ScratchLabel): Promise<ScratchFile> {
  const name = file ?? 'the temporary scratch file';
  const clusterBytes = clusterBytesFor(label.sizeBytes);
  const clusters = Math.ceil(label.sizeBytes / clusterBytes);
  const labelAt = label.sizeBytes + mapBytesFor(clusters);
  const text = JSON.stringify({ tidemark: 'scratch', version: 1, ...label, clusterBytes });
  const labelBytes = Buffer.alloc(LABEL_BYTES, ' ');
  labelBytes.write(text);
  const handle = await guarded(name, () => (file === undefined ? openNameless() : openNamed(file)));
  try {
    const mapBytes = Buffer.alloc(labelAt - label.sizeBytes);
    const isNew = (await guarded(name, () => handle.stat())).size === 0;
    if (!isNew) await takeUp(handle, name, { labelAt, labelBytes, mapBytes, mapAt: label.sizeBytes });
    else {
      await guarded(name, async () => {
        await handle.truncate(labelAt + LABEL_BYTES);
        await writeWhole(handle, labelBytes, labelAt);
        if (file !== undefined) await handle.sync();
      });
    }
    const map = createClusterMap(clusters, mapBytes);
    const durable = file !== undefined;
    return scratchOn({ handle, name, map, clusterBytes, mapAt: label.sizeBytes, durable });
  } catch (error) {
    await handle.close();
    throw error;
  }
}

interface Opened {
  readonly handle: FileHandle;
  readonly name: string;
  readonly map: ClusterMap;
  readonly clusterBytes: number;
  readonly mapAt: number;
  readonly durable: boolean;
}

function scratchOn({ handle, name, map, clusterBytes, mapAt, durable }: Opened): ScratchFile {
  return {
    clusterBytes,
    map,
    readInto: (target, offsetBytes) => guarded(name, () => readWhole(handle, target, offsetBytes)),
    write: (data, offsetBytes) => guarded(name, () => writeWhole(handle, data, offsetBytes)),
    flush: async () => {
      if (!durable) return;
      await guarded(name, async () => {
        await handle.datasync();
        for (const page of map.changedPages) {
          const at = page * MAP_PAGE_BYTES;
          await writeWhole(handle, map.bytes.subarray(at, at + MAP_PAGE_BYTES), mapAt + at);
        }
        await handle.datasync();
        map.changedPages.clear();
      });
    },
    close: () => guarded(name, () => handle.close()),
  };
}

const openNamed = (file: string): Promise<FileHandle> =>
  open(file, 'r+').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return open(file, 'wx+', 0o600);
  });

async function openNameless(): Promise<FileHandle> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-serve-'));
  try {
    return await open(join(folder, 'scratch'), 'wx+', 0o600);
  } finally {
    await rm(folder, { recursive: true });
  }
}

interface Expected {
  readonly labelAt: number;
  readonly labelBytes: Buffer;
  readonly mapAt: number;
  readonly mapBytes: Buffer;
}

/** @throws TidemarkError SCRATCH_UNUSABLE unless the file is exactly what this disk's scratch file would be */
async function takeUp(handle: FileHandle, name: string, expected: Expected): Promise<void> {
  const stored = Buffer.alloc(LABEL_BYTES);
  const { size } = await guarded(name, () => handle.stat());
  if (size === expected.labelAt + LABEL_BYTES) await guarded(name, () => readWhole(handle, stored, expected.labelAt));
  if (!stored.equals(expected.labelBytes)) {
    throw new TidemarkError('SCRATCH_UNUSABLE', `${name} holds no changes to this disk of this point`);
  }
  await guarded(name, () => readWhole(handle, expected.mapBytes, expected.mapAt));
}

async function guarded<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof TidemarkError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new TidemarkError('SCRATCH_UNUSABLE', `${name}: ${message}`, { cause });
  }
}

async function readWhole(handle: FileHandle, target: Buffer, offsetBytes: number): Promise<void> {
  for (let done = 0; done < target.length;) {
    const { bytesRead } = await handle.read(target, done, target.length - done, offsetBytes + done);
    if (bytesRead === 0) throw new Error(`the file ends before byte ${offsetBytes + target.length}`);
    done += bytesRead;
  }
}

/** A full disk takes a part of the bytes before it refuses the rest. */
async function writeWhole(handle: FileHandle, data: Buffer, offsetBytes: number): Promise<void> {
  for (let done = 0; done < data.length;) {
    const { bytesWritten } = await handle.write(data, done, data.length - done, offsetBytes + done);
    done += bytesWritten;
  }
}
