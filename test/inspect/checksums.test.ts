import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc16 } from '../../src/inspect/crc16.ts';
import { crc32c, crc32cRegister, CRC32C_SEED } from '../../src/inspect/crc32c.ts';

describe('CRC-32C', () => {
  // RFC 3720, appendix B.4; the first is the check value of every CRC catalogue.
  it.each([
    ['123456789', Buffer.from('123456789'), 0xe3069283],
    ['32 zeroes', Buffer.alloc(32), 0x8a9136aa],
    ['32 times 0xff', Buffer.alloc(32, 0xff), 0x62a8ab43],
    ['0 to 31', Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
    ['31 to 0', Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c],
  ])('of %s', (_, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });

  it('is the same in parts', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 300 }), (a, b) => {
        const whole = crc32c(Buffer.concat([a, b]));
        expect(crc32c(a, b)).toBe(whole);
        expect(~crc32cRegister(b, crc32cRegister(a, CRC32C_SEED)) >>> 0).toBe(whole);
      }),
    );
  });
});

it('CRC-16 has the check value of its parameters (CRC-16/MODBUS)', () => {
  expect(crc16(Buffer.from('123456789'))).toBe(0x4b37);
});
