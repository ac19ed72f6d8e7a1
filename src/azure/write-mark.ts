import { randomUUID } from 'node:crypto';
import type { BlobClient } from '@azure/storage-blob';
import { isMissing } from './storage-errors.ts';

/**
 * Each conditional write leaves a mark of its own in the blob's metadata. When a write got no answer and its repetition is refused
 * because the blob exists or has changed, the mark tells whether that was the write itself. Comparing the bytes would not: two owners
 * may write the same.
 */
export type WriteMark = { readonly writemark: string };

export const newWriteMark = (): WriteMark => ({ writemark: randomUUID() });

/** The blob's ETag when its last write is the one that left `mark`. */
export async function ownWriteEtag(
  client: BlobClient,
  mark: WriteMark,
  abortSignal: AbortSignal,
): Promise<string | undefined> {
  try {
    const properties = await client.getProperties({ abortSignal });
    return properties.metadata?.['writemark'] === mark.writemark ? properties.etag : undefined;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
