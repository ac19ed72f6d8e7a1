/** Whose tokens the HTTP door takes, from the configuration. */
import type { Configuration } from '../config.ts';
import { TidemarkError } from '../errors.ts';
import { localTokenVerifier, type Verifier } from './auth.ts';
import { entraVerifier } from './entra-token.ts';
import { ensureToken, localTokenFile, readToken } from './local-token.ts';
import { signingKeys } from './signing-keys.ts';

export interface Verifiers {
  readonly verifiers: (nowMs: () => number) => readonly Verifier[];
  /** Null without a local token. */
  readonly tokenFile: string | null;
}

/**
 * A local token when a file is named, or when nothing else is set up on a local stack; tokens of Entra ID when they are set up.
 * @param file instead of what the configuration names
 * @throws TidemarkError CONFIG_MISSING, CONFIG_INVALID
 */
export function openVerifiers(
  { api, home, isLocal }: Pick<Configuration, 'api' | 'home' | 'isLocal'>,
  file: string | undefined,
): Verifiers {
  const named = file ?? api.tokenFile;
  const { entra } = api;
  if (named === undefined && entra === undefined && !isLocal) {
    throw new TidemarkError(
      'CONFIG_MISSING',
      'TIDEMARK_API_TENANT_ID and TIDEMARK_API_AUDIENCE not set, nor a token file',
    );
  }
  const made = named === undefined && entra === undefined ? localTokenFile(home) : undefined;
  const token = named !== undefined ? readToken(named) : made !== undefined ? ensureToken(made) : undefined;
  const local = token === undefined ? [] : [localTokenVerifier(token)];
  return {
    tokenFile: named ?? made ?? null,
    verifiers: (nowMs) =>
      entra === undefined
        ? local
        : [
            ...local,
            entraVerifier({ ...entra, keys: signingKeys(entra.keysUrl, nowMs), nowSeconds: () => Date.now() / 1000 }),
          ],
  };
}
