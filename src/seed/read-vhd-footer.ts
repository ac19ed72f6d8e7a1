/**
 * Pure. Whether a page blob is what Azure imports: a fixed VHD (Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0)
 * of whole MiB. Apart from the code that writes the footer, so that it judges that code too.
 */
import { MIB } from '../model/sizes.ts';

const FOOTER_BYTES = 512;
const COOKIE = 'conectix';
const FIXED = 2;
const CHECKSUM_AT = 64;
const CHECKSUM_END = 68;

export type VhdFooter =
  | { readonly sizeBytes: number }
  /** `content`: not a fixed VHD; `size`: one that is not a whole number of MiB. */
  | { readonly problem: 'content' | 'size'; readonly reason: string };

/** @param footer the last 512 bytes of the blob */
export function readVhdFooter(blobBytes: number, footer: Buffer): VhdFooter {
  const not = (reason: string): VhdFooter => ({ problem: 'content', reason });
  if (footer.length !== FOOTER_BYTES || footer.toString('latin1', 0, COOKIE.length) !== COOKIE) {
    return not(`disk is expected to have cookie value '${COOKIE}'`);
  }
  if (footer.readUInt32BE(CHECKSUM_AT) !== checksumOf(footer)) return not('its checksum is wrong');
  if (footer.readUInt32BE(60) !== FIXED) return not('only fixed VHDs are supported');
  const sizeBytes = Number(footer.readBigUInt64BE(48));
  const beforeBytes = blobBytes - FOOTER_BYTES;
  if (sizeBytes !== beforeBytes) return not(`it names ${sizeBytes} bytes, and the blob has ${beforeBytes} before it`);
  return isWholeMib(sizeBytes) ? { sizeBytes } : { problem: 'size', reason: `${sizeBytes} is no whole number of MiB` };
}

export const isWholeMib = (sizeBytes: number): boolean =>
  Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes % MIB === 0;

/** One's complement of the sum of all bytes but the checksum's own. */
function checksumOf(footer: Buffer): number {
  const sumOf = (bytes: Buffer): number => bytes.reduce((total, byte) => total + byte, 0);
  return ~(sumOf(footer) - sumOf(footer.subarray(CHECKSUM_AT, CHECKSUM_END))) >>> 0;
}
