/** Who calls, and what they may do. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { TidemarkError } from '../errors.ts';

export type Permission = 'read' | 'command';

export interface Caller {
  /** For the record of a job: one line. */
  readonly name: string;
  readonly may: ReadonlySet<Permission>;
}

export interface Verifier {
  /**
   * @returns undefined when the token is none of this verifier's
   * @throws TidemarkError UNAUTHENTICATED when it is, and is not good; IDENTITY_UNAVAILABLE when that cannot be told now. Never quotes it
   */
  verify(token: string, signal: AbortSignal): Promise<Caller | undefined>;
}

/** RFC 6750's characters of a token. */
const BEARER = /^Bearer +([A-Za-z0-9._~+/-]+=*) *$/i;
/** Longer than any token of Entra ID; more than a server's headers take together. */
const MAX_TOKEN_CHARS = 12_000;

/** @throws TidemarkError UNAUTHENTICATED, IDENTITY_UNAVAILABLE */
export async function authenticate(
  verifiers: readonly Verifier[],
  header: string | undefined,
  signal: AbortSignal,
): Promise<Caller> {
  const token = BEARER.exec(header ?? '')?.[1];
  if (token === undefined || token.length > MAX_TOKEN_CHARS) {
    throw new TidemarkError('UNAUTHENTICATED', 'the request has no bearer token');
  }
  for (const verifier of verifiers) {
    const caller = await verifier.verify(token, signal);
    if (caller !== undefined) return caller;
  }
  throw new TidemarkError('UNAUTHENTICATED', 'the bearer token is not one of this service');
}

/** @throws TidemarkError FORBIDDEN */
export function requirePermission({ name, may }: Caller, permission: Permission): void {
  if (!may.has(permission)) throw new TidemarkError('FORBIDDEN', `${name} may not ${permission} here`);
}

const ALL: ReadonlySet<Permission> = new Set(['read', 'command']);

/** One secret that both sides know. Its holder may do everything. */
export function localTokenVerifier(secret: string): Verifier {
  const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest();
  const expected = digestOf(secret);
  return {
    // Of equal length, so that the comparison takes the same time for every token.
    verify: async (token) => (timingSafeEqual(digestOf(token), expected) ? { name: 'local', may: ALL } : undefined),
  };
}
