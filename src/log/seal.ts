/**
 * Pure. Sealing of segments: AES-256-GCM per chunk, an HMAC over header and table, keys derived per segment.
 *
 * The salt is a function of everything that is encrypted under it, compressed bytes included: equal segments get equal bytes, and no
 * key and nonce ever meet two different plaintexts, not even when another zstd compresses the same payload differently.
 */
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, hkdfSync, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { TidemarkError } from '../errors.ts';
import { defect, KEY_CHECK_BYTES, SALT_BYTES, TAG_BYTES, writeU64 } from './layout.ts';
import type { ChunkInfo, SegmentHeader } from './segment.ts';

/** Opaque; made by {@link createLogKey}. Printing it shows no key material. */
export interface LogKey {
  readonly secret: KeyObject;
  /** Tells a wrong key from damage; reveals nothing about the key. */
  readonly check: Buffer;
  /** Opens what was sealed before the key was changed; seals nothing. */
  readonly previous?: LogKey;
}

export const MASTER_KEY_BYTES = 32;
const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;

const hmac = (key: KeyObject, parts: readonly (Buffer | string)[], bytes: number): Buffer => {
  const mac = createHmac('sha256', key);
  for (const part of parts) mac.update(part);
  return mac.digest().subarray(0, bytes);
};

const derive = (key: LogKey, salt: Buffer, info: string): KeyObject =>
  createSecretKey(Buffer.from(hkdfSync('sha256', key.secret, salt, info, MASTER_KEY_BYTES)));

/** `master`: 32 random bytes; the caller may wipe them afterwards. @throws TidemarkError LOG_KEY_INVALID */
export function createLogKey(master: Buffer, previous?: LogKey): LogKey {
  if (master.length !== MASTER_KEY_BYTES) {
    throw new TidemarkError('LOG_KEY_INVALID', `a log key has ${MASTER_KEY_BYTES} bytes, this one ${master.length}`);
  }
  const secret = createSecretKey(master);
  const check = hmac(secret, ['tidemark key check v1'], KEY_CHECK_BYTES);
  return { secret, check, ...(previous !== undefined && { previous }) };
}

/** The key that a segment with this `keyCheck` is sealed with, or undefined when it is neither `key` nor the one before it. */
export const openingKey = (key: LogKey, keyCheck: Buffer): LogKey | undefined =>
  [key, key.previous].find((one) => one !== undefined && equalTags(one.check, keyCheck));

/** `header` (without CRC) and `table` are final but for zeroes where salt, tag and chunk digests go; `bodies` is what will be sealed. */
export const saltOf = (key: LogKey, header: Buffer, table: Buffer, bodies: readonly Buffer[]): Buffer =>
  hmac(key.secret, ['tidemark salt v1', header, table, ...bodies], SALT_BYTES);

/** `header` without CRC, with zeroes where the tag goes; `table` final. */
export const tableTagOf = (key: LogKey, salt: Buffer, header: Buffer, table: Buffer): Buffer =>
  hmac(derive(key, salt, 'tidemark table v1'), [header, table], TAG_BYTES);

export const equalTags = (a: Buffer, b: Buffer): boolean => a.length === b.length && timingSafeEqual(a, b);

/** The place of a chunk, which its seal covers: a sealed chunk fits no other place. */
export interface ChunkPlace {
  readonly header: SegmentHeader;
  readonly chunkIndex: number;
  readonly chunkCount: number;
}

function placeBytes({ header, chunkIndex, chunkCount }: ChunkPlace): Buffer {
  const { stream, sequence } = header;
  const names = [stream.group, stream.machine, stream.disk].map((name) =>
    Buffer.from(`${String.fromCharCode(name.length)}${name}`, 'latin1'),
  );
  const numbers = Buffer.alloc(20);
  numbers.writeUInt32LE(stream.epoch, 0);
  writeU64(numbers, sequence, 4);
  numbers.writeUInt32LE(chunkIndex, 12);
  numbers.writeUInt32LE(chunkCount, 16);
  return Buffer.concat([...names, numbers]);
}

function nonceOf(chunkIndex: number): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32LE(chunkIndex, 0);
  return nonce;
}

/** The key of one segment's chunks. */
export const chunkKeyOf = (key: LogKey, salt: Buffer): KeyObject => derive(key, salt, 'tidemark segment v1');

/** Ciphertext, then the 16-byte tag. */
export function sealChunk(chunkKey: KeyObject, place: ChunkPlace, body: Buffer): Buffer {
  const cipher = createCipheriv(CIPHER, chunkKey, nonceOf(place.chunkIndex), { authTagLength: TAG_BYTES });
  cipher.setAAD(placeBytes(place));
  return Buffer.concat([cipher.update(body), cipher.final(), cipher.getAuthTag()]);
}

/** @throws TidemarkError LOG_CHUNK_SEAL */
export function openChunk(chunkKey: KeyObject, place: ChunkPlace, stored: Buffer, info: ChunkInfo): Buffer {
  const decipher = createDecipheriv(CIPHER, chunkKey, nonceOf(place.chunkIndex), { authTagLength: TAG_BYTES });
  decipher.setAAD(placeBytes(place));
  decipher.setAuthTag(stored.subarray(stored.length - TAG_BYTES));
  const body = decipher.update(stored.subarray(0, stored.length - TAG_BYTES));
  try {
    decipher.final();
  } catch (cause) {
    const where = { offset: info.offsetBytes, field: `chunk ${place.chunkIndex}`, cause };
    throw defect('LOG_CHUNK_SEAL', 'the seal of a chunk does not fit its key, bytes or place', where);
  }
  return body;
}
