import { afterAll } from 'vitest';
import { BlobAccount } from '../../src/azure/blob-account.ts';
import { BlobCopyStore } from '../../src/azure/blob-copy-store.ts';
import { connect, type Storage } from '../../src/azure/connect.ts';
import { catalogContract } from '../contracts/catalog.contract.ts';
import { copyStoreContract } from '../contracts/copy-store.contract.ts';
import { logStoreContract } from '../contracts/log-store.contract.ts';
import { seedStoreContract } from '../contracts/seed-store.contract.ts';
import { surveyContract } from '../contracts/survey.contract.ts';
import { isFullRun } from '../support/extent.ts';
import { useAccounts } from './accounts.ts';

const accounts = useAccounts();
const storages: Storage[] = [];
const servers: BlobAccount[] = [];
const open = async (): Promise<Storage> => {
  const storage = connect({
    cache: accounts().access('cache'),
    replica: accounts().access('replica'),
  });
  storages.push(storage);
  return storage;
};
afterAll(() => {
  for (const connection of [...storages, ...servers]) connection.close();
});

logStoreContract('Azurite', async () => {
  const { logStore, logUpload } = await open();
  return { store: logStore, upload: logUpload };
});
seedStoreContract('Azurite', async () => (await open()).seeds);
copyStoreContract('Azurite', open);
// How storage is asked to copy by itself; that its copies are independent cannot be shown here.
copyStoreContract(
  'Azurite, on the server',
  async () => {
    const account = new BlobAccount(accounts().access('replica'));
    servers.push(account);
    return { seeds: (await open()).seeds, copies: new BlobCopyStore(account, { serverSideCopy: true }) };
  },
  { isIndependent: false, isWhole: isFullRun },
);
catalogContract('Azurite', async () => (await open()).catalog);
surveyContract('Azurite', open);
