/** The public keys that a tenant signs with, as Entra ID publishes them: fetched when they are needed, kept with bounds. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';

/** An unknown key id makes the keys be read again, but whoever invents ids does so at most this often. */
export const REFRESH_MS = 60_000;
/** After a look that failed. */
const RETRY_MS = 5000;
/** Keys are looked at again after the first figure, and not believed any more after the second: one that was withdrawn must go. */
export const KEY_AGE = { staleMs: 12 * 3_600_000, mostMs: 24 * 3_600_000 } as const;
const FETCH_LIMIT_MS = 5000;
const MAX_DOCUMENT_BYTES = 256 * 1024;
const MAX_KEYS = 64;
/** Bits of RSA keys: below, they are weak; above, no tenant has them, and they take long. */
const KEY_BITS = { least: 2048, most: 4096 } as const;

const keySetSchema = z.object({ keys: z.array(z.record(z.string(), z.unknown())).max(MAX_KEYS) });
const keySchema = z.object({
  kty: z.literal('RSA'),
  kid: z.string().min(1).max(256),
  n: z.base64url().max(1024),
  e: z.base64url().max(16),
  use: z.literal('sig').optional(),
  alg: z.literal('RS256').optional(),
});

export interface SigningKeys {
  /** @returns undefined when the tenant has no such key. @throws TidemarkError IDENTITY_UNAVAILABLE */
  find(keyId: string, signal: AbortSignal): Promise<KeyObject | undefined>;
}

/** @param nowMs a clock that never goes back */
export function signingKeys(url: string, nowMs: () => number): SigningKeys {
  let keys: ReadonlyMap<string, KeyObject> | undefined;
  let readAtMs = -Infinity;
  let triedAtMs = -Infinity;
  let hasFailed = false;
  let reading: Promise<void> | undefined;

  /** One look for all that wait; it is nobody's to abort. */
  const read = (): Promise<void> => {
    reading ??= (async () => {
      triedAtMs = nowMs();
      try {
        keys = await fetchKeys(url);
        readAtMs = triedAtMs;
        hasFailed = false;
      } catch {
        hasFailed = true; // whether that matters is decided below, by how old the known keys are
      } finally {
        reading = undefined;
      }
    })();
    return reading;
  };

  return {
    async find(keyId, signal) {
      signal.throwIfAborted();
      const isWanted = keys?.has(keyId) !== true || nowMs() - readAtMs > KEY_AGE.staleMs;
      const mayLook = nowMs() - triedAtMs >= (hasFailed ? RETRY_MS : REFRESH_MS);
      if (isWanted && (mayLook || reading !== undefined)) await read();
      const isOld = keys === undefined || nowMs() - readAtMs > KEY_AGE.mostMs;
      const key = isOld ? undefined : keys?.get(keyId);
      if (key !== undefined) return key;
      if (isOld || hasFailed) throw new TidemarkError('IDENTITY_UNAVAILABLE', `cannot read the keys at ${url}`);
      return undefined;
    },
  };
}

async function fetchKeys(url: string): Promise<ReadonlyMap<string, KeyObject>> {
  const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(FETCH_LIMIT_MS) });
  if (!response.ok || response.body === null) throw new Error(`status ${response.status}`);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > MAX_DOCUMENT_BYTES) throw new Error(`more than ${MAX_DOCUMENT_BYTES} bytes`);
    chunks.push(chunk);
  }
  const { keys } = keySetSchema.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')));
  return new Map(keys.flatMap(usableKey));
}

/** Keys of other kinds are left out. */
function usableKey(jwk: Readonly<Record<string, unknown>>): readonly (readonly [string, KeyObject])[] {
  const parsed = keySchema.safeParse(jwk);
  if (!parsed.success) return [];
  const { kid, kty, n, e } = parsed.data;
  const bits = Buffer.from(n, 'base64url').length * 8;
  if (bits < KEY_BITS.least || bits > KEY_BITS.most) return [];
  return [[kid, createPublicKey({ format: 'jwk', key: { kty, n, e } })]];
}
