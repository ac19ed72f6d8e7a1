import type { Catalog } from '../catalog/catalog.ts';
import type { LogStore, LogUpload } from '../drain/log-store.ts';
import type { SeedStore } from '../seed/seed-store.ts';
import { BlobAccount, type BlobAccountOptions } from './blob-account.ts';
import { BlobCatalog } from './blob-catalog.ts';
import { BlobLogStore } from './blob-log-store.ts';
import { BlobSeedStore } from './blob-seed-store.ts';

export interface StorageConnections extends BlobAccountOptions {
  /** The account that the source writes replication logs to. */
  readonly cacheConnectionString: string;
  /** The account of seed disks and catalog. */
  readonly replicaConnectionString: string;
}

export interface Storage {
  readonly logStore: LogStore;
  readonly logUpload: LogUpload;
  readonly seeds: SeedStore;
  readonly catalog: Catalog;
  /** Ends the connections; requests in flight fail. */
  close(): void;
}

/** Sends nothing: containers are created by the first write that finds them missing. @throws TidemarkError CONNECTION_INVALID */
export function connect(connections: StorageConnections): Storage {
  const cache = new BlobAccount(connections.cacheConnectionString, connections);
  const replica = new BlobAccount(connections.replicaConnectionString, connections);
  const logs = new BlobLogStore(cache);
  return {
    logStore: logs,
    logUpload: logs,
    seeds: new BlobSeedStore(replica),
    catalog: new BlobCatalog(replica),
    close: () => {
      cache.close();
      replica.close();
    },
  };
}
