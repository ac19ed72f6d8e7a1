import { RestError } from '@azure/storage-blob';
import { describe, expect, it } from 'vitest';
import { failureKind, storageError } from '../../src/azure/storage-errors.ts';
import { TidemarkError } from '../../src/errors.ts';

const refusal = (statusCode: number, errorCode: string): RestError => {
  const error = new RestError('refused', { statusCode });
  error.details = { errorCode };
  return error;
};
const broken = (code: string): RestError => new RestError(code, { code });

/** Azure, "Blob service error codes" and "Common REST API error codes". */
const CASES: [string, unknown, string, string][] = [
  ['another lease id', refusal(412, 'LeaseIdMismatchWithBlobOperation'), 'final', 'OWNERSHIP_LOST'],
  ['a lease that is over', refusal(412, 'LeaseLost'), 'final', 'OWNERSHIP_LOST'],
  ['no lease on the blob', refusal(412, 'LeaseNotPresentWithBlobOperation'), 'final', 'OWNERSHIP_LOST'],
  ['no lease id sent', refusal(412, 'LeaseIdMissing'), 'final', 'OWNERSHIP_LOST'],
  ['renewing another lease', refusal(409, 'LeaseIdMismatchWithLeaseOperation'), 'final', 'OWNERSHIP_LOST'],
  ['renewing a broken lease', refusal(409, 'LeaseIsBrokenAndCannotBeRenewed'), 'final', 'OWNERSHIP_LOST'],
  ['acquiring what is leased', refusal(409, 'LeaseAlreadyPresent'), 'final', 'OWNERSHIP_LOST'],
  ['another ETag', refusal(412, 'ConditionNotMet'), 'final', 'CONFLICT'],
  ['a blob that exists', refusal(409, 'BlobAlreadyExists'), 'final', 'CONFLICT'],
  ['no such blob', refusal(404, 'BlobNotFound'), 'final', 'BLOB_MISSING'],
  ['no such container', refusal(404, 'ContainerNotFound'), 'final', 'BLOB_MISSING'],
  ['a container that is being deleted', refusal(409, 'ContainerBeingDeleted'), 'final', 'STORAGE_UNAVAILABLE'],
  ['a wrong key', refusal(403, 'AuthenticationFailed'), 'final', 'ACCESS_DENIED'],
  ['no identity', refusal(401, 'NoAuthenticationInformation'), 'final', 'ACCESS_DENIED'],
  ['throttling', refusal(503, 'ServerBusy'), 'unprocessed', 'STORAGE_UNAVAILABLE'],
  ['too many requests', refusal(429, 'TooManyRequests'), 'unprocessed', 'STORAGE_UNAVAILABLE'],
  ['an internal error', refusal(500, 'InternalError'), 'unknown', 'STORAGE_UNAVAILABLE'],
  ['a time-out of the server', refusal(500, 'OperationTimedOut'), 'unknown', 'STORAGE_UNAVAILABLE'],
  ['a gateway', refusal(502, ''), 'unknown', 'STORAGE_UNAVAILABLE'],
  ['a slow request', refusal(408, 'RequestTimeout'), 'unknown', 'STORAGE_UNAVAILABLE'],
  ['a request that makes no sense', refusal(400, 'InvalidHeaderValue'), 'final', 'ASSERTION'],
  ['a range outside', refusal(416, 'InvalidRange'), 'final', 'ASSERTION'],
  ['nobody listening', broken('ECONNREFUSED'), 'unprocessed', 'STORAGE_UNAVAILABLE'],
  ['no such host', broken('ENOTFOUND'), 'unprocessed', 'STORAGE_UNAVAILABLE'],
  ['a reset connection', broken('ECONNRESET'), 'unknown', 'STORAGE_UNAVAILABLE'],
  ['a broken pipe', broken('EPIPE'), 'unknown', 'STORAGE_UNAVAILABLE'],
  ['a body that broke off', new Error('Data corruption failure'), 'unknown', 'STORAGE_UNAVAILABLE'],
  ['a defect of ours', new TypeError('x is not a function'), 'final', 'ASSERTION'],
];

describe('storage errors', () => {
  it.each(CASES)('%s', (_, error, kind, code) => {
    expect(failureKind(error)).toBe(kind);
    const mapped = storageError(error, 'Put Page of a');
    expect(mapped.code).toBe(code);
    expect(mapped.cause).toMatchObject({ message: (error as Error).message, stack: (error as Error).stack });
    expect(mapped.message).toMatch(/^Put Page of a: ./);
  });

  it('leaves errors of the catalogue as they are', () => {
    const error = new TidemarkError('LOG_TOO_LARGE', 'too large');
    expect(failureKind(error)).toBe('final');
    expect(storageError(error, 'Read a')).toBe(error);
  });
});

describe('a refusal to let in', () => {
  const denied = (errorCode: string): RestError => {
    const error = refusal(403, errorCode);
    const url = 'https://replica.blob.core.windows.net/catalog/groups/shop.json?sv=1&sig=c2VjcmV0';
    Object.assign(error, { request: { url } });
    return error;
  };

  it.each([
    ['AuthorizationPermissionMismatch', 'the identity lacks the role Storage Blob Data Contributor there'],
    ['AuthorizationFailure', 'the network rules of the account do not let this machine in'],
    ['KeyBasedAuthenticationNotPermitted', 'the account takes no keys; sign in with an identity'],
    [
      'AuthenticationFailed',
      'the token or key is not valid there: another tenant or audience, expired, or a clock that is wrong',
    ],
    ['AccountIsDisabled', 'the account does not take what was sent to sign in'],
  ])('by %s says where and why, without the signature', (code, reason) => {
    const { message } = storageError(denied(code), 'Read shop');
    expect(message).toBe(`Read shop: 403 ${code} at replica.blob.core.windows.net/catalog; ${reason}`);
  });
});
