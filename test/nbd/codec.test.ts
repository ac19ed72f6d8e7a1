/** The codec against bytes that are written and read by other code (test/support/nbd-client.ts). */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeClientFlags,
  decodeInfoOption,
  decodeMetaContextOption,
  decodeOptionHeader,
  decodeText,
  encodeExportInfo,
  encodeOptionReply,
  OPTION_HEADER_BYTES,
  transmissionFlags,
} from '../../src/nbd/handshake-codec.ts';
import { MAX_PAYLOAD_BYTES, MAX_STRING_BYTES, OPTION_REPLY } from '../../src/nbd/protocol.ts';
import {
  decodeRequest,
  encodeDataChunk,
  encodeErrorChunk,
  encodeHoleChunk,
  encodeSimpleReply,
  encodeStatusChunk,
  mergeExtents,
  refusal,
  REQUEST_BYTES,
  type NbdRequest,
} from '../../src/nbd/transmission-codec.ts';
import { infoPayload, metaPayload, optionBytes, requestBytes, text, uints } from '../support/nbd-client.ts';

/** Hexadecimal digits, written field by field. */
const fields = (text: string): string => text.replaceAll(' ', '');

const uint16 = fc.integer({ min: 0, max: 2 ** 16 - 1 });
const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
/** No lone surrogates, which UTF-8 cannot carry, and no NUL. */
const name = fc
  .string({ unit: 'grapheme', maxLength: 200 })
  .filter((value) => !value.includes('\0') && value.isWellFormed());

describe('what a client says', () => {
  it('is decoded as it was encoded', () => {
    fc.assert(
      fc.property(uint16, uint16, uint64, uint64, uint32, (flags, command, cookie, offset, length) => {
        const bytes = requestBytes({ flags, command, cookie, offset, length });
        expect(bytes).toHaveLength(REQUEST_BYTES);
        expect(decodeRequest(bytes)).toEqual({ flags, command, cookie, offset, lengthBytes: length });
      }),
    );
    fc.assert(
      fc.property(uint32, uint32, (option, length) => {
        const bytes = optionBytes(option, Buffer.alloc(0), length);
        expect(bytes).toHaveLength(OPTION_HEADER_BYTES);
        expect(decodeOptionHeader(bytes)).toEqual({ option, lengthBytes: length });
      }),
    );
    fc.assert(
      fc.property(name, fc.array(uint16, { maxLength: 20 }), (exportName, infos) => {
        expect(decodeInfoOption(infoPayload(exportName, ...infos))).toEqual({ exportName });
      }),
    );
    fc.assert(
      fc.property(name, fc.array(name, { maxLength: 20 }), (exportName, queries) => {
        expect(decodeMetaContextOption(metaPayload(exportName, ...queries))).toEqual({ exportName, queries });
      }),
    );
  });

  it('is refused when a byte is missing or left over', () => {
    fc.assert(
      fc.property(name, fc.array(name, { maxLength: 5 }), fc.nat(), (exportName, queries, cut) => {
        const meta = metaPayload(exportName, ...queries);
        const info = infoPayload(exportName, 3);
        expect(decodeMetaContextOption(meta.subarray(0, cut % meta.length))).toBeUndefined();
        expect(decodeInfoOption(info.subarray(0, cut % info.length))).toBeUndefined();
        expect(decodeMetaContextOption(Buffer.concat([meta, Buffer.alloc(1)]))).toBeUndefined();
        expect(decodeInfoOption(Buffer.concat([info, Buffer.alloc(1)]))).toBeUndefined();
      }),
    );
  });

  it('may be any bytes: each is an answer or a refusal', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (raw) => {
        const bytes = Buffer.from(raw);
        const padded = Buffer.concat([bytes, Buffer.alloc(REQUEST_BYTES)]);
        const meta = decodeMetaContextOption(bytes);
        if (meta !== undefined) expect(metaPayload(meta.exportName, ...meta.queries).equals(bytes)).toBe(true);
        const info = decodeInfoOption(bytes);
        if (info !== undefined) expect(bytes.subarray(0, text(info.exportName).length)).toEqual(text(info.exportName));
        const isRequest = padded.readUInt32BE(0) === 0x25609513;
        expect(decodeRequest(padded) !== undefined).toBe(isRequest);
        expect(decodeOptionHeader(padded) !== undefined).toBe(padded.toString('latin1', 0, 8) === 'IHAVEOPT');
      }),
      { numRuns: 1000 },
    );
  });

  it('never makes a string longer than the bytes that are there', () => {
    for (const claimed of [5, MAX_STRING_BYTES, MAX_STRING_BYTES + 1, 2 ** 32 - 1]) {
      const bytes = Buffer.concat([uints([4, claimed]), Buffer.from('four'), uints([2, 0])]);
      expect(decodeInfoOption(bytes)).toBeUndefined();
    }
    // A count of queries that nothing follows ends at the first missing one.
    expect(decodeMetaContextOption(Buffer.concat([text('x'), uints([4, 2 ** 32 - 1])]))).toBeUndefined();
    expect(decodeInfoOption(Buffer.concat([text('x'), uints([2, 2 ** 16 - 1])]))).toBeUndefined();
  });

  it('has names of UTF-8 without NUL, of 4,096 bytes at the most', () => {
    expect(decodeText(Buffer.alloc(MAX_STRING_BYTES, 'a'))).toHaveLength(MAX_STRING_BYTES);
    expect(decodeText(Buffer.alloc(MAX_STRING_BYTES + 1, 'a'))).toBeUndefined();
    expect(decodeText(Buffer.from('a\0b'))).toBeUndefined();
    expect(decodeText(Buffer.from([0xc3, 0x28]))).toBeUndefined();
    expect(decodeText(Buffer.from('\u{FEFF}x'))).toBe('\u{FEFF}x');
  });

  it.each([0, 2, 4, 7, 2 ** 31 + 3])('begins with flags that were offered, not %i', (flags) => {
    expect(decodeClientFlags(uints([4, flags]))).toBeUndefined();
  });

  it.each([
    [1, false],
    [3, true],
  ])('begins with flags %i', (flags, noZeroes) => {
    expect(decodeClientFlags(uints([4, flags]))).toEqual({ noZeroes });
  });
});

describe('what the server says', () => {
  it('has the bytes of the protocol', () => {
    expect(encodeOptionReply(7, OPTION_REPLY.unknown, Buffer.from('x')).toString('hex')).toBe(
      fields('0003e889045565a9 00000007 80000006 00000001 78'),
    );
    expect(encodeExportInfo(2 ** 40 + 512, 0x12f).toString('hex')).toBe(fields('0000 0000010000000200 012f'));
    expect(encodeSimpleReply(0x0102030405060708n, 'ENOSPC').toString('hex')).toBe(
      fields('67446698 0000001c 0102030405060708'),
    );
    expect(encodeSimpleReply(1n, undefined).toString('hex')).toBe(fields('67446698 00000000 0000000000000001'));
    expect(encodeDataChunk(2n, 4096, 512, false).toString('hex')).toBe(
      fields('668e33ef 0000 0001 0000000000000002 00000208 0000000000001000'),
    );
    expect(encodeHoleChunk(2n, 4096, 8192, true).toString('hex')).toBe(
      fields('668e33ef 0001 0002 0000000000000002 0000000c 0000000000001000 00002000'),
    );
    expect(encodeErrorChunk(2n, 'EIO').toString('hex')).toBe(
      fields('668e33ef 0001 8001 0000000000000002 00000006 00000005 0000'),
    );
    const extents = [
      { offsetBytes: 0, lengthBytes: 4096, kind: 'data' },
      { offsetBytes: 4096, lengthBytes: 512, kind: 'hole' },
    ] as const;
    expect(encodeStatusChunk(2n, extents).toString('hex')).toBe(
      fields('668e33ef 0001 0005 0000000000000002 00000014 00000001 00001000 00000000 00000200 00000003'),
    );
  });

  it('names what the export can do', () => {
    expect(transmissionFlags(false, false)).toBe(0b101_0000_0011);
    expect(transmissionFlags(false, true)).toBe(0b101_1000_0011);
    expect(transmissionFlags(true, true)).toBe(0b101_1110_1101);
  });
});

describe('requests that must not be carried out', () => {
  const SIZE = 1024 * 1024 * 1024;
  const rules = { sizeBytes: SIZE, writable: true, structured: true, allocation: true };
  const at = (command: number, offset: bigint, lengthBytes: number, flags = 0): NbdRequest => ({
    command,
    flags,
    cookie: 0n,
    offset,
    lengthBytes,
  });

  it('is every range that ends outside the disk, and no other', () => {
    const command = fc.constantFrom(0, 1, 4, 5, 6, 7);
    const offset = fc.oneof(uint64, fc.bigInt({ min: 0n, max: BigInt(SIZE) }));
    fc.assert(
      fc.property(command, offset, fc.integer({ min: 1, max: MAX_PAYLOAD_BYTES }), (kind, from, length) => {
        const outside = from + BigInt(length) > BigInt(SIZE);
        const changes = kind === 1 || kind === 4 || kind === 6;
        expect(refusal(at(kind, from, length), rules)).toBe(outside ? (changes ? 'ENOSPC' : 'EINVAL') : undefined);
      }),
    );
  });

  it.each([
    ['a read of nothing', at(0, 0n, 0), rules, 'EINVAL'],
    ['a read above the limit', at(0, 0n, MAX_PAYLOAD_BYTES + 1), rules, 'EINVAL'],
    ['a write above the limit', at(1, 0n, MAX_PAYLOAD_BYTES + 1), rules, 'EINVAL'],
    ['zeroes above the limit', at(6, 0n, SIZE), rules, undefined],
    ['an unknown command', at(8, 0n, 1), rules, 'EINVAL'],
    ['an unknown flag', at(0, 0n, 1, 16), rules, 'EINVAL'],
    ['fast zeroes, which are not offered', at(6, 0n, 1, 16), rules, 'EINVAL'],
    ['FUA on a read', at(0, 0n, 1, 1), rules, undefined],
    ['FUA where nothing can be written', at(0, 0n, 1, 1), { ...rules, writable: false }, 'EINVAL'],
    ['a whole chunk without structure', at(0, 0n, 1, 4), { ...rules, structured: false }, 'EINVAL'],
    ['a write to a read-only disk', at(1, 0n, 1), { ...rules, writable: false }, 'EPERM'],
    ['a trim of a read-only disk', at(4, 0n, 1), { ...rules, writable: false }, 'EPERM'],
    ['zeroes on a read-only disk', at(6, 0n, 1), { ...rules, writable: false }, 'EPERM'],
    ['a flush of a read-only disk', at(3, 0n, 0), { ...rules, writable: false }, 'EINVAL'],
    ['a flush of a range', at(3, 512n, 512), rules, 'EINVAL'],
    ['a flush', at(3, 0n, 0), rules, undefined],
    ['block status that was not selected', at(7, 0n, 1), { ...rules, allocation: false }, 'EINVAL'],
  ] as const)('%s', (_what, request, given, error) => {
    expect(refusal(request, given)).toBe(error);
  });
});

describe('merging extents', () => {
  const extents = fc
    .array(fc.record({ lengthBytes: fc.integer({ min: 1, max: 10_000 }), hole: fc.boolean() }), { minLength: 1 })
    .map((parts) => {
      let offsetBytes = 0;
      return parts.map(({ lengthBytes, hole }) => {
        const extent = { offsetBytes, lengthBytes, kind: hole ? 'hole' : 'data' } as const;
        offsetBytes += lengthBytes;
        return extent;
      });
    });

  it('covers the same bytes, says hole only where there is one, and keeps to its limit', () => {
    fc.assert(
      fc.property(extents, fc.constantFrom(0, 512, 4096), fc.integer({ min: 1, max: 20 }), (given, minHole, limit) => {
        const merged = mergeExtents(given, minHole, limit);
        expect(merged.length).toBeLessThanOrEqual(limit);
        let at = 0;
        for (const [index, { offsetBytes, lengthBytes, kind }] of merged.entries()) {
          expect(offsetBytes).toBe(at);
          at += lengthBytes;
          expect(kind).not.toBe(merged[index - 1]?.kind);
          if (kind === 'data') continue;
          const inside = given.filter((one) => one.offsetBytes < at && one.offsetBytes + one.lengthBytes > offsetBytes);
          expect(inside.every((one) => one.kind === 'hole')).toBe(true);
        }
        const total = given.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
        if (merged.length < limit) expect(at).toBe(total);
      }),
    );
  });
});
