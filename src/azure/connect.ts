import type { Catalog } from '../catalog/catalog.ts';
import type { CopyStore } from '../copies/copy-store.ts';
import type { LogStore, LogUpload } from '../drain/log-store.ts';
import type { ReplicaSurvey } from '../rebuild/survey.ts';
import type { SeedStore } from '../seed/seed-store.ts';
import type { AccountAccess } from './access.ts';
import { BlobAccount, type BlobAccountOptions } from './blob-account.ts';
import { BlobCatalog } from './blob-catalog.ts';
import { BlobCopyStore } from './blob-copy-store.ts';
import { BlobLogStore } from './blob-log-store.ts';
import { BlobSeedStore } from './blob-seed-store.ts';
import { BlobSurvey } from './blob-survey.ts';
import type { AccountRole, StorageObserver } from '../telemetry/adapter-observer.ts';

export interface StorageConnections extends Omit<BlobAccountOptions, 'observed'> {
  /** The account that the source writes replication logs to. */
  readonly cache: AccountAccess;
  /** The account of seed disks and catalog. */
  readonly replica: AccountAccess;
  /** Told of the traffic with both accounts. */
  readonly observer?: StorageObserver;
}

export interface Storage {
  readonly logStore: LogStore;
  readonly logUpload: LogUpload;
  readonly seeds: SeedStore;
  readonly copies: CopyStore;
  readonly catalog: Catalog;
  readonly survey: ReplicaSurvey;
  /** Ends the connections; requests in flight fail. */
  close(): void;
}

/** Sends nothing: containers are created by the first write that finds them missing. @throws TidemarkError CONNECTION_INVALID */
export function connect(connections: StorageConnections): Storage {
  const { observer } = connections;
  const options = (account: AccountRole): BlobAccountOptions => ({
    ...connections,
    ...(observer !== undefined && { observed: { account, observer } }),
  });
  const cache = new BlobAccount(connections.cache, options('cache'));
  const replica = new BlobAccount(connections.replica, options('replica'));
  const logs = new BlobLogStore(cache);
  return {
    logStore: logs,
    logUpload: logs,
    seeds: new BlobSeedStore(replica),
    copies: new BlobCopyStore(replica, { serverSideCopy: !isEmulator(replica) }),
    catalog: new BlobCatalog(replica),
    survey: new BlobSurvey(replica),
    close: () => {
      cache.close();
      replica.close();
    },
  };
}

/** Whether the account's endpoint is the emulator's form: the account in the path, not in the host's name. */
function isEmulator(account: BlobAccount): boolean {
  return new URL(account.container('any').url).pathname.split('/').filter((part) => part !== '').length > 1;
}
