/** Pure. Which clusters of a disk have changed: two bits each. */
import { KIB, MIB } from '../model/sizes.ts';

export const CLUSTER = {
  /** As in the point. */
  original: 0,
  /** In the scratch file. */
  written: 1,
  /** Reads as zeroes. */
  zero: 2,
} as const;
export type ClusterState = (typeof CLUSTER)[keyof typeof CLUSTER];

const MIN_CLUSTER_BYTES = 4 * KIB;
/** 64 MiB of memory for a map of two bits each. */
const MAX_CLUSTERS = 256 * MIB;
/** Part of a map that is written to the scratch file as one. */
export const MAP_PAGE_BYTES = 4 * KIB;

/** 4 KiB up to 1 TiB, then larger by powers of two, so that the map stays in its limit. */
export function clusterBytesFor(sizeBytes: number): number {
  let clusterBytes = MIN_CLUSTER_BYTES;
  while (sizeBytes / clusterBytes > MAX_CLUSTERS) clusterBytes *= 2;
  return clusterBytes;
}

/** Four clusters that have one state, as the byte that holds them. */
const UNIFORM = [0b00000000, 0b01010101, 0b10101010] as const;

export interface ClusterRun {
  readonly first: number;
  readonly count: number;
  readonly state: ClusterState;
}

export interface ClusterMap {
  /** The map's bytes, a whole number of pages: what is stored of it. */
  readonly bytes: Buffer;
  get(cluster: number): ClusterState;
  set(first: number, count: number, state: ClusterState): void;
  /** Neighbours of one state as one, made one by one. */
  runs(first: number, count: number): Generator<ClusterRun>;
  /** Pages that have changed and are not stored yet; whoever stores them takes them out. */
  readonly changedPages: Set<number>;
}

export const mapBytesFor = (clusters: number): number => Math.ceil(clusters / 4 / MAP_PAGE_BYTES) * MAP_PAGE_BYTES;

/** Of a map with all clusters as in the point, or of stored bytes. */
export function createClusterMap(clusters: number, bytes: Buffer = Buffer.alloc(mapBytesFor(clusters))): ClusterMap {
  const changedPages = new Set<number>();
  const get = (cluster: number): ClusterState =>
    (((bytes[cluster >>> 2] ?? 0) >>> ((cluster & 3) * 2)) & 3) as ClusterState;
  return {
    bytes,
    changedPages,
    get,
    set(first, count, state) {
      const end = first + count;
      for (let cluster = first; cluster < end;) {
        const at = cluster >>> 2;
        if ((cluster & 3) === 0 && end - cluster >= 4) {
          const whole = (end - cluster) >>> 2;
          bytes.fill(UNIFORM[state], at, at + whole);
          cluster += whole * 4;
        } else {
          const shift = (cluster & 3) * 2;
          bytes[at] = ((bytes[at] ?? 0) & ~(3 << shift)) | (state << shift);
          cluster++;
        }
      }
      const lastPage = Math.floor(Math.floor((end - 1) / 4) / MAP_PAGE_BYTES);
      for (let page = Math.floor((first >>> 2) / MAP_PAGE_BYTES); page <= lastPage; page++) changedPages.add(page);
    },
    *runs(first, count) {
      const end = first + count;
      for (let from = first; from < end;) {
        const state = get(from);
        let to = from + 1;
        while (to < end) {
          if ((to & 3) === 0 && end - to >= 4 && bytes[to >>> 2] === UNIFORM[state]) to += 4;
          else if (get(to) === state) to++;
          else break;
        }
        yield { first: from, count: to - from, state };
        from = to;
      }
    },
  };
}
