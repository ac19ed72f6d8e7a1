/** What the test of identities and its child process share. */
import type { Credential } from '../../src/azure/credentials.ts';

export const GROUP = 'shop';
export const START = '2026-11-20T04:00:00Z';
export const STRETCH = 8;
/** Of one try with a token that is no good: the code of the error, and all of it as text. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly text: string;
}

export interface ChildReport {
  readonly scopes: readonly string[];
  readonly workerErrors: readonly string[];
  readonly points: readonly { readonly point: string; readonly kind: string; readonly cut: string }[];
  /** Types of the messages on the topic, in their order. */
  readonly events: readonly string[];
  /** Of the command: what was replied, last, and the point that it made. */
  readonly reply: string;
  readonly made: unknown;
  readonly refusals: Readonly<Record<string, Refusal>>;
}

const LIFETIME_S = 3600;

export interface TokenOptions {
  /** Instead of the resource that is asked for. */
  readonly audience?: string;
  /** Seconds that are left; below zero it has expired. */
  readonly leftSeconds?: number;
}

const encode = (part: unknown): string => Buffer.from(JSON.stringify(part)).toString('base64url');

/** Tokens as Entra ID gives them, but signed by nobody: the emulators look at the claims only. Notes every scope that it is asked for. */
export class UnsignedCredential implements Credential {
  readonly scopes = new Set<string>();
  readonly #options: TokenOptions;

  constructor(options: TokenOptions = {}) {
    this.#options = options;
  }

  async getToken(scopes: string | string[]): Promise<{ token: string; expiresOnTimestamp: number }> {
    const scope = [scopes].flat().join(' ');
    this.scopes.add(scope);
    const { audience = scope.replace(/\/+\.default$/, ''), leftSeconds = LIFETIME_S } = this.#options;
    const nowS = Math.floor(Date.now() / 1000);
    const claims = {
      aud: audience,
      iss: 'https://sts.windows.net/00000000-0000-0000-0000-000000000000/',
      iat: nowS - 2 * LIFETIME_S,
      nbf: nowS - 2 * LIFETIME_S,
      exp: nowS + leftSeconds,
    };
    // Whoever keeps tokens believes this one to be good, so that the service has to judge it.
    const expiresOnTimestamp = Date.now() + LIFETIME_S * 1000;
    return { token: `${encode({ alg: 'none', typ: 'JWT' })}.${encode(claims)}.`, expiresOnTimestamp };
  }
}
