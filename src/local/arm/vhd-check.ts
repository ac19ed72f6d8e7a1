/**
 * Pure. Whether a page blob is what Azure imports: a fixed VHD (Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0)
 * of whole MiB. Reads the footer by itself, so that it also judges the one that Tidemark writes.
 */
import { badRequest } from './arm-error.ts';

export const FOOTER_BYTES = 512;
const MIB = 1024 * 1024;
const COOKIE = 'conectix';
const FIXED = 2;
const CHECKSUM_AT = 64;

/**
 * @param footer the last 512 bytes of the blob
 * @returns the size of the disk
 * @throws ArmError InvalidVhd, UnsupportedVhdVirtualSize
 */
export function requireFixedVhd(name: string, blobBytes: number, footer: Buffer): number {
  const invalid = (why: string) =>
    badRequest('InvalidVhd', `The footer of the VHD with blob ${name} indicates that it is not supported: ${why}.`);
  if (footer.length !== FOOTER_BYTES || footer.toString('latin1', 0, COOKIE.length) !== COOKIE) {
    throw invalid(`disk is expected to have cookie value '${COOKIE}'`);
  }
  if (footer.readUInt32BE(CHECKSUM_AT) !== checksumOf(footer)) throw invalid('its checksum is wrong');
  if (footer.readUInt32BE(60) !== FIXED) throw invalid('only fixed VHDs are supported');
  const sizeBytes = Number(footer.readBigUInt64BE(48));
  if (sizeBytes !== blobBytes - FOOTER_BYTES) {
    throw invalid(`it names ${sizeBytes} bytes, and the blob has ${blobBytes - FOOTER_BYTES} before it`);
  }
  requireWholeMib(name, sizeBytes);
  return sizeBytes;
}

/** @throws ArmError UnsupportedVhdVirtualSize */
export function requireWholeMib(name: string, sizeBytes: number): void {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes % MIB === 0) return;
  throw badRequest(
    'UnsupportedVhdVirtualSize',
    `The VHD ${name} has an unsupported virtual size of ${sizeBytes} bytes. The size must be a whole number (in MBs).`,
  );
}

function checksumOf(footer: Buffer): number {
  const sum = footer.reduce((total, byte) => total + byte, 0);
  const own = footer.subarray(CHECKSUM_AT, CHECKSUM_AT + 4).reduce((total, byte) => total + byte, 0);
  return ~(sum - own) >>> 0;
}
