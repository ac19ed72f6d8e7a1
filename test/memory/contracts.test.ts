import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { catalogContract } from '../contracts/catalog.contract.ts';
import { copyStoreContract } from '../contracts/copy-store.contract.ts';
import { logStoreContract } from '../contracts/log-store.contract.ts';
import { seedStoreContract } from '../contracts/seed-store.contract.ts';

logStoreContract('memory', async () => {
  const { logStore, logUpload } = createMemoryStorage();
  return { store: logStore, upload: logUpload };
});
seedStoreContract('memory', async () => createMemoryStorage().seeds);
copyStoreContract('memory', async () => createMemoryStorage());
catalogContract('memory', async () => createMemoryStorage().catalog);
