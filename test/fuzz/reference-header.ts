/** The header's part of the reference reader, and how it collects defects. Nothing of `src/log` is used. */
import { crc32 } from 'node:zlib';

/** Every defect of one stage. */
export class Defects extends Error {
  readonly codes: ReadonlySet<string>;
  constructor(codes: ReadonlySet<string>) {
    super([...codes].join(' '));
    this.codes = codes;
  }
}

/** Collects the defects of one stage: `when(true, code)` is one. */
export class Stage {
  readonly #codes = new Set<string>();
  when(isDefect: boolean, code: string): void {
    if (isDefect) this.#codes.add(code);
  }
  end(): void {
    if (this.#codes.size > 0) throw new Defects(this.#codes);
  }
}

export const stage = (judge: (when: Stage['when']) => void): void => {
  const one = new Stage();
  judge((isDefect, code) => one.when(isDefect, code));
  one.end();
};

export const MIB = 1_048_576;
export const LARGEST = BigInt(Number.MAX_SAFE_INTEGER);
export const u64 = (bytes: Buffer, at: number): bigint => bytes.readBigUInt64LE(at);
export const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);
const isName = (name: string): boolean =>
  /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(name) && !name.includes('..');

export interface Header {
  readonly headerBytes: number;
  readonly sealed: boolean;
  readonly epoch: number;
  readonly recordCount: number;
  readonly chunkCount: number;
  readonly tableBytes: number;
  readonly sequence: number;
  readonly streamStartUs: number;
  readonly recordsBefore: number;
  readonly firstTimeUs: number;
  readonly endTimeUs: number;
  readonly diskSizeBytes: number;
  readonly storedBytes: number;
  readonly previousDigest: Buffer;
  readonly names: readonly string[];
}

/** @throws Defects */
export function readHeader(bytes: Buffer): Header {
  stage((when) => when(bytes.length > 16 * MIB, 'LOG_TOO_LARGE'));
  stage((when) => when(!'TIDEMARK'.startsWith(bytes.toString('latin1', 0, 8)), 'LOG_MAGIC'));
  stage((when) => when(bytes.length < 16, 'LOG_TRUNCATED'));
  const headerBytes = bytes.readUInt32LE(12);
  stage((when) => when(headerBytes > 4096 || headerBytes < 20, 'LOG_HEADER_FIELD'));
  stage((when) => when(bytes.length < headerBytes, 'LOG_TRUNCATED'));
  const end = headerBytes - 4;
  stage((when) => when(bytes.readUInt32LE(end) !== crc32(bytes.subarray(0, end)), 'LOG_HEADER_CHECKSUM'));
  stage((when) => when(bytes.readUInt16LE(8) !== 1, 'LOG_VERSION'));
  const flags = bytes.readUInt16LE(10);
  stage((when) => when(flags > 1, 'LOG_FLAGS'));
  stage((when) => when(headerBytes < 167, 'LOG_HEADER_FIELD'));
  const wide = {
    sequence: u64(bytes, 24),
    streamStartUs: u64(bytes, 32),
    recordsBefore: u64(bytes, 40),
    firstTimeUs: u64(bytes, 48),
  };
  const [endTimeUs, diskSizeBytes, storedBytes] = [u64(bytes, 56), u64(bytes, 64), u64(bytes, 80)];
  const [epoch, recordCount, chunkCount, tableBytes] = [16, 20, 72, 76].map((at) => bytes.readUInt32LE(at)) as [
    number,
    number,
    number,
    number,
  ];
  const names = readNames(bytes.subarray(160, end));
  stage((when) => {
    when(recordCount > 65_536 || chunkCount > 512 || tableBytes > 3 * MIB, 'LOG_TOO_LARGE');
    when(BigInt(headerBytes + tableBytes + 32) + storedBytes > BigInt(16 * MIB), 'LOG_TOO_LARGE');
    when(tableBytes < recordCount * 32 + chunkCount * 40, 'LOG_HEADER_FIELD');
    when(flags === 0 && !isZero(bytes.subarray(120, 160)), 'LOG_HEADER_FIELD');
    when(names === undefined || epoch < 1 || epoch > 99_999_999, 'LOG_HEADER_FIELD');
    when(wide.sequence < 1n || wide.sequence > 999_999_999_999n, 'LOG_HEADER_FIELD');
    when(
      [wide.streamStartUs, wide.recordsBefore, wide.firstTimeUs, endTimeUs].some((value) => value > LARGEST),
      'LOG_HEADER_FIELD',
    );
    when(wide.recordsBefore + BigInt(recordCount) > LARGEST, 'LOG_HEADER_FIELD');
    when(
      diskSizeBytes < BigInt(MIB) ||
        diskSizeBytes % BigInt(MIB) !== 0n ||
        diskSizeBytes > 8n * 1024n ** 4n - BigInt(MIB),
      'LOG_HEADER_FIELD',
    );
    when(wide.firstTimeUs < wide.streamStartUs || endTimeUs < wide.firstTimeUs, 'LOG_TIME_BACKWARDS');
    when(endTimeUs - wide.firstTimeUs > 35n * 86_400_000_000n, 'LOG_TIME_LEAP');
  });
  return {
    headerBytes,
    sealed: flags === 1,
    epoch,
    recordCount,
    chunkCount,
    tableBytes,
    sequence: Number(wide.sequence),
    streamStartUs: Number(wide.streamStartUs),
    recordsBefore: Number(wide.recordsBefore),
    firstTimeUs: Number(wide.firstTimeUs),
    endTimeUs: Number(endTimeUs),
    diskSizeBytes: Number(diskSizeBytes),
    storedBytes: Number(storedBytes),
    previousDigest: bytes.subarray(88, 120),
    names: names ?? [],
  };
}

/** Group, machine and disk, or undefined when `bytes` are not exactly three names. */
function readNames(bytes: Buffer): readonly string[] | undefined {
  const names: string[] = [];
  let at = 0;
  for (let i = 0; i < 3; i++) {
    const length = bytes[at] ?? Number.POSITIVE_INFINITY;
    if (at + 1 + length > bytes.length) return undefined;
    names.push(bytes.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return at === bytes.length && names.every(isName) ? names : undefined;
}
