import { afterAll } from 'vitest';
import { connect, type Storage } from '../../src/azure/connect.ts';
import { catalogContract } from '../contracts/catalog.contract.ts';
import { logStoreContract } from '../contracts/log-store.contract.ts';
import { seedStoreContract } from '../contracts/seed-store.contract.ts';
import { useAccounts } from './accounts.ts';

const accounts = useAccounts();
const storages: Storage[] = [];
const open = async (): Promise<Storage> => {
  const storage = connect({
    cacheConnectionString: accounts().connectionString('cache'),
    replicaConnectionString: accounts().connectionString('replica'),
  });
  storages.push(storage);
  return storage;
};
afterAll(() => {
  for (const storage of storages) storage.close();
});

logStoreContract('Azurite', async () => {
  const { logStore, logUpload } = await open();
  return { store: logStore, upload: logUpload };
});
seedStoreContract('Azurite', async () => (await open()).seeds);
catalogContract('Azurite', async () => (await open()).catalog);
