/** Pure. Bytes of the handshake: what the client's options hold, and what the server answers. */
import {
  EXPORT_FLAG,
  FIXED_NEWSTYLE,
  INFO,
  INIT_MAGIC,
  MAX_PAYLOAD_BYTES,
  MAX_STRING_BYTES,
  MIN_BLOCK_BYTES,
  NO_ZEROES,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  type OptionReplyType,
  PREFERRED_BLOCK_BYTES,
} from './protocol.ts';

export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
/** Zeroes after the answer to the oldest option, unless the client waived them. */
const EXPORT_NAME_PADDING_BYTES = 124;

/** The server's first words. */
export function encodeGreeting(): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(INIT_MAGIC, 0);
  bytes.writeBigUInt64BE(OPTION_MAGIC, 8);
  bytes.writeUInt16BE(FIXED_NEWSTYLE | NO_ZEROES, 16);
  return bytes;
}

/** @returns undefined for flags that this server has not offered, and for clients that know no replies to options */
export function decodeClientFlags(bytes: Buffer): { readonly noZeroes: boolean } | undefined {
  const flags = bytes.readUInt32BE(0);
  if (flags !== FIXED_NEWSTYLE && flags !== (FIXED_NEWSTYLE | NO_ZEROES)) return undefined;
  return { noZeroes: (flags & NO_ZEROES) !== 0 };
}

export interface OptionHeader {
  readonly option: number;
  /** As the client says, up to 4 GiB: to be checked before anything is allocated. */
  readonly lengthBytes: number;
}

/** @returns undefined when the bytes are no option */
export function decodeOptionHeader(bytes: Buffer): OptionHeader | undefined {
  if (bytes.readBigUInt64BE(0) !== OPTION_MAGIC) return undefined;
  return { option: bytes.readUInt32BE(8), lengthBytes: bytes.readUInt32BE(12) };
}

export function encodeOptionReply(option: number, type: OptionReplyType, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(20);
  header.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(data.length, 16);
  return Buffer.concat([header, data]);
}

/** Reads one value after the other; after a value that is not whole or not allowed, `failed` is true and all others are empty. */
class Cursor {
  readonly #bytes: Buffer;
  #at = 0;
  #failed = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Whether all bytes were read, and nothing failed. */
  get complete(): boolean {
    return !this.#failed && this.#at === this.#bytes.length;
  }

  get failed(): boolean {
    return this.#failed;
  }

  uint(widthBytes: 2 | 4): number {
    return this.#take(widthBytes)?.readUIntBE(0, widthBytes) ?? 0;
  }

  /** A string with its length before it; UTF-8 without NUL. */
  string(): string {
    const lengthBytes = this.uint(4);
    const bytes = lengthBytes <= MAX_STRING_BYTES ? this.#take(lengthBytes) : undefined;
    const text = bytes === undefined ? undefined : decodeText(bytes);
    if (text === undefined) this.#failed = true;
    return text ?? '';
  }

  #take(lengthBytes: number): Buffer | undefined {
    if (this.#failed || this.#bytes.length - this.#at < lengthBytes) {
      this.#failed = true;
      return undefined;
    }
    this.#at += lengthBytes;
    return this.#bytes.subarray(this.#at - lengthBytes, this.#at);
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @returns undefined when the bytes are no UTF-8, hold a NUL or are too many */
export function decodeText(bytes: Buffer): string | undefined {
  if (bytes.length > MAX_STRING_BYTES || bytes.includes(0)) return undefined;
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Payload of `NBD_OPT_INFO` and `NBD_OPT_GO`. What a client asks for beyond the name is of no matter: it gets all there is. */
export function decodeInfoOption(bytes: Buffer): { readonly exportName: string } | undefined {
  const cursor = new Cursor(bytes);
  const exportName = cursor.string();
  for (let requests = cursor.uint(2); requests > 0 && !cursor.failed; requests--) cursor.uint(2);
  return cursor.complete ? { exportName } : undefined;
}

/** Payload of the two metadata context options. */
export function decodeMetaContextOption(
  bytes: Buffer,
): { readonly exportName: string; readonly queries: readonly string[] } | undefined {
  const cursor = new Cursor(bytes);
  const exportName = cursor.string();
  const queries: string[] = [];
  for (let count = cursor.uint(4); count > 0 && !cursor.failed; count--) queries.push(cursor.string());
  return cursor.complete ? { exportName, queries } : undefined;
}

export function encodeExportInfo(sizeBytes: number, flags: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt16BE(INFO.export, 0);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 2);
  bytes.writeUInt16BE(flags, 10);
  return bytes;
}

export function encodeBlockSizeInfo(): Buffer {
  const bytes = Buffer.alloc(14);
  bytes.writeUInt16BE(INFO.blockSize, 0);
  bytes.writeUInt32BE(MIN_BLOCK_BYTES, 2);
  bytes.writeUInt32BE(PREFERRED_BLOCK_BYTES, 6);
  bytes.writeUInt32BE(MAX_PAYLOAD_BYTES, 10);
  return bytes;
}

/** The answer to the oldest option, which has no header. */
export function encodeExportNameReply(sizeBytes: number, flags: number, noZeroes: boolean): Buffer {
  const bytes = Buffer.alloc(10 + (noZeroes ? 0 : EXPORT_NAME_PADDING_BYTES));
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

export function encodeMetaContext(id: number, name: string): Buffer {
  const bytes = Buffer.alloc(4 + Buffer.byteLength(name));
  bytes.writeUInt32BE(id, 0);
  bytes.write(name, 4);
  return bytes;
}

/** One entry of the list of exports. */
export function encodeServerName(name: string): Buffer {
  const bytes = Buffer.alloc(4 + Buffer.byteLength(name));
  bytes.writeUInt32BE(Buffer.byteLength(name), 0);
  bytes.write(name, 4);
  return bytes;
}

/** What an export can do, as its clients are told. Any number of connections see the same disk. */
export function transmissionFlags(writable: boolean, structured: boolean): number {
  const { hasFlags, readOnly, canMultiConn, sendCache, sendDf, sendFlush, sendFua, sendTrim, sendWriteZeroes } =
    EXPORT_FLAG;
  const access = writable ? sendFlush | sendFua | sendTrim | sendWriteZeroes : readOnly;
  return hasFlags | canMultiConn | sendCache | access | (structured ? sendDf : 0);
}
