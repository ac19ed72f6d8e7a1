/** From an identity to tokens. The SDK that gets them takes a while to load, so it is imported when the first token is wanted. */
import type { AccessToken, GetTokenOptions, TokenCredential } from '@azure/identity';
import { TidemarkError } from '../errors.ts';
import { redact } from './arm-errors.ts';
import { CLOUDS, type CloudName } from './clouds.ts';

export type Credential = TokenCredential;

export interface Identity {
  readonly cloud: CloudName;
  /** Of a user-assigned managed identity; without it, whatever identity the environment offers. */
  readonly clientId?: string;
}

/**
 * For one token: the identity endpoint of a machine is asked again for some seconds, and a developer's tool takes as long to start. Below
 * the deadline of a call to storage, so that it is the identity that is named.
 */
const TOKEN_LIMIT_MS = 20_000;
/** Socket errors: nobody was reached who could have said no. */
const UNREACHED = /^(?:ECONN|EAI_AGAIN|ENOTFOUND|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|EPIPE)/;

/**
 * The one credential of an identity; keep it, since it keeps the tokens.
 * Its errors are those of {@link typedCredential}.
 */
export function openCredential({ cloud, clientId }: Identity): Credential {
  let opened: Promise<TokenCredential> | undefined;
  const open = async (): Promise<TokenCredential> => {
    const { DefaultAzureCredential, ManagedIdentityCredential } = await import('@azure/identity');
    if (clientId !== undefined) return new ManagedIdentityCredential({ clientId });
    return new DefaultAzureCredential({ authorityHost: CLOUDS[cloud].authorityHost });
  };
  return typedCredential({ getToken: async (...args) => (await (opened ??= open())).getToken(...args) });
}

/**
 * The same credential, whose failures are errors of the catalogue: SIGN_IN_FAILED when there is no identity or Entra ID refuses it,
 * IDENTITY_UNAVAILABLE when nobody answers. A caller's abort stays what it is.
 */
export function typedCredential(inner: TokenCredential, limitMs = TOKEN_LIMIT_MS): Credential {
  return {
    async getToken(scopes, options = {}): Promise<AccessToken> {
      const token = await withinTime(limitMs, options, (within) => inner.getToken(scopes, within));
      if (token !== null) return token;
      throw new TidemarkError('SIGN_IN_FAILED', `the identity has no token for ${[scopes].flat().join(' ')}`);
    },
  };
}

/** Some credentials do not listen to a signal, so the wait for them ends here whatever they do. */
async function withinTime<T>(
  limitMs: number,
  options: GetTokenOptions,
  run: (options: GetTokenOptions) => Promise<T>,
): Promise<T> {
  const outer = options.abortSignal;
  const controller = new AbortController();
  const { promise: ended, reject } = Promise.withResolvers<never>();
  ended.catch(() => undefined);
  const end = (error: Error): void => {
    controller.abort(error);
    reject(error);
  };
  const abort = (): void => end(new DOMException('The operation was aborted.', 'AbortError'));
  const late = (): void =>
    end(new TidemarkError('IDENTITY_UNAVAILABLE', `no token within ${limitMs / 1000} s, and no answer`));
  const timer = setTimeout(late, limitMs);
  outer?.addEventListener('abort', abort);
  try {
    if (outer?.aborted === true) abort();
    return await Promise.race([ended, run({ ...options, abortSignal: controller.signal })]);
  } catch (error) {
    if (outer?.aborted === true) throw error;
    throw credentialError(controller.signal.aborted ? controller.signal.reason : error);
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener('abort', abort);
  }
}

/** The SDK's errors hold answers of Entra ID; only their text goes on, without tokens. */
function credentialError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const { statusCode, code } = (error ?? {}) as { readonly statusCode?: unknown; readonly code?: unknown };
  const status = typeof statusCode === 'number' ? statusCode : 0;
  const isUnreached = typeof code === 'string' && UNREACHED.test(code);
  const text = redact(error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, ' ');
  const passes = isUnreached || status === 408 || status === 429 || status >= 500;
  return new TidemarkError(passes ? 'IDENTITY_UNAVAILABLE' : 'SIGN_IN_FAILED', `no token: ${text}`);
}
