/** The stack's storage as a bystander with the raw SDK sees it. */
import { BlobServiceClient, type BlobClient, type ContainerClient, type PageBlobClient } from '@azure/storage-blob';

type Environment = Readonly<Record<string, string>>;

function container(environment: Environment, account: 'CACHE' | 'REPLICA', name: string): ContainerClient {
  const connection = environment[`TIDEMARK_${account}_CONNECTION_STRING`];
  if (connection === undefined) throw new Error(`the stack has no ${account} account`);
  return BlobServiceClient.fromConnectionString(connection).getContainerClient(name);
}

export class RawStorage {
  readonly logs: ContainerClient;
  readonly seeds: ContainerClient;
  readonly catalog: ContainerClient;
  readonly failover: ContainerClient;

  constructor(environment: Environment) {
    this.logs = container(environment, 'CACHE', 'replication-logs');
    this.seeds = container(environment, 'REPLICA', 'seed-disks');
    this.catalog = container(environment, 'REPLICA', 'catalog');
    this.failover = container(environment, 'REPLICA', 'failover');
  }

  /** Names of a stream's segments, ascending. `disk`: `group/machine/disk`. */
  async segments(disk: string): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of this.logs.listBlobsFlat({ prefix: `${disk}/` })) names.push(name);
    return names.sort();
  }

  seed(disk: string): PageBlobClient {
    return this.seeds.getPageBlobClient(`${disk}.vhd`);
  }

  /** Metadata of all snapshots of a seed disk. */
  async snapshots(disk: string): Promise<{ snapshot: string; metadata: Record<string, string> }[]> {
    const found = [];
    const listing = this.seeds.listBlobsFlat({ prefix: `${disk}.vhd`, includeSnapshots: true, includeMetadata: true });
    for await (const { snapshot, metadata } of listing) {
      if (snapshot !== undefined && snapshot !== '') found.push({ snapshot, metadata: metadata ?? {} });
    }
    return found;
  }
}

export const segmentPath = (disk: string, sequence: number, epoch = 1): string =>
  `${disk}/${String(epoch).padStart(8, '0')}/${String(sequence).padStart(12, '0')}.seg`;

export const download = (blob: BlobClient): Promise<Buffer> => blob.downloadToBuffer();

/** Puts bytes under a name, whatever was there. */
export async function overwrite(container: ContainerClient, name: string, bytes: Buffer): Promise<void> {
  await container.getBlockBlobClient(name).upload(bytes, bytes.length);
}
