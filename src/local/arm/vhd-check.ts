/** Pure. What Azure says of a page blob that is not what it imports. */
import { isWholeMib, readVhdFooter } from '../../seed/read-vhd-footer.ts';
import { badRequest } from './arm-error.ts';

export const FOOTER_BYTES = 512;

/** @returns the size of the disk @throws ArmError InvalidVhd, UnsupportedVhdVirtualSize */
export function requireFixedVhd(name: string, blobBytes: number, footer: Buffer): number {
  const found = readVhdFooter(blobBytes, footer);
  if ('sizeBytes' in found) return found.sizeBytes;
  if (found.problem === 'size') throw unsupportedSize(name, blobBytes - FOOTER_BYTES);
  throw badRequest(
    'InvalidVhd',
    `The footer of the VHD with blob ${name} indicates that it is not supported: ${found.reason}.`,
  );
}

/** @throws ArmError UnsupportedVhdVirtualSize */
export function requireWholeMib(name: string, sizeBytes: number): void {
  if (!isWholeMib(sizeBytes)) throw unsupportedSize(name, sizeBytes);
}

const unsupportedSize = (name: string, sizeBytes: number) =>
  badRequest(
    'UnsupportedVhdVirtualSize',
    `The VHD ${name} has an unsupported virtual size of ${sizeBytes} bytes. The size must be a whole number (in MBs).`,
  );
