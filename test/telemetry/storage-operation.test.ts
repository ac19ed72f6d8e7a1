import { describe, expect, it } from 'vitest';
import { storageOperation } from '../../src/azure/storage-operation.ts';

const URL_OF_BLOB = 'http://127.0.0.1:10000/account/seed-disks/shop/web/disk0.vhd';

/** Method, query and headers as "Blob service REST API" has them. */
const CASES: [string, string, string, Record<string, string>?][] = [
  ['PutPage', 'PUT', '?comp=page', { 'x-ms-page-write': 'update' }],
  ['ClearPages', 'PUT', '?comp=page', { 'x-ms-page-write': 'clear' }],
  ['PutPageFromUrl', 'PUT', '?comp=page', { 'x-ms-page-write': 'update', 'x-ms-copy-source': 'https://a/b?sig=x' }],
  ['GetPageRanges', 'GET', '?comp=pagelist&snapshot=2026'],
  ['SnapshotBlob', 'PUT', '?comp=snapshot'],
  ['LeaseBlob', 'PUT', '?comp=lease', { 'x-ms-lease-action': 'renew' }],
  ['SetBlobMetadata', 'PUT', '?comp=metadata'],
  ['SetBlobProperties', 'PUT', '?comp=properties'],
  ['PutBlob', 'PUT', '', { 'x-ms-blob-type': 'BlockBlob' }],
  ['PutBlob', 'PUT', '?sv=2025&sig=abc', { 'x-ms-blob-type': 'PageBlob' }],
  ['CopyBlob', 'PUT', '', { 'x-ms-copy-source': 'https://a/b' }],
  ['AbortCopyBlob', 'PUT', '?comp=copy&copyid=1'],
  ['PutBlock', 'PUT', '?comp=block&blockid=1'],
  ['PutBlockList', 'PUT', '?comp=blocklist'],
  ['GetBlob', 'GET', '?snapshot=2026'],
  ['GetBlobProperties', 'HEAD', ''],
  ['DeleteBlob', 'DELETE', ''],
  ['DeleteSnapshot', 'DELETE', '?snapshot=2026'],
  ['ListBlobs', 'GET', '?restype=container&comp=list&prefix=a'],
  ['CreateContainer', 'PUT', '?restype=container'],
  ['GetContainerProperties', 'HEAD', '?restype=container'],
  ['ListContainers', 'GET', '?comp=list'],
  ['GetUserDelegationKey', 'POST', '?restype=service&comp=userdelegationkey'],
  ['Other', 'GET', '?comp=something-new'],
  ['Other', 'GET', '?restype=service&comp=stats'],
  ['Other', 'PATCH', ''],
];

describe('kinds of storage requests', () => {
  it.each(CASES)('%s: %s %s', (kind, method, query, headers = {}) => {
    expect(storageOperation({ method, url: `${URL_OF_BLOB}${query}`, header: (name) => headers[name] })).toBe(kind);
  });

  it('takes a path without a host, and a method in lower case', () => {
    expect(storageOperation({ method: 'put', url: '/a/c/b?comp=snapshot', header: () => undefined })).toBe(
      'SnapshotBlob',
    );
  });
});
