/** Pure. CRC-16 (polynomial 0x8005, reflected, register 0xffff), which ext4 without metadata checksums uses for group descriptors. */
export function crc16(bytes: Uint8Array): number {
  let register = 0xffff;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) register = (register & 1) === 0 ? register >>> 1 : (register >>> 1) ^ 0xa001;
  }
  return register;
}
