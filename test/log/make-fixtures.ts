/**
 * Writes the fixtures of the log format: `node test/log/make-fixtures.ts`. Existing files are never written again, since golden files
 * are what older sources have left in a cache account.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { decodeSegment } from '../../src/log/decode.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import type { EncodeOptions, SegmentEntry } from '../../src/log/encode.ts';
import type { SegmentHeader } from '../../src/log/segment.ts';
import { badSegments } from './bad-segments.ts';
import {
  digested,
  entriesOf,
  firstHeader,
  mixedEntries,
  noise,
  secondHeader,
  SECOND_US,
  T0,
  testKey,
  text,
  write,
} from './standard.ts';

const folder = fileURLToPath(new URL('../fixtures/log/', import.meta.url));

function writeNew(name: string, content: Buffer | string): void {
  if (existsSync(`${folder}${name}`)) return;
  writeFileSync(`${folder}${name}`, content, { flag: 'wx' });
  process.stdout.write(`${name}: ${content.length} bytes\n`);
}

function golden(name: string, header: SegmentHeader, entries: readonly SegmentEntry[], options: EncodeOptions): void {
  const { bytes, digest } = encodeSegment(header, entries, options);
  const { stream, diskSizeBytes, sequence } = header;
  const segment = decodeSegment(bytes, { stream, diskSizeBytes, sequence }, options.key);
  const described = {
    zstd: process.versions['zstd'],
    sealed: options.key !== undefined,
    level: options.level ?? null,
    chunkBytes: options.chunkBytes ?? null,
    header: { ...header, previousDigest: header.previousDigest.toString('hex') },
    digest: digest.toString('hex'),
    chunks: segment.chunks.map(({ storedBytes, rawBytes, sha256 }) => ({
      storedBytes,
      rawBytes,
      sha256: sha256.toString('hex'),
    })),
    records: digested(entriesOf(bytes, segment, options.key)),
  };
  writeNew(`v1/${name}.seg`, bytes);
  writeNew(`v1/${name}.json`, `${JSON.stringify(described, null, 2)}\n`);
}

golden('plain', secondHeader, mixedEntries(), { chunkBytes: 4096 });
golden('sealed', secondHeader, mixedEntries(), { chunkBytes: 4096, key: testKey });
golden('heartbeat', secondHeader, [], {});
golden('sealed-heartbeat', secondHeader, [], { key: testKey });
golden(
  'marks-only',
  firstHeader,
  mixedEntries(T0).filter(({ record }) => record.kind !== 'write'),
  {},
);
golden(
  'incompressible',
  firstHeader,
  [
    write(T0, 0, noise('a', 8192)),
    write(T0 + SECOND_US, 1024, noise('b', 512)),
    write(T0 + SECOND_US, 0, noise('c', 512)),
  ],
  { chunkBytes: 8192 },
);
golden(
  'high-level',
  secondHeader,
  [write(secondHeader.endTimeUs, 4_194_304, text('a long write that fills a chunk', 1_048_576))],
  { level: 9 },
);
for (const [name, bytes] of badSegments()) writeNew(`bad/${name}.seg`, bytes);
