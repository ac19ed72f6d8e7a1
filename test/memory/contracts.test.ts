import { MemoryCompute } from '../../src/memory/memory-compute.ts';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemorySurvey } from '../../src/memory/memory-survey.ts';
import { catalogContract } from '../contracts/catalog.contract.ts';
import { computeContract } from '../contracts/compute.contract.ts';
import { copyStoreContract } from '../contracts/copy-store.contract.ts';
import { logStoreContract } from '../contracts/log-store.contract.ts';
import { seedStoreContract } from '../contracts/seed-store.contract.ts';
import { surveyContract } from '../contracts/survey.contract.ts';

logStoreContract('memory', async () => {
  const { logStore, logUpload } = createMemoryStorage();
  return { store: logStore, upload: logUpload };
});
seedStoreContract('memory', async () => createMemoryStorage().seeds);
copyStoreContract('memory', async () => createMemoryStorage());
catalogContract('memory', async () => createMemoryStorage().catalog);
surveyContract('memory', async () => {
  const storage = createMemoryStorage();
  return { ...storage, survey: new MemorySurvey(storage) };
});

computeContract('memory', async () => {
  const sources = new Map<string, Buffer>();
  const at = (url: string): Buffer => {
    const bytes = sources.get(url);
    if (bytes === undefined) throw new Error(`there is no source ${url}`);
    return bytes;
  };
  const compute = new MemoryCompute(async (url) => {
    const bytes = sources.get(url);
    if (bytes === undefined) return undefined;
    return {
      blobBytes: bytes.length,
      ranges: [{ offsetBytes: 0, lengthBytes: bytes.length }],
      read: async (offsetBytes, lengthBytes) => Buffer.from(bytes.subarray(offsetBytes, offsetBytes + lengthBytes)),
    };
  });
  return {
    compute,
    putSource: async (bytes) => {
      const url = `https://memory/failover/${sources.size}.vhd`;
      sources.set(url, Buffer.from(bytes));
      return url;
    },
    changeSource: async (url, offsetBytes, bytes) => void bytes.copy(at(url), offsetBytes),
    readDisk: async (name) => {
      const bytes = compute.peek(name);
      if (bytes === undefined) throw new Error(`there is no disk ${name}`);
      return bytes;
    },
  };
});
