/** Takes segments apart and puts them together again with checksums that fit, as a hostile writer would. */
import { createHash, createHmac, hkdfSync } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { CHUNK, CHUNK_BYTES, HEADER, RECORD_BYTES, writeU64 } from '../../src/log/layout.ts';
import type { LogKey } from '../../src/log/seal.ts';

export interface SegmentParts {
  /** Header without CRC. */
  head: Buffer;
  table: Buffer;
  chunks: Buffer[];
}

export function takeApart(bytes: Buffer): SegmentParts {
  const headerBytes = bytes.readUInt32LE(HEADER.headerBytes);
  const tableEnd = headerBytes + bytes.readUInt32LE(HEADER.tableBytes);
  const table = Buffer.from(bytes.subarray(headerBytes, tableEnd));
  const chunksAt = bytes.readUInt32LE(HEADER.recordCount) * RECORD_BYTES;
  const chunks: Buffer[] = [];
  let at = tableEnd + 32;
  for (let i = 0; i < bytes.readUInt32LE(HEADER.chunkCount); i++) {
    const end = at + table.readUInt32LE(chunksAt + i * CHUNK_BYTES + CHUNK.storedBytes);
    chunks.push(Buffer.from(bytes.subarray(at, end)));
    at = end;
  }
  return { head: Buffer.from(bytes.subarray(0, headerBytes - 4)), table, chunks };
}

/** Makes lengths and digests of the chunks fit in table and header. */
export function fitChunks({ head, table, chunks }: SegmentParts): void {
  const chunksAt = head.readUInt32LE(HEADER.recordCount) * RECORD_BYTES;
  for (const [i, chunk] of chunks.entries()) {
    table.writeUInt32LE(chunk.length, chunksAt + i * CHUNK_BYTES + CHUNK.storedBytes);
    createHash('sha256')
      .update(chunk)
      .digest()
      .copy(table, chunksAt + i * CHUNK_BYTES + CHUNK.sha256);
  }
  writeU64(
    head,
    chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    HEADER.storedBytes,
  );
}

/** CRC and digest fit; with `key`, the tag of header and table as well. */
export function putTogether({ head, table, chunks }: SegmentParts, key?: LogKey): Buffer {
  if (key !== undefined) {
    const salt = head.subarray(HEADER.salt, HEADER.tableTag);
    const tagKey = Buffer.from(hkdfSync('sha256', key.secret, salt, 'tidemark table v1', 32));
    head.fill(0, HEADER.tableTag, HEADER.names);
    createHmac('sha256', tagKey).update(head).update(table).digest().copy(head, HEADER.tableTag, 0, 16);
  }
  const crc = Buffer.alloc(4);
  crc.writeUInt32LE(crc32(head));
  const covered = Buffer.concat([head, crc, table]);
  return Buffer.concat([covered, createHash('sha256').update(covered).digest(), ...chunks]);
}

/** A copy of `bytes` with one thing changed and all checksums right. */
export function forge(bytes: Buffer, change: (parts: SegmentParts) => void, key?: LogKey): Buffer {
  const parts = takeApart(bytes);
  change(parts);
  return putTogether(parts, key);
}
