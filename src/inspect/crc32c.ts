/** Pure. CRC-32C (Castagnoli, RFC 3720 appendix B.4), which ext4, XFS and btrfs use and Node's zlib does not have. */

/** Reflected polynomial. */
const POLYNOMIAL = 0x82f63b78;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ POLYNOMIAL;
  return value >>> 0;
});

/** The running register, neither inverted before nor after: as ext4 chains it. */
export function crc32cRegister(bytes: Uint8Array, register: number): number {
  let value = register;
  for (const byte of bytes) value = (TABLE[(value ^ byte) & 0xff] ?? 0) ^ (value >>> 8);
  return value >>> 0;
}

/** Register to begin with. */
export const CRC32C_SEED = 0xffff_ffff;

/** The checksum in its usual form, of all parts one after another. */
export function crc32c(...parts: readonly Uint8Array[]): number {
  const register = parts.reduce((value, part) => crc32cRegister(part, value), CRC32C_SEED);
  return ~register >>> 0;
}
