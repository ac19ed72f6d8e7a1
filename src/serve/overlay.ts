/** A disk whose changes are kept in a scratch file, over one that never changes. */
import { mapAll } from '../map-all.ts';
import { MIB } from '../model/sizes.ts';
import type { NbdWrites } from '../nbd/export.ts';
import { CLUSTER } from './cluster-map.ts';
import type { DiskReader } from './disk-reader.ts';
import type { ScratchFile } from './scratch-file.ts';

/** Pieces of one read that are read at the same time. */
const READS_AT_ONCE = 16;
/** Zeroes that are written as such, in pieces of that size. */
const ZEROES = Buffer.alloc(MIB);

export interface Overlay extends DiskReader {
  readonly write: NbdWrites;
}

/**
 * Changes run one after the other: a cluster that is written in part is completed from below first, and nothing may come between. Reads
 * wait for nobody. A cluster counts as changed only once its bytes are in the file, so a change that fails has not happened to clusters
 * that were untouched before.
 */
export function createOverlay(base: DiskReader, scratch: ScratchFile): Overlay {
  const { sizeBytes } = base;
  const { map, clusterBytes } = scratch;
  const oneByOne = createMutex();

  /** The clusters of a range by state, as ranges of bytes. */
  function* runs(offsetBytes: number, lengthBytes: number) {
    const endBytes = offsetBytes + lengthBytes;
    const first = Math.floor(offsetBytes / clusterBytes);
    for (const run of map.runs(first, Math.ceil(endBytes / clusterBytes) - first)) {
      const from = Math.max(offsetBytes, run.first * clusterBytes);
      const to = Math.min(endBytes, (run.first + run.count) * clusterBytes);
      yield { from, to, state: run.state };
    }
  }

  const readInto = async (target: Buffer, offsetBytes: number, signal: AbortSignal): Promise<void> => {
    await mapAll(runs(offsetBytes, target.length), READS_AT_ONCE, signal, async ({ from, to, state }, either) => {
      const part = target.subarray(from - offsetBytes, to - offsetBytes);
      if (state === CLUSTER.original) await base.readInto(part, from, either);
      else if (state === CLUSTER.written) await scratch.readInto(part, from);
      else part.fill(0);
    });
  };

  /** The bytes from `from` to `to`, inside one cluster, that a write leaves as they are: to be written with it unless they are there. */
  const completing = async (from: number, to: number, signal: AbortSignal): Promise<Buffer> => {
    if (from >= to || map.get(Math.floor(from / clusterBytes)) === CLUSTER.written) return Buffer.alloc(0);
    const bytes = Buffer.alloc(to - from);
    await readInto(bytes, from, signal);
    return bytes;
  };

  const put = async (offsetBytes: number, data: Buffer, signal: AbortSignal): Promise<void> => {
    const endBytes = offsetBytes + data.length;
    const first = Math.floor(offsetBytes / clusterBytes);
    const count = Math.ceil(endBytes / clusterBytes) - first;
    const before = await completing(first * clusterBytes, offsetBytes, signal);
    const after = await completing(endBytes, Math.min((first + count) * clusterBytes, sizeBytes), signal);
    signal.throwIfAborted();
    if (before.length > 0) await scratch.write(before, offsetBytes - before.length);
    await scratch.write(data, offsetBytes);
    if (after.length > 0) await scratch.write(after, endBytes);
    map.set(first, count, CLUSTER.written);
  };

  const putZeroes = async (from: number, to: number, signal: AbortSignal): Promise<void> => {
    for (let at = from; at < to; at += ZEROES.length) {
      await put(at, ZEROES.subarray(0, Math.min(ZEROES.length, to - at)), signal);
    }
  };

  /** From the first whole cluster of a range to the end of the last; the disk's last cluster is whole at the disk's end. */
  const wholeClusters = (offsetBytes: number, endBytes: number): { readonly from: number; readonly to: number } => {
    const from = Math.ceil(offsetBytes / clusterBytes) * clusterBytes;
    const to = endBytes === sizeBytes ? endBytes : Math.floor(endBytes / clusterBytes) * clusterBytes;
    return { from, to: Math.max(from, to) };
  };
  const forget = (from: number, to: number): void => {
    if (from >= to) return;
    const first = from / clusterBytes;
    map.set(first, Math.ceil(to / clusterBytes) - first, CLUSTER.zero);
  };

  const write: NbdWrites = {
    write: (offsetBytes, data, signal) => oneByOne(() => put(offsetBytes, data, signal)),
    zero: (offsetBytes, lengthBytes, allocate, signal) =>
      oneByOne(async () => {
        const endBytes = offsetBytes + lengthBytes;
        if (allocate) return putZeroes(offsetBytes, endBytes, signal);
        const { from, to } = wholeClusters(offsetBytes, endBytes);
        await putZeroes(offsetBytes, Math.min(from, endBytes), signal);
        forget(from, to);
        await putZeroes(to, endBytes, signal);
      }),
    trim: (offsetBytes, lengthBytes) =>
      oneByOne(async () => {
        const { from, to } = wholeClusters(offsetBytes, offsetBytes + lengthBytes);
        forget(from, to);
      }),
    flush: () => oneByOne(() => scratch.flush()),
  };

  return {
    sizeBytes,
    readInto,
    write,
    *ranges(offsetBytes, lengthBytes) {
      for (const { from, to, state } of runs(offsetBytes, lengthBytes)) {
        if (state === CLUSTER.original) yield* base.ranges(from, to - from);
        else yield { offsetBytes: from, lengthBytes: to - from, kind: state === CLUSTER.zero ? 'hole' : 'data' };
      }
    },
  };
}

/** Runs work one after the other, in the order of the calls. */
function createMutex(): (work: () => Promise<void>) => Promise<void> {
  let last: Promise<unknown> = Promise.resolve();
  return async (work) => {
    const turn = last.then(work);
    last = turn.catch(() => undefined); // its caller is told
    await turn;
  };
}
