/**
 * Pure. What every seed adapter checks before storage sees a call. Azure refuses most of these; the emulator accepts some of them and
 * then holds other bytes than asked for.
 */
import { assert } from '../errors.ts';
import { MAX_PUT_BYTES } from '../coalesce/requests.ts';
import { SECTOR_BYTES } from '../model/sizes.ts';
import type { SnapshotMetadata } from './seed-store.ts';

/** Azure limits the metadata of a blob to 8 KiB, names and values together. */
const MAX_METADATA_BYTES = 8192;

/** @throws TidemarkError ASSERTION unless the range is made of whole sectors, not empty, and inside the disk. */
export function assertSectors(offsetBytes: number, lengthBytes: number, sizeBytes: number): void {
  assert(Number.isSafeInteger(offsetBytes) && offsetBytes >= 0, `offset ${offsetBytes} is no offset`);
  assert(Number.isSafeInteger(lengthBytes) && lengthBytes > 0, `length ${lengthBytes} is no length`);
  assert(offsetBytes % SECTOR_BYTES === 0, `offset ${offsetBytes} is no multiple of ${SECTOR_BYTES}`);
  assert(lengthBytes % SECTOR_BYTES === 0, `length ${lengthBytes} is no multiple of ${SECTOR_BYTES}`);
  const end = offsetBytes + lengthBytes;
  assert(end <= sizeBytes, `range ${offsetBytes}+${lengthBytes} ends outside the disk of ${sizeBytes} bytes`);
}

/** As {@link assertSectors}, and at most {@link MAX_PUT_BYTES}. */
export function assertPut(offsetBytes: number, data: Buffer, sizeBytes: number): void {
  assertSectors(offsetBytes, data.length, sizeBytes);
  assert(data.length <= MAX_PUT_BYTES, `${data.length} bytes are more than one Put Page takes`);
}

/** @throws TidemarkError ASSERTION unless the size is made of whole sectors and the footer is one sector. */
export function assertSeed(sizeBytes: number, footer: Buffer): void {
  assert(Number.isSafeInteger(sizeBytes) && sizeBytes > 0, `size ${sizeBytes} is no size`);
  assert(sizeBytes % SECTOR_BYTES === 0, `size ${sizeBytes} is no multiple of ${SECTOR_BYTES}`);
  assert(footer.length === SECTOR_BYTES, `a footer has ${SECTOR_BYTES} bytes, not ${footer.length}`);
}

/**
 * Metadata travels in HTTP headers: names are lower-case identifiers, values printable ASCII that neither starts nor ends with a space.
 * @throws TidemarkError ASSERTION
 */
export function assertMetadata(metadata: SnapshotMetadata): void {
  let bytes = 0;
  for (const [name, value] of Object.entries(metadata)) {
    assert(/^[a-z_][a-z0-9_]*$/.test(name), `${JSON.stringify(name)} is no metadata name`);
    assert(/^[!-~](?:[ -~]*[!-~])?$/.test(value), `the value of metadata ${name} is not printable ASCII`);
    bytes += name.length + value.length;
  }
  assert(bytes <= MAX_METADATA_BYTES, `${bytes} bytes of metadata are more than ${MAX_METADATA_BYTES}`);
}
