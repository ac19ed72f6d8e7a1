/** Storage with switches for shipping tests, and what a stream in it holds. */
import type { LogUpload, StagedSegment } from '../../src/drain/log-store.ts';
import { decodeSegment, decodeChunk } from '../../src/log/decode.ts';
import { MAX_SEGMENT_BYTES } from '../../src/log/limits.ts';
import type { LogKey } from '../../src/log/seal.ts';
import type { DecodedSegment } from '../../src/log/segment.ts';
import { MemoryLogStore } from '../../src/memory/memory-log-store.ts';
import type { LogStream } from '../../src/model/names.ts';
import type { SourceRecord } from '../../src/source/source-records.ts';

export const { signal: RUNNING } = new AbortController();

export interface Commit {
  readonly stream: LogStream;
  readonly sequence: number;
}

/** A memory store that counts, and calls `beforeCommit` and `afterCommit` around every commit. */
export class WatchedUpload implements LogUpload {
  readonly store: MemoryLogStore;
  readonly commits: Commit[] = [];
  staged = 0;
  /** Segments staged and not yet committed, at the most. */
  mostInFlight = 0;
  beforeCommit: (commit: Commit) => Promise<void> | void = () => undefined;
  afterCommit: (commit: Commit) => void = () => undefined;
  #inFlight = 0;

  constructor(store = new MemoryLogStore()) {
    this.store = store;
  }

  lastSequence(stream: LogStream, signal: AbortSignal): Promise<number> {
    return this.store.lastSequence(stream, signal);
  }

  async stage(stream: LogStream, sequence: number, bytes: Buffer, signal: AbortSignal): Promise<StagedSegment> {
    this.staged++;
    this.#inFlight++;
    this.mostInFlight = Math.max(this.mostInFlight, this.#inFlight);
    const inner = await this.store.stage(stream, sequence, bytes, signal);
    return {
      commit: async (signal) => {
        await this.beforeCommit({ stream, sequence });
        const answer = await inner.commit(signal);
        this.#inFlight--;
        this.commits.push({ stream, sequence });
        this.afterCommit({ stream, sequence });
        return answer;
      },
    };
  }
}

export interface StreamContent {
  readonly segments: readonly DecodedSegment[];
  /** All records in order, with the payload of writes. */
  readonly records: readonly SourceRecord[];
  /** The segments as they are stored. */
  readonly blobs: readonly Buffer[];
}

function payloads(bytes: Buffer, segment: DecodedSegment, key: LogKey | undefined): SourceRecord[] {
  const chunks = segment.chunks.map((_, chunk) => decodeChunk(bytes, segment, chunk, key));
  return segment.records.map((record, index) => {
    if (record.kind !== 'write') return { record };
    const chunk = chunks[segment.chunkOfRecord[index] ?? -1];
    const start = segment.offsetInChunk[index] ?? -1;
    if (chunk === undefined || start < 0) throw new Error(`record ${index} has no payload`);
    return { record, data: chunk.subarray(start, start + record.lengthBytes) };
  });
}

/** Reads a stream from its first segment, checking the chain: sequence, digest, time and record count of each predecessor. */
export async function readStream(
  store: MemoryLogStore,
  stream: LogStream,
  diskSizeBytes: number,
  key?: LogKey,
): Promise<StreamContent> {
  const segments: DecodedSegment[] = [];
  const records: SourceRecord[] = [];
  const blobs: Buffer[] = [];
  const last = await store.lastSequence(stream, RUNNING);
  for (let sequence = 1; sequence <= last; sequence++) {
    const bytes = await store.read(stream, sequence, MAX_SEGMENT_BYTES, RUNNING);
    if (bytes === undefined) throw new Error(`segment ${sequence} is missing`);
    const before = segments.at(-1);
    const previous =
      before === undefined
        ? null
        : {
            digest: before.digest,
            endTimeUs: before.header.endTimeUs,
            recordsThrough: before.header.recordsBefore + before.records.length,
            streamStartUs: before.header.streamStartUs,
          };
    const segment = decodeSegment(
      bytes,
      { stream, diskSizeBytes, sequence, ...(previous === null ? {} : { previous }) },
      key,
    );
    segments.push(segment);
    records.push(...payloads(bytes, segment, key));
    blobs.push(bytes);
  }
  return { segments, records, blobs };
}

/** The watermark rule: no record is earlier than the watermark of any segment before its own, nor later than its own. */
export function breaksWatermarkRule(segments: readonly DecodedSegment[]): string | undefined {
  let watermarkUs = segments[0]?.header.firstTimeUs ?? 0;
  for (const { header, records } of segments) {
    if (header.firstTimeUs !== watermarkUs) return `segment ${header.sequence} does not begin at ${watermarkUs}`;
    for (const { timeUs } of records) {
      if (timeUs < watermarkUs || timeUs > header.endTimeUs) return `segment ${header.sequence}: record at ${timeUs}`;
    }
    watermarkUs = header.endTimeUs;
  }
  return undefined;
}
