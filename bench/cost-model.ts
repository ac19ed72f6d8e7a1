/** Pure. What counted requests cost by a price table. */
import { z } from 'zod';

const price = z.number().nonnegative();

export const priceTableSchema = z.object({
  currency: z.string(),
  storage: z.object({
    pageBlobGiBMonth: price,
    blockBlobGiBMonth: price,
    per10000: z.object({
      pageWrite: price,
      pageRead: price,
      write: price,
      list: price,
      read: price,
      other: price,
      free: price,
    }),
  }),
  serviceBus: z.object({ baseMonth: price, includedMillions: price, perMillion: price }),
  eventGrid: z.object({ perMillion: price }),
  worker: z.object({ month: price }),
});

export type PriceTable = z.infer<typeof priceTableSchema>;
type PriceClass = keyof PriceTable['storage']['per10000'];

/** Counts of storage operations by their names in Azure's REST API. */
export type Counts = Readonly<Record<string, number>>;

/** By Azure's page "Azure Blob Storage pricing": how it sorts operations. Of a blob that is read, the account says which kind it is. */
const CLASSES: Readonly<Record<string, PriceClass>> = {
  PutPage: 'pageWrite',
  ClearPages: 'pageWrite',
  SnapshotBlob: 'pageWrite',
  GetPageRanges: 'pageRead',
  PutBlob: 'write',
  PutBlock: 'write',
  PutBlockList: 'write',
  CopyBlob: 'write',
  CreateContainer: 'list',
  ListBlobs: 'list',
  ListContainers: 'list',
  GetBlob: 'read',
  DeleteBlob: 'free',
  DeleteSnapshot: 'free',
};

/** Deletions are free; what the table does not name counts as "all other operations". */
export function storageCost(counts: Counts, { storage }: PriceTable): number {
  return Object.entries(counts).reduce(
    (sum, [operation, count]) => sum + (count / 10_000) * storage.per10000[CLASSES[operation] ?? 'other'],
    0,
  );
}

export const scaled = (counts: Counts, factor: number): Counts =>
  Object.fromEntries(Object.entries(counts).map(([operation, count]) => [operation, count * factor]));

export function added(...all: readonly Counts[]): Counts {
  const sums: Record<string, number> = {};
  for (const counts of all) {
    for (const [operation, count] of Object.entries(counts)) sums[operation] = (sums[operation] ?? 0) + count;
  }
  return sums;
}

export const total = (counts: Counts): number => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** Later counts of the same process less earlier ones. */
export const since = (later: Counts, earlier: Counts): Counts =>
  Object.fromEntries(
    Object.entries(later)
      .map(([operation, count]): [string, number] => [operation, count - (earlier[operation] ?? 0)])
      .filter(([, count]) => count > 0),
  );
