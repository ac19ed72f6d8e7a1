import type { LogStore, LogUpload, SegmentRef, StagedSegment } from '../drain/log-store.ts';
import { assert, TidemarkError } from '../errors.ts';
import { type LogStream, segmentName, streamOfPrefix, streamPrefix } from '../model/names.ts';

/** Segments in memory, with the conditions of the cache account. */
export class MemoryLogStore implements LogStore, LogUpload {
  readonly #streams = new Map<string, Map<number, Buffer>>();

  async list(
    stream: LogStream,
    fromSequence: number,
    limit: number,
    signal: AbortSignal,
  ): Promise<readonly SegmentRef[]> {
    signal.throwIfAborted();
    assert(Number.isSafeInteger(fromSequence) && fromSequence >= 1, `${fromSequence} is no sequence`);
    assert(Number.isSafeInteger(limit) && limit >= 1, `${limit} is no limit`);
    const refs: SegmentRef[] = [];
    for (const [sequence, bytes] of this.#segments(stream)) {
      if (sequence >= fromSequence) refs.push({ sequence, sizeBytes: bytes.length });
    }
    return refs.sort((a, b) => a.sequence - b.sequence).slice(0, limit);
  }

  async read(stream: LogStream, sequence: number, maxBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
    signal.throwIfAborted();
    const name = segmentName(stream, sequence);
    const bytes = this.#segments(stream).get(sequence);
    if (bytes === undefined) return undefined;
    if (bytes.length > maxBytes) {
      throw new TidemarkError('LOG_TOO_LARGE', `${name} has ${bytes.length} bytes, more than ${maxBytes}`, {
        details: { blob: name, sizeBytes: bytes.length, maxBytes },
      });
    }
    return Buffer.from(bytes);
  }

  async readHead(
    stream: LogStream,
    sequence: number,
    lengthBytes: number,
    signal: AbortSignal,
  ): Promise<Buffer | undefined> {
    signal.throwIfAborted();
    assert(Number.isSafeInteger(lengthBytes) && lengthBytes > 0, `${lengthBytes} is no length`);
    const bytes = this.#segments(stream).get(sequence);
    return bytes === undefined ? undefined : Buffer.from(bytes.subarray(0, lengthBytes));
  }

  async delete(stream: LogStream, sequence: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#segments(stream).delete(sequence);
  }

  async listStreams(group: string, signal: AbortSignal): Promise<readonly LogStream[]> {
    signal.throwIfAborted();
    const prefixes = [...this.#streams].filter(([, segments]) => segments.size > 0).map(([prefix]) => prefix);
    const streams = prefixes.sort().map(streamOfPrefix);
    return streams.filter((stream) => stream !== undefined).filter((stream) => stream.group === group);
  }

  async deleteStream(stream: LogStream, limit: number, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    assert(Number.isSafeInteger(limit) && limit >= 1, `${limit} is no limit`);
    const segments = this.#segments(stream);
    const sequences = [...segments.keys()].sort((a, b) => a - b).slice(0, limit);
    for (const sequence of sequences) segments.delete(sequence);
    return sequences.length;
  }

  async lastSequence(stream: LogStream, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    let last = 0;
    for (const sequence of this.#segments(stream).keys()) last = Math.max(last, sequence);
    return last;
  }

  async stage(stream: LogStream, sequence: number, bytes: Buffer, signal: AbortSignal): Promise<StagedSegment> {
    signal.throwIfAborted();
    segmentName(stream, sequence); // refuses sequences and epochs that have no name
    const staged = Buffer.from(bytes);
    return {
      commit: async (signal) => {
        signal.throwIfAborted();
        const segments = this.#segments(stream);
        if (segments.has(sequence)) return 'exists';
        segments.set(sequence, staged);
        return 'committed';
      },
    };
  }

  #segments(stream: LogStream): Map<number, Buffer> {
    const prefix = streamPrefix(stream);
    const segments = this.#streams.get(prefix) ?? new Map<number, Buffer>();
    this.#streams.set(prefix, segments);
    return segments;
  }
}
