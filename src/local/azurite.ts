/**
 * Azurite's blob service as a process of the local stack, without the leases of its last life.
 *
 * When Azurite is killed it loses its last seconds, and after the next start everything is as it was at one earlier moment. An owner
 * that was not told would go on where it thinks it is. So no lease survives a restart: the owner's next write is refused, it opens
 * the group anew, and reads how things are. Azurite by itself only lets such leases expire, and a renewal would revive them.
 *
 * Takes Azurite's own arguments.
 */
import { createRequire } from 'node:module';
import { assert } from '../errors.ts';

/** What is used of `LokiBlobMetadataStore`: the collection of its blobs, and where `BlobLeaseSyncer` keeps their leases. */
interface StoredBlob {
  leaseId?: string | undefined;
  leaseExpireTime?: unknown;
  leaseDurationSeconds?: number | undefined;
  leaseBreakTime?: unknown;
  readonly properties: { leaseDuration?: string | undefined; leaseState?: string; leaseStatus?: string };
}

interface BlobCollection {
  find(): StoredBlob[];
  update(blob: StoredBlob): void;
}

interface MetadataStore {
  init(): Promise<void>;
  readonly db: { getCollection(name: string): BlobCollection | null };
}

const load = createRequire(import.meta.url);
const { default: Store } = load('azurite/dist/src/blob/persistence/LokiBlobMetadataStore.js') as {
  default: { readonly prototype: MetadataStore };
};

const store = Store.prototype;
const init = Object.getOwnPropertyDescriptor(store, 'init')?.value as (this: MetadataStore) => Promise<void>;
store.init = async function (this: MetadataStore): Promise<void> {
  await init.call(this);
  const blobs = this.db.getCollection('$BLOBS_COLLECTION$');
  assert(blobs !== null, 'Azurite keeps its blobs under the name that its pinned version gives them');
  for (const blob of blobs.find()) {
    if (blob.leaseId === undefined) continue;
    blob.leaseId = undefined;
    blob.leaseExpireTime = undefined;
    blob.leaseDurationSeconds = undefined;
    blob.leaseBreakTime = undefined;
    blob.properties.leaseDuration = undefined;
    blob.properties.leaseState = 'available';
    blob.properties.leaseStatus = 'unlocked';
    blobs.update(blob);
  }
};

load('azurite/dist/src/blob/main.js');
