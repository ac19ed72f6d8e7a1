import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { decodeSegment, peekHeader } from '../../src/log/decode.ts';
import { entriesOf, SECOND_US, T0 } from './standard.ts';

/** The bytes of the ```hex block: an offset, the bytes, a comment after `#`. */
function exampleBytes(): Buffer {
  const page = readFileSync(new URL('../../docs/replication-log.md', import.meta.url), 'utf8');
  const lines = (/```hex\n(.*?)```/s.exec(page)?.[1] ?? '').trimEnd().split('\n');
  let bytes = Buffer.alloc(0);
  for (const line of lines) {
    const [, offset, hex] = /^([0-9a-f]{4})((?: +[0-9a-f]{2})+)/.exec(line) ?? [];
    expect(Number.parseInt(offset ?? '', 16), line).toBe(bytes.length);
    bytes = Buffer.concat([bytes, Buffer.from((hex ?? '').replaceAll(' ', ''), 'hex')]);
  }
  return bytes;
}

it('the example of the specification decodes to what it says', () => {
  const bytes = exampleBytes();
  const stream = { group: 'shop', machine: 'web-1', disk: 'disk0', epoch: 1 };
  const segment = decodeSegment(bytes, { stream, diskSizeBytes: 1_048_576, sequence: 1 });
  expect(segment.header).toEqual({
    stream,
    diskSizeBytes: 1_048_576,
    sequence: 1,
    streamStartUs: T0,
    recordsBefore: 0,
    firstTimeUs: T0,
    endTimeUs: T0 + 5 * SECOND_US,
    previousDigest: Buffer.alloc(32),
  });
  expect(entriesOf(bytes, segment)).toEqual([
    {
      record: { kind: 'write', timeUs: T0 + SECOND_US, offsetBytes: 4096, lengthBytes: 512 },
      data: Buffer.alloc(512, 'tidemark'),
    },
    { record: { kind: 'mark', timeUs: T0 + 2.5 * SECOND_US, markKind: 'crash', id: 'c-0001' } },
  ]);
  expect(peekHeader(bytes.subarray(0, 181))).toMatchObject({ headBytes: 323, totalBytes: bytes.length });
});
