/** What must be true of the codec for one mutant, whatever it is. */
import { TidemarkError } from '../../src/errors.ts';
import {
  decodeChunk,
  decodeChunkAsync,
  decodeHead,
  decodeSegment,
  peekHeader,
  verifyChunk,
} from '../../src/log/decode.ts';
import type { SegmentExpectation } from '../../src/log/decode.ts';
import { encodeSegment, type SegmentEntry } from '../../src/log/encode.ts';
import { MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_SEGMENT_PAYLOAD_BYTES, MAX_SEGMENT_RECORDS } from '../../src/log/limits.ts';
import type { DecodedSegment } from '../../src/log/segment.ts';
import type { CodecMutant } from './mutant.ts';
import { judge, type ReferenceEntry, type ReferencePlace } from './reference-reader.ts';
import { KEY } from './sound-logs.ts';

/** A broken promise of the codec, with what is needed to see it again. */
export class Finding extends Error {
  constructor(seed: number, mutations: readonly string[], what: string, cause?: unknown) {
    super(`seed ${seed} (${mutations.join(', ')}): ${what}`, { cause });
    this.name = 'Finding';
  }
}

/** No single call may take longer; the design's limit for a mutant. */
const LONGEST_MS = 1000;
/** zlib may hold a chunk's payload twice for a moment; nothing that is returned may share more than this. */
const MOST_SHARED_BYTES = MAX_CHUNK_BYTES + 1;

type Require = (condition: boolean, what: string) => void;
interface Thrown {
  readonly error: TidemarkError;
}

/** The code that the mutant is refused with, or undefined when it is accepted. @throws Finding */
export async function judgeCodec(mutant: CodecMutant): Promise<string | undefined> {
  const { seed, mutations, bytes, place } = mutant;
  const require: Require = (condition, what) => {
    if (!condition) throw new Finding(seed, mutations, what);
  };
  const copy = Buffer.from(bytes);
  const key = place.master === undefined ? undefined : KEY;
  const attempt = <T>(what: string, action: () => T): T | Thrown => {
    const beganMs = performance.now();
    try {
      return action();
    } catch (error) {
      if (!(error instanceof TidemarkError))
        throw new Finding(seed, mutations, `${what} threw ${String(error)}`, error);
      requireDefect(error, bytes, require);
      return { error };
    } finally {
      require(performance.now() - beganMs < LONGEST_MS, `${what} took more than a second`);
    }
  };
  const expected = expectationOf(place);
  const segment = attempt('decodeSegment', () => decodeSegment(bytes, expected, key));
  requireSameHead(attempt, { bytes, expected, segment }, require);
  const truth = judge(bytes, place);
  require(copy.equals(bytes), 'the mutant itself was changed');
  if ('error' in segment) {
    require(!('sound' in truth), `${segment.error.code}, but the page calls it sound`);
    if ('codes' in truth)
      require(truth.codes.has(segment.error.code), `${segment.error.code} instead of ${[...truth.codes].join(' or ')}`);
    return segment.error.code;
  }
  requireLimits(segment, bytes.length, require);
  const payload: (Buffer | Thrown)[] = segment.chunks.map((_, i) =>
    attempt('decodeChunk', () => decodeChunk(bytes, segment, i, key)),
  );
  await requireSameChunks({ bytes, segment, payload }, key, require);
  const refused = payload.find((chunk) => 'error' in chunk);
  if (refused !== undefined && 'error' in refused) {
    require('codes' in truth &&
      truth.codes.has(refused.error.code), `chunk: ${refused.error.code}, which the page does not give`);
    return refused.error.code;
  }
  if (!('sound' in truth)) throw new Finding(seed, mutations, `accepted in spite of ${[...truth.codes].join(' and ')}`);
  require(segment.digest.equals(truth.sound.tail.digest), 'the digest is another one');
  const entries = entriesOf(segment, payload as Buffer[]);
  requireSameEntries(entries, truth.sound.entries, require);
  requireReencodes(segment, { entries, expected, key }, require);
  return undefined;
}

function expectationOf({
  group,
  machine,
  disk,
  epoch,
  sequence,
  diskSizeBytes,
  previous,
}: ReferencePlace): SegmentExpectation {
  return {
    stream: { group, machine, disk, epoch },
    diskSizeBytes,
    sequence,
    ...(previous !== undefined && { previous }),
  };
}

function requireDefect(error: TidemarkError, bytes: Buffer, require: Require): void {
  const { code, details, message } = error;
  require(code.startsWith('LOG_'), `${code}: ${message}`);
  const isForOperator = code.startsWith('LOG_KEY_') || code === 'LOG_NOT_SEALED';
  require(error.class === (isForOperator ? 'operator' : 'resync'), `${code} has class ${error.class}`);
  const offset = details['offset'];
  require(typeof offset === 'number' &&
    offset >= 0 &&
    offset <= bytes.length, `${code} at offset ${offset} of ${bytes.length}`);
  require(typeof details['field'] === 'string', `${code} names no field`);
  require(message.length < 400, `${code} has a message of ${message.length} characters`);
}

/** The other ways to a head come to the same. */
function requireSameHead(
  attempt: <T>(what: string, action: () => T) => T | Thrown,
  { bytes, expected, segment }: { bytes: Buffer; expected: SegmentExpectation; segment: DecodedSegment | Thrown },
  require: Require,
): void {
  const peeked = attempt('peekHeader', () => peekHeader(bytes));
  if ('error' in peeked) {
    require('error' in segment, 'a segment without a header was accepted');
    return;
  }
  const prefix = bytes.subarray(0, peeked.headBytes);
  const key = 'error' in segment || segment.salt !== undefined ? KEY : undefined;
  const head = attempt('decodeHead', () => decodeHead(prefix, { ...expected, blobBytes: bytes.length }, key));
  if ('error' in segment) return;
  require(!('error' in head) && head.digest.equals(segment.digest), 'the head alone is something else');
}

function requireLimits(segment: DecodedSegment, blobBytes: number, require: Require): void {
  const { records, chunks, header, payloadBytes, totalBytes } = segment;
  require(totalBytes === blobBytes, 'the blob has another length');
  require(records.length <= MAX_SEGMENT_RECORDS && chunks.length <= MAX_CHUNKS, 'too many records or chunks');
  require(payloadBytes <= MAX_SEGMENT_PAYLOAD_BYTES, 'too much payload');
  for (const { rawBytes, storedBytes, offsetBytes, sha256 } of chunks) {
    require(rawBytes <= MAX_CHUNK_BYTES && offsetBytes + storedBytes <= blobBytes, 'a chunk is too large');
    require(sha256.buffer.byteLength <= 65_536, 'a digest keeps the segment in memory');
  }
  for (const record of records) {
    require(record.timeUs >= header.firstTimeUs && record.timeUs <= header.endTimeUs, 'a record outside of its time');
    if (record.kind === 'write' || record.kind === 'discard')
      require(record.offsetBytes >= 0 &&
        record.offsetBytes + record.lengthBytes <= header.diskSizeBytes, 'a record outside the disk');
  }
}

async function requireSameChunks(
  { bytes, segment, payload }: { bytes: Buffer; segment: DecodedSegment; payload: readonly (Buffer | Thrown)[] },
  key: typeof KEY | undefined,
  require: Require,
): Promise<void> {
  for (const [index, sync] of payload.entries()) {
    const rawBytes = segment.chunks[index]?.rawBytes ?? -1;
    const [settled] = await Promise.allSettled([decodeChunkAsync(bytes, segment, index, key)]);
    if ('error' in sync) {
      const isSame = settled.status === 'rejected' && (settled.reason as TidemarkError).code === sync.error.code;
      require(isSame, `chunk ${index}: ${sync.error.code}, and something else in the thread pool`);
      continue;
    }
    require(sync.length === rawBytes, `chunk ${index} has ${sync.length} bytes`);
    require(sync.buffer === bytes.buffer ||
      sync.buffer.byteLength <= MOST_SHARED_BYTES, `chunk ${index} holds ${sync.buffer.byteLength} bytes`);
    require(settled.status === 'fulfilled' &&
      settled.value.equals(sync), `chunk ${index} is something else in the thread pool`);
    require(verifyChunk(bytes, segment, index).length === segment.chunks[index]?.storedBytes, 'verified another chunk');
  }
}

function entriesOf(
  { records, chunkOfRecord, offsetInChunk }: DecodedSegment,
  payload: readonly Buffer[],
): SegmentEntry[] {
  return records.map((record, i) => {
    if (record.kind !== 'write') return { record };
    const at = offsetInChunk[i] ?? -1;
    return { record, data: payload[chunkOfRecord[i] ?? -1]?.subarray(at, at + record.lengthBytes) ?? Buffer.alloc(0) };
  });
}

function requireSameEntries(
  entries: readonly SegmentEntry[],
  truth: readonly ReferenceEntry[],
  require: Require,
): void {
  require(entries.length === truth.length, 'another number of records');
  for (const [i, { record, data }] of entries.entries()) {
    const wanted = truth[i];
    const isRange = record.kind === 'write' || record.kind === 'discard';
    const range = isRange ? [record.offsetBytes, record.lengthBytes] : [0, 0];
    const mark = record.kind === 'mark' ? `${record.markKind} ${record.id}` : '';
    const isSame =
      wanted?.kind === record.kind &&
      wanted.timeUs === record.timeUs &&
      wanted.offsetBytes === range[0] &&
      wanted.lengthBytes === range[1] &&
      (wanted.mark === undefined ? '' : `${wanted.mark.kind} ${wanted.mark.id}`) === mark &&
      (data === undefined ? wanted.data === undefined : wanted.data?.equals(data) === true);
    require(isSame, `record ${i} is something else`);
  }
}

/** What a reader accepts, a writer can write, and reading that gives the same records. */
function requireReencodes(
  { header }: DecodedSegment,
  {
    entries,
    expected,
    key,
  }: { entries: readonly SegmentEntry[]; expected: SegmentExpectation; key: typeof KEY | undefined },
  require: Require,
): void {
  const { bytes } = encodeSegment(header, entries, key === undefined ? {} : { key });
  const again = decodeSegment(bytes, expected, key);
  const payload = again.chunks.map((_, i) => decodeChunk(bytes, again, i, key));
  const same = entriesOf(again, payload);
  require(same.length === entries.length, 'encoding it again loses records');
  for (const [i, entry] of entries.entries()) {
    const other = same[i];
    require(JSON.stringify(other?.record) ===
      JSON.stringify(entry.record), `record ${i} changes when it is encoded again`);
    require(other?.data === undefined
      ? entry.data === undefined
      : entry.data?.equals(other.data) === true, `payload ${i} changes`);
  }
}
