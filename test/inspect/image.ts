/** Runs an inspection over bytes at hand, and keeps count of what it reads. */
import { probeDisk } from '../../src/inspect/inspect-disk.ts';
import type { DiskFinding } from '../../src/inspect/finding.ts';

export interface Looked extends DiskFinding {
  readonly reads: number;
  readonly readBytes: number;
}

/** @throws Error when the inspection asks for bytes outside the image, or for more than an inspection may */
export function look(image: Buffer, sizeBytes: number = image.length): Looked {
  const probe = probeDisk(sizeBytes);
  let [reads, readBytes] = [0, 0];
  for (let step = probe.next(); ;) {
    if (step.done === true) return { ...step.value, reads, readBytes };
    const { offsetBytes, lengthBytes } = step.value;
    if (offsetBytes < 0 || lengthBytes <= 0 || offsetBytes + lengthBytes > sizeBytes) {
      throw new Error(`read of ${lengthBytes} bytes at ${offsetBytes} of ${sizeBytes}`);
    }
    reads++;
    readBytes += lengthBytes;
    step = probe.next(image.subarray(offsetBytes, offsetBytes + lengthBytes));
  }
}
