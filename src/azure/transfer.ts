import type { Readable } from 'node:stream';
import type { BlobClient, BlobDownloadResponseParsed } from '@azure/storage-blob';

/** What `operation` is run on at once, at most `limit` indexes in flight; the first failure ends it. */
export async function inParallel(
  count: number,
  limit: number,
  operation: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (next < count && !failed) {
      try {
        await operation(next++);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, count) }, lane));
}

/** Fills `target` with the body of a response. @throws Error when it has another length */
export async function bodyInto(response: BlobDownloadResponseParsed, target: Buffer): Promise<void> {
  let filled = 0;
  for await (const chunk of response.readableStreamBody ?? []) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    if (filled + bytes.length > target.length) throw new Error('storage sent more bytes than it announced');
    target.set(bytes, filled);
    filled += bytes.length;
  }
  if (filled !== target.length) throw new Error(`storage sent ${filled} bytes instead of ${target.length}`);
}

/** Ends a response whose body nobody will read, and its connection with it. */
export function discard(response: BlobDownloadResponseParsed): void {
  (response.readableStreamBody as Readable | undefined)?.destroy();
}

/** The whole blob and its ETag, or its size alone when that is above `maxBytes`; then no byte of it is read. */
export async function downloadWhole(
  client: BlobClient,
  maxBytes: number,
  abortSignal: AbortSignal,
): Promise<{ readonly sizeBytes: number; readonly etag: string; readonly bytes: Buffer | undefined }> {
  const response = await client.download(0, undefined, { abortSignal });
  const sizeBytes = response.contentLength ?? 0;
  const etag = response.etag ?? '';
  if (sizeBytes > maxBytes) {
    discard(response);
    return { sizeBytes, etag, bytes: undefined };
  }
  const bytes = Buffer.allocUnsafe(sizeBytes);
  await bodyInto(response, bytes);
  return { sizeBytes, etag, bytes };
}
