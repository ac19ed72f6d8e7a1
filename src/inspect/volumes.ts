/** Pure. What may lie on a partition and is no file system: swap, LVM2 physical volumes, LUKS containers. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { judged, OK, type Finding } from './finding.ts';
import { blanked, bytesAt, MAX_READ_BYTES, type Probe, type Region, u64 } from './probe.ts';

const PAGES_BYTES = [4096, 8192, 16_384, 65_536] as const;

export function probeSwap({ head, sizeBytes }: Region): Finding | undefined {
  const pageBytes = PAGES_BYTES.find((bytes) =>
    ['SWAPSPACE2', 'S1SUSPEND\0'].includes(head.toString('latin1', bytes - 10, bytes)),
  );
  if (pageBytes === undefined) return undefined;
  const isSound = head.readUInt32LE(1024) === 1 && (head.readUInt32LE(1028) + 1) * pageBytes <= sizeBytes;
  return judged('swap', isSound ? [] : ['header'], OK);
}

/** LVM2's CRC-32 begins with this register and is not inverted in the end (lib/misc/crc.h, `INITIAL_CRC`). */
const LVM_SEED = 0xf597_a6cf;
const lvmChecksum = (bytes: Buffer): number => ~crc32(bytes, ~LVM_SEED >>> 0) >>> 0;
const LVM_METADATA_MAGIC = ' LVM2 x[5A%r0N*>';
/** Areas followed in the lists of a physical volume, which has one or two of each kind. */
const MAX_AREAS = 8;

export function* probeLvm({ head, sizeBytes }: Region): Probe<Finding | undefined> {
  const sector = [0, 1, 2, 3].find((index) => head.toString('latin1', index * 512, index * 512 + 8) === 'LABELONE');
  if (sector === undefined) return undefined;
  const label = head.subarray(sector * 512, (sector + 1) * 512);
  const reasons: string[] = [];
  if (lvmChecksum(label.subarray(20)) !== label.readUInt32LE(16)) reasons.push('label checksum');
  if (u64(label, 8) !== sector) reasons.push('label in the wrong place');
  const header = label.readUInt32LE(20);
  if (reasons.length > 0 || header < 32 || header > 512 - 40) return judged('LVM2 PV', [...reasons, 'label'], OK);
  if (u64(label, header + 32) > sizeBytes) reasons.push('larger than its disk or partition');
  for (const at of metadataAreas(label, header + 40)) {
    const area = yield* bytesAt(at, 512);
    const isSound =
      area.toString('latin1', 4, 20) === LVM_METADATA_MAGIC && lvmChecksum(area.subarray(4)) === area.readUInt32LE(0);
    if (!isSound) reasons.push('metadata area');
  }
  return judged('LVM2 PV', reasons, OK);
}

/** Offsets of the second of two lists, each of pairs of offset and size up to a pair of zeroes. */
function metadataAreas(label: Buffer, startBytes: number): number[] {
  const found: number[] = [];
  let list = 0;
  for (let at = startBytes, count = 0; at + 16 <= label.length && count < 2 * MAX_AREAS; at += 16, count++) {
    const offsetBytes = u64(label, at);
    if (offsetBytes === 0) list++;
    else if (list === 1) found.push(offsetBytes);
    if (list === 2) break;
  }
  return found;
}

const LUKS_MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1');
const LUKS_SECOND_MAGIC = Buffer.from('SKUL\xba\xbe', 'latin1');

export function* probeLuks({ head, sizeBytes }: Region): Probe<Finding | undefined> {
  if (!head.subarray(0, 6).equals(LUKS_MAGIC)) return undefined;
  const version = head.readUInt16BE(6);
  if (version === 1) {
    const isSound = head.readUInt32BE(104) * 512 <= sizeBytes && head.readUInt32BE(108) <= 512;
    return judged('LUKS1', isSound ? [] : ['header'], OK);
  }
  if (version !== 2) return judged('LUKS', ['version'], OK);
  const lengthBytes = Number(head.readBigUInt64BE(8));
  if (lengthBytes < 16_384 || lengthBytes > MAX_READ_BYTES) return judged('LUKS2', ['header size'], OK);
  const reasons: string[] = [];
  const primary = yield* bytesAt(0, lengthBytes);
  if (!luksChecksumFits(primary)) reasons.push('header checksum');
  const second = yield* bytesAt(lengthBytes, lengthBytes);
  if (!second.subarray(0, 6).equals(LUKS_SECOND_MAGIC) || !luksChecksumFits(second)) reasons.push('second header');
  return judged('LUKS2', reasons, OK);
}

/** Lengths of the checksums that a header may have, by name. */
const HASHES: Readonly<Record<string, number>> = { sha1: 20, sha256: 32, sha512: 64 };

function luksChecksumFits(header: Buffer): boolean {
  const name = header.toString('latin1', 72, 104).replace(/\0.*$/su, '');
  const lengthBytes = Object.hasOwn(HASHES, name) ? HASHES[name] : undefined;
  if (lengthBytes === undefined) return false;
  const digest = createHash(name)
    .update(blanked(header, 448, 64))
    .digest();
  return digest.equals(header.subarray(448, 448 + lengthBytes));
}
