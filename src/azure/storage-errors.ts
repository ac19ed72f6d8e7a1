/** Pure. What an answer of storage, or its absence, means: outcome to handle, failure to repeat, or error to report. */
import { RestError } from '@azure/storage-blob';
import { TidemarkError } from '../errors.ts';
import { redactSecrets } from '../telemetry/redact.ts';
import { safeError } from './safe-error.ts';

/** HTTP status of a refusal, 0 when no answer came. */
export const statusOf = (error: unknown): number => (error instanceof RestError ? (error.statusCode ?? 0) : 0);

/** Storage does not know who asks, or does not let them. */
export const isDenied = (error: unknown): boolean => statusOf(error) === 401 || statusOf(error) === 403;

/** Storage's own error code (`x-ms-error-code`), or the code of the socket error; empty when there is none. */
export function codeOf(error: unknown): string {
  if (error instanceof RestError) {
    const details = error.details as { readonly errorCode?: unknown } | undefined;
    return typeof details?.errorCode === 'string' ? details.errorCode : (error.code ?? '');
  }
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : '';
}

/** The blob, the snapshot or its container does not exist. */
export const isMissing = (error: unknown): boolean => statusOf(error) === 404;

export const isContainerMissing = (error: unknown): boolean =>
  isMissing(error) && codeOf(error) === 'ContainerNotFound';

/** The lease that was sent is not the blob's lease (any more), or a lease was needed and none was sent. */
export const isLeaseRefusal = (error: unknown): boolean =>
  (statusOf(error) === 409 || statusOf(error) === 412) && codeOf(error).startsWith('Lease');

/** If-Match or If-None-Match did not hold. */
export const isConditionRefusal = (error: unknown): boolean =>
  (statusOf(error) === 412 && !isLeaseRefusal(error)) ||
  (statusOf(error) === 409 && codeOf(error) === 'BlobAlreadyExists');

/**
 * - `final`: an answer that a repetition would not change.
 * - `unprocessed`: the request was not carried out; it may be sent again whatever it is.
 * - `unknown`: no answer, or one that does not say; the request may have been carried out, now or a little later.
 */
export type FailureKind = 'final' | 'unprocessed' | 'unknown';

/** No connection came about, so nothing was sent. */
const NOT_CONNECTED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);

/** Throttled: the request was not carried out, and the account wants fewer of them. */
export const isThrottling = (error: unknown): boolean => statusOf(error) === 429 || statusOf(error) === 503;

/** What a refusal asks for with Retry-After or its siblings in ms, in ms; undefined when it names no time that can be read. */
export function retryAfterMs(error: unknown): number | undefined {
  const headers = error instanceof RestError ? error.response?.headers : undefined;
  const ms = Number(headers?.get('x-ms-retry-after-ms') ?? headers?.get('retry-after-ms') ?? Number.NaN);
  if (Number.isFinite(ms) && ms >= 0) return ms;
  const text = headers?.get('retry-after') ?? '';
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // A date: compared with the server's own clock, not with ours.
  const untilMs = Date.parse(text) - Date.parse(headers?.get('date') ?? '');
  return Number.isFinite(untilMs) ? Math.max(0, untilMs) : undefined;
}

export function failureKind(error: unknown): FailureKind {
  if (error instanceof TidemarkError || error instanceof TypeError || error instanceof RangeError) return 'final';
  const status = statusOf(error);
  if (isThrottling(error)) return 'unprocessed';
  if (status === 408 || status >= 500) return 'unknown';
  // A 2xx here is an answer that broke off or could not be parsed.
  if (status >= 300) return 'final';
  return NOT_CONNECTED.has(codeOf(error)) ? 'unprocessed' : 'unknown';
}

/**
 * The one place where answers of storage become errors of the catalogue.
 * @param action what was asked for and of which blob, without secrets
 */
export function storageError(error: unknown, action: string): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const status = statusOf(error);
  const code = codeOf(error);
  const said = status === 0 ? code || nameOf(error) : `${status} ${code}`.trim();
  const message = `${action}: ${said}`;
  const patienceMs = retryAfterMs(error);
  const details = { status, storageCode: code, ...(patienceMs !== undefined && { retryAfterMs: patienceMs }) };
  const options = { cause: safeError(error), details };
  if (isLeaseRefusal(error)) return new TidemarkError('OWNERSHIP_LOST', message, options);
  if (isConditionRefusal(error)) return new TidemarkError('CONFLICT', message, options);
  if (isMissing(error)) return new TidemarkError('BLOB_MISSING', message, options);
  if (isDenied(error))
    return new TidemarkError('ACCESS_DENIED', `${message} at ${placeOf(error)}; ${reasonOf(code)}`, options);
  const unavailable = failureKind(error) !== 'final' || status === 409;
  return new TidemarkError(unavailable ? 'STORAGE_UNAVAILABLE' : 'ASSERTION', message, options);
}

/** Account and container that were asked, without the rest of the URL, which may hold a secret. */
function placeOf(error: unknown): string {
  const text = error instanceof RestError ? (error.request?.url ?? '') : '';
  if (!URL.canParse(text)) return 'the account';
  const { host, pathname } = new URL(text);
  return `${host}${pathname.split('/').slice(0, 2).join('/')}`;
}

/** Azure, "Common REST API error codes" and "Blob service error codes". */
function reasonOf(code: string): string {
  switch (code) {
    case 'AuthorizationPermissionMismatch':
    case 'InsufficientAccountPermissions':
      return 'the identity lacks the role Storage Blob Data Contributor there';
    case 'AuthorizationFailure':
      return 'the network rules of the account do not let this machine in';
    case 'KeyBasedAuthenticationNotPermitted':
      return 'the account takes no keys; sign in with an identity';
    case 'AuthenticationFailed':
    case 'InvalidAuthenticationInfo':
      return 'the token or key is not valid there: another tenant or audience, expired, or a clock that is wrong';
    default:
      return 'the account does not take what was sent to sign in';
  }
}

const nameOf = (error: unknown): string => (error instanceof Error ? redactSecrets(error.message) : 'no answer');
