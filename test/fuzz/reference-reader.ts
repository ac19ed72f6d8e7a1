/**
 * A second reader of segments, written from docs/replication-log.md and using nothing of `src/log`: plain, slow and complete. It
 * judges in the stages of the page's "Order of checks" and names every defect of the first stage that has one.
 */
import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';
import { constants, zstdDecompressSync } from 'node:zlib';
import { Defects, isZero, LARGEST, MIB, readHeader, stage, u64, type Header } from './reference-header.ts';

export interface ReferencePlace {
  readonly group: string;
  readonly machine: string;
  readonly disk: string;
  readonly epoch: number;
  readonly sequence: number;
  readonly diskSizeBytes: number;
  readonly previous?: ReferenceTail;
  /** The 32 bytes that source and worker share. */
  readonly master?: Buffer;
}

export interface ReferenceTail {
  readonly digest: Buffer;
  readonly endTimeUs: number;
  readonly recordsThrough: number;
  readonly streamStartUs: number;
}

export interface ReferenceEntry {
  readonly kind: 'write' | 'discard' | 'mark' | 'base-complete';
  readonly timeUs: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Kind and id of a mark. */
  readonly mark: { readonly kind: 'crash' | 'app'; readonly id: string } | undefined;
  readonly data: Buffer | undefined;
}

export interface ReferenceSegment {
  readonly tail: ReferenceTail;
  readonly firstTimeUs: number;
  readonly entries: readonly ReferenceEntry[];
}

export type Judgement =
  | { readonly sound: ReferenceSegment }
  | {
      readonly codes: ReadonlySet<string>;
      /**
       * When all checksums hold and only payload cannot be unpacked: the segment with {@link POISON} in its place. Whoever needs none of that
       * payload, since later records bury it, cannot know.
       */
      readonly unpacked?: ReferenceSegment;
    };

/** What stands for payload that cannot be had; nobody may write it to a disk. */
const POISON = 0xe5;
const UNPACKING = new Set(['LOG_CHUNK_SEAL', 'LOG_CHUNK_CODEC', 'LOG_CHUNK_SIZE']);

const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();

export function judge(bytes: Buffer, place: ReferencePlace): Judgement {
  try {
    const header = readHeader(bytes);
    checkPlace(header, place);
    checkLengthsAndSeal(bytes, header, place.master);
    const chunks = readChunks(bytes, header);
    const entries = placePayload(readRecords(bytes, header), chunks);
    const { payload, codes } = readPayload(bytes, header, { chunks, place });
    const withPayload = entries.map((entry) => withData(entry, payload));
    const segment = soundSegment(bytes, header, withPayload);
    if (codes.size === 0) return { sound: segment };
    return [...codes].every((code) => UNPACKING.has(code)) ? { codes, unpacked: segment } : { codes };
  } catch (error) {
    if (error instanceof Defects) return { codes: error.codes };
    throw error;
  }
}

function checkPlace(header: Header, place: ReferencePlace): void {
  const { previous } = place;
  stage((when) => {
    when(header.names[0] !== place.group, 'LOG_WRONG_GROUP');
    when(header.names[1] !== place.machine, 'LOG_WRONG_MACHINE');
    when(header.names[2] !== place.disk, 'LOG_WRONG_DISK');
    when(header.epoch !== place.epoch, 'LOG_WRONG_EPOCH');
    when(header.sequence !== place.sequence, 'LOG_WRONG_SEQUENCE');
    when(header.diskSizeBytes !== place.diskSizeBytes, 'LOG_DISK_SIZE');
  });
  stage((when) => {
    when(header.sequence === 1 && !isZero(header.previousDigest), 'LOG_CHAIN');
    when(header.sequence === 1 && header.recordsBefore !== 0, 'LOG_RECORD_COUNT');
    if (previous === undefined) return;
    when(!header.previousDigest.equals(previous.digest), 'LOG_CHAIN');
    when(header.recordsBefore !== previous.recordsThrough, 'LOG_RECORD_COUNT');
    when(header.streamStartUs !== previous.streamStartUs, 'LOG_HEADER_FIELD');
    when(header.firstTimeUs < previous.endTimeUs, 'LOG_TIME_BACKWARDS');
    when(header.firstTimeUs > previous.endTimeUs, 'LOG_TIME_LEAP');
  });
}

const headBytesOf = ({ headerBytes, tableBytes }: Header): number => headerBytes + tableBytes + 32;

function checkLengthsAndSeal(bytes: Buffer, header: Header, master: Buffer | undefined): void {
  const head = headBytesOf(header);
  const { headerBytes, tableBytes, sealed } = header;
  stage((when) => when(bytes.length < head + header.storedBytes, 'LOG_TRUNCATED'));
  stage((when) => when(bytes.length > head + header.storedBytes, 'LOG_TRAILING_BYTES'));
  stage((when) =>
    when(!sha256(bytes.subarray(0, head - 32)).equals(bytes.subarray(head - 32, head)), 'LOG_TABLE_DIGEST'),
  );
  stage((when) => when(!sealed && master !== undefined, 'LOG_NOT_SEALED'));
  if (!sealed) return;
  stage((when) => when(master === undefined, 'LOG_KEY_MISSING'));
  if (master === undefined) return;
  const check = createHmac('sha256', master).update('tidemark key check v1').digest().subarray(0, 8);
  stage((when) => when(!check.equals(bytes.subarray(120, 128)), 'LOG_KEY_WRONG'));
  const key = Buffer.from(hkdfSync('sha256', master, bytes.subarray(128, 144), 'tidemark table v1', 32));
  const untagged = Buffer.from(bytes.subarray(0, headerBytes - 4)).fill(0, 144, 160);
  const tag = createHmac('sha256', key)
    .update(untagged)
    .update(bytes.subarray(headerBytes, headerBytes + tableBytes))
    .digest();
  stage((when) => when(!tag.subarray(0, 16).equals(bytes.subarray(144, 160)), 'LOG_TABLE_SEAL'));
}

interface Chunk {
  readonly storedBytes: number;
  readonly rawBytes: number;
  readonly offsetBytes: number;
  readonly sha256: Buffer;
}

function readChunks(bytes: Buffer, header: Header): readonly Chunk[] {
  const chunks: Chunk[] = [];
  const overhead = header.sealed ? 16 : 0;
  let offsetBytes = headBytesOf(header);
  let rawBytesOfAll = 0;
  stage((when) => {
    for (let i = 0; i < header.chunkCount; i++) {
      const at = header.headerBytes + header.recordCount * 32 + i * 40;
      const [storedBytes, rawBytes] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)];
      const body = storedBytes - overhead;
      when(rawBytes < 512 || rawBytes > MIB || body < 1 || body > rawBytes, 'LOG_CHUNK_SIZE');
      chunks.push({ storedBytes, rawBytes, offsetBytes, sha256: bytes.subarray(at + 8, at + 40) });
      offsetBytes += storedBytes;
      rawBytesOfAll += rawBytes;
    }
    when(offsetBytes !== headBytesOf(header) + header.storedBytes, 'LOG_TABLE_PAYLOAD');
    when(rawBytesOfAll > 12 * MIB, 'LOG_TOO_LARGE');
  });
  return chunks;
}

type Bare = Omit<ReferenceEntry, 'data'>;

function readRecords(bytes: Buffer, header: Header): readonly Bare[] {
  const { headerBytes, recordCount, chunkCount, tableBytes, firstTimeUs } = header;
  const tableEnd = headerBytes + tableBytes;
  const entries: Bare[] = [];
  let textAt = headerBytes + recordCount * 32 + chunkCount * 40;
  let earliest = BigInt(firstTimeUs);
  for (let i = 0; i < recordCount; i++) {
    const record = bytes.subarray(headerBytes + i * 32, headerBytes + (i + 1) * 32);
    const text = bytes.subarray(textAt, Math.min(tableEnd, textAt + record.readUInt16LE(2)));
    checkRecord(record, { text, header, earliest });
    earliest = u64(record, 8);
    const kind = (['write', 'discard', 'mark', 'base-complete'] as const)[record.readUInt8(0) - 1] ?? 'write';
    const mark =
      kind === 'mark'
        ? { kind: record.readUInt8(1) === 1 ? ('crash' as const) : ('app' as const), id: text.toString('utf8') }
        : undefined;
    entries.push({
      kind,
      timeUs: Number(earliest),
      offsetBytes: Number(u64(record, 16)),
      lengthBytes: Number(u64(record, 24)),
      mark,
    });
    if (mark !== undefined) textAt += text.length;
  }
  stage((when) => when(textAt !== tableEnd, 'LOG_MARK_TEXT'));
  return entries;
}

function checkRecord(
  record: Buffer,
  { text, header, earliest }: { text: Buffer; header: Header; earliest: bigint },
): void {
  const [kind, markKind, textBytes] = [record.readUInt8(0), record.readUInt8(1), record.readUInt16LE(2)];
  const [timeUs, offsetBytes, lengthBytes] = [u64(record, 8), u64(record, 16), u64(record, 24)];
  stage((when) => {
    when(
      timeUs < earliest || timeUs > BigInt(header.endTimeUs),
      timeUs > LARGEST ? 'LOG_RECORD_FIELD' : 'LOG_RECORD_TIME',
    );
    when(record.readUInt32LE(4) !== 0, 'LOG_RECORD_FIELD');
    when(kind < 1 || kind > 4, 'LOG_RECORD_KIND');
    if (kind === 3) {
      when(markKind !== 1 && markKind !== 2, 'LOG_RECORD_FIELD');
      when(textBytes < 1 || textBytes > 512 || text.length !== textBytes || !isUtf8(text), 'LOG_MARK_TEXT');
    } else when(kind < 5 && kind > 0 && (markKind !== 0 || textBytes !== 0), 'LOG_RECORD_FIELD');
    if (kind === 3 || kind === 4) when(offsetBytes !== 0n || lengthBytes !== 0n, 'LOG_RECORD_FIELD');
    if (kind !== 1 && kind !== 2) return;
    const isUnsafe = offsetBytes > LARGEST || lengthBytes > LARGEST;
    when(isUnsafe, 'LOG_RECORD_FIELD');
    when(!isUnsafe && (offsetBytes % 512n !== 0n || lengthBytes % 512n !== 0n), 'LOG_RECORD_ALIGNMENT');
    const isOutside = offsetBytes + lengthBytes > BigInt(header.diskSizeBytes);
    when(lengthBytes === 0n || isOutside || (kind === 1 && lengthBytes > BigInt(MIB)), 'LOG_RECORD_RANGE');
  });
}

function isUtf8(text: Buffer): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(text);
    return true;
  } catch {
    return false;
  }
}

interface Placed extends Bare {
  readonly chunk: number;
  readonly offsetInChunk: number;
}

function placePayload(entries: readonly Bare[], chunks: readonly Chunk[]): readonly Placed[] {
  let chunk = 0;
  let used = 0;
  const placed: Placed[] = [];
  stage((when) => {
    for (const entry of entries) {
      placed.push({ ...entry, chunk, offsetInChunk: used });
      if (entry.kind !== 'write') continue;
      used += entry.lengthBytes;
      const room = chunks[chunk]?.rawBytes ?? 0;
      when(used > room, 'LOG_TABLE_PAYLOAD');
      if (used < room) continue;
      chunk++;
      used = 0;
    }
    when(chunk !== chunks.length || used !== 0, 'LOG_TABLE_PAYLOAD');
  });
  return placed;
}

const withData = ({ chunk, offsetInChunk, ...entry }: Placed, payload: readonly Buffer[]): ReferenceEntry => ({
  ...entry,
  data: entry.kind === 'write' ? payload[chunk]?.subarray(offsetInChunk, offsetInChunk + entry.lengthBytes) : undefined,
});

function readPayload(
  bytes: Buffer,
  header: Header,
  { chunks, place }: { readonly chunks: readonly Chunk[]; readonly place: ReferencePlace },
): { readonly payload: readonly Buffer[]; readonly codes: ReadonlySet<string> } {
  const payload: Buffer[] = [];
  const codes = new Set<string>();
  const salt = bytes.subarray(128, 144);
  const key =
    place.master === undefined
      ? undefined
      : Buffer.from(hkdfSync('sha256', place.master, salt, 'tidemark segment v1', 32));
  for (const [index, chunk] of chunks.entries()) {
    const stored = bytes.subarray(chunk.offsetBytes, chunk.offsetBytes + chunk.storedBytes);
    const body = !sha256(stored).equals(chunk.sha256)
      ? 'LOG_CHUNK_CHECKSUM'
      : key === undefined
        ? stored
        : open(key, stored, { header, index });
    const raw = typeof body === 'string' ? body : inflate(body, chunk.rawBytes);
    if (typeof raw === 'string') for (const code of raw.split(' ')) codes.add(code);
    payload.push(typeof raw === 'string' ? Buffer.alloc(chunk.rawBytes, POISON) : raw);
  }
  return { payload, codes };
}

function open(key: Buffer, stored: Buffer, { header, index }: { header: Header; index: number }): Buffer | string {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(index);
  const numbers = Buffer.alloc(20);
  numbers.writeUInt32LE(header.epoch);
  numbers.writeBigUInt64LE(BigInt(header.sequence), 4);
  numbers.writeUInt32LE(index, 12);
  numbers.writeUInt32LE(header.chunkCount, 16);
  const names = header.names.flatMap((name) => [Buffer.of(name.length), Buffer.from(name)]);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
  decipher.setAAD(Buffer.concat([...names, numbers])).setAuthTag(stored.subarray(-16));
  try {
    return Buffer.concat([decipher.update(stored.subarray(0, -16)), decipher.final()]);
  } catch {
    return 'LOG_CHUNK_SEAL';
  }
}

/** The payload, or the codes that may be given. Of a bad frame with too much in it, zstd may meet either defect first. */
function inflate(body: Buffer, rawBytes: number): Buffer | string {
  if (body.length === rawBytes) return body;
  const either = 'LOG_CHUNK_CODEC LOG_CHUNK_SIZE';
  try {
    const isOneFrame = frameBytes(body) === body.length;
    const payload = zstdDecompressSync(body, {
      maxOutputLength: 2 * MIB,
      params: { [constants.ZSTD_d_windowLogMax]: 20 },
    });
    if (!isOneFrame) return either;
    return payload.length === rawBytes ? payload : 'LOG_CHUNK_SIZE';
  } catch {
    return either;
  }
}

/** Length of the zstd frame at the beginning (RFC 8878, 3.1.1), found without decompressing. @throws RangeError when it is cut */
function frameBytes(body: Buffer): number {
  const descriptor = body.readUInt8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const contentSizeBytes = sizeFlag === 0 ? Number(isSingleSegment) : 1 << sizeFlag;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  let at = 5 + Number(!isSingleSegment) + dictionaryBytes + contentSizeBytes;
  for (let isLast = false; !isLast;) {
    const block = body.readUIntLE(at, 3);
    isLast = (block & 1) === 1;
    at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
  }
  return at + ((descriptor & 4) === 0 ? 0 : 4);
}

function soundSegment(bytes: Buffer, header: Header, entries: readonly ReferenceEntry[]): ReferenceSegment {
  const { endTimeUs, recordsBefore, streamStartUs, firstTimeUs } = header;
  const end = headBytesOf(header);
  const digest = bytes.subarray(end - 32, end);
  return {
    tail: { digest, endTimeUs, recordsThrough: recordsBefore + entries.length, streamStartUs },
    firstTimeUs,
    entries,
  };
}
