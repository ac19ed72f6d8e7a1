/** Pure. What an HTTP request asks of blob storage: the name of the operation in Azure's "Blob service REST API". */

export interface HttpRequestHead {
  readonly method: string;
  /** Absolute, or path and query. */
  readonly url: string;
  /** Value of a header by its name in lower case. */
  readonly header: (name: string) => string | undefined;
}

/** Operations on a container, by method and `comp`. */
const CONTAINER: Readonly<Record<string, string>> = {
  'GET list': 'ListBlobs',
  'PUT lease': 'LeaseContainer',
  'PUT metadata': 'SetContainerMetadata',
  'GET acl': 'GetContainerAcl',
  'PUT acl': 'SetContainerAcl',
  'PUT ': 'CreateContainer',
  'GET ': 'GetContainerProperties',
  'HEAD ': 'GetContainerProperties',
  'DELETE ': 'DeleteContainer',
};

/** Operations on a blob or the account, by method and `comp`. */
const OTHER: Readonly<Record<string, string>> = {
  'GET list': 'ListContainers',
  'POST batch': 'Batch',
  'POST userdelegationkey': 'GetUserDelegationKey',
  'GET pagelist': 'GetPageRanges',
  'PUT snapshot': 'SnapshotBlob',
  'PUT lease': 'LeaseBlob',
  'PUT metadata': 'SetBlobMetadata',
  'GET metadata': 'GetBlobMetadata',
  'HEAD metadata': 'GetBlobMetadata',
  'PUT properties': 'SetBlobProperties',
  'PUT block': 'PutBlock',
  'PUT blocklist': 'PutBlockList',
  'GET blocklist': 'GetBlockList',
  'PUT copy': 'AbortCopyBlob',
  'PUT tags': 'SetBlobTags',
  'GET tags': 'GetBlobTags',
  'PUT tier': 'SetBlobTier',
  'PUT ': 'PutBlob',
  'GET ': 'GetBlob',
  'HEAD ': 'GetBlobProperties',
  'DELETE ': 'DeleteBlob',
};

/** `Other` for what is in none of the tables: a new kind of request must not become a new name for each URL. */
export function storageOperation({ method, url, header }: HttpRequestHead): string {
  const query = new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?') + 1) : '');
  const comp = query.get('comp')?.toLowerCase() ?? '';
  const restype = query.get('restype')?.toLowerCase();
  const key = `${method.toUpperCase()} ${comp}`;
  if (restype === 'container') return CONTAINER[key] ?? 'Other';
  if (restype !== undefined && restype !== null && comp !== 'userdelegationkey') return 'Other';
  const hasSource = header('x-ms-copy-source') !== undefined;
  if (key === 'PUT page') {
    if (header('x-ms-page-write')?.toLowerCase() === 'clear') return 'ClearPages';
    return hasSource ? 'PutPageFromUrl' : 'PutPage';
  }
  if (key === 'PUT ' && hasSource) return 'CopyBlob';
  if (key === 'DELETE ' && query.get('snapshot') !== null) return 'DeleteSnapshot';
  return OTHER[key] ?? 'Other';
}
