/** The ARM emulator in this process, before the page blobs of a stack of its own, and the adapter on it. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AnonymousCredential, BlobServiceClient, PageBlobClient } from '@azure/storage-blob';
import { afterAll, beforeAll } from 'vitest';
import { ComputeManagementClient } from '@azure/arm-compute';
import { ArmCompute, type ArmComputeOptions } from '../../src/azure/arm-compute.ts';
import type { ComputeTimes } from '../../src/azure/arm-client.ts';
import { ArmEmulator } from '../../src/local/arm/emulator.ts';
import { caFileOf } from '../../src/local/arm/certificate.ts';
import { freshName } from '../contracts/support.ts';
import { useStack } from '../support/stack.ts';

export const SUBSCRIPTION = '00000000-0000-0000-0000-000000000001';
export const GROUP = 'rg';

/** As in production but for the waits. */
export const QUICK: ComputeTimes = {
  tryMs: 20_000,
  attempts: 4,
  firstDelayMs: 1,
  maxDelayMs: 30,
  pollMs: 5,
  maxPollMs: 10,
  operationMs: 30_000,
};

export const TOKEN = 'test-token-that-must-not-leak';
export const credential = { getToken: async () => ({ token: TOKEN, expiresOnTimestamp: Date.now() + 3_600_000 }) };

export class ArmWorld {
  readonly folder: string;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #replica: BlobServiceClient;
  #emulator: ArmEmulator | undefined;
  #port = 0;

  constructor(folder: string, environment: Readonly<Record<string, string>>) {
    this.folder = folder;
    this.#environment = environment;
    this.#replica = BlobServiceClient.fromConnectionString(environment['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '');
  }

  #make(): ArmEmulator {
    const connectionString = this.#environment['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '';
    return new ArmEmulator({ folder: this.folder, connectionString, pageEntries: 2 });
  }

  async start(): Promise<void> {
    this.#emulator = this.#make();
    await this.#emulator.listen(this.#port);
    this.#port = this.#emulator.port;
  }

  /** Another process would do the same: everything in memory is new. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async stop(): Promise<void> {
    await this.#emulator?.close();
  }

  get faults() {
    if (this.#emulator === undefined) throw new Error('the emulator runs elsewhere');
    return this.#emulator.faults;
  }

  get options(): Omit<ArmComputeOptions, 'times'> {
    return {
      endpoint: `https://127.0.0.1:${this.#port}`,
      subscriptionId: SUBSCRIPTION,
      credential,
      ca: readFileSync(caFileOf(this.folder), 'utf8'),
      random: Math.random,
      resourceGroup: GROUP,
      location: 'westeurope',
      storageAccountId: this.#environment['TIDEMARK_REPLICA_ACCOUNT_ID'] ?? '',
    };
  }

  /** A new adapter, as in a process of its own. */
  compute(times: Partial<ComputeTimes> = {}): ArmCompute {
    return new ArmCompute({ ...this.options, times: { ...QUICK, ...times } });
  }

  /** The SDK itself, for what the port does not show. */
  sdk(): ComputeManagementClient {
    const { endpoint, ca = '' } = this.options;
    return new ComputeManagementClient(credential, SUBSCRIPTION, {
      endpoint,
      tlsOptions: { ca },
      // A kept connection is dead after a restart of the emulator.
      retryOptions: { maxRetries: 2, retryDelayInMs: 1 },
    });
  }

  async putSource(bytes: Buffer): Promise<string> {
    const container = this.#replica.getContainerClient('failover');
    await container.createIfNotExists();
    const blob = container.getPageBlobClient(`${freshName('copy')}.vhd`);
    await blob.create(bytes.length);
    for (let at = 0; at < bytes.length; at += 65_536) {
      const part = bytes.subarray(at, at + 65_536);
      if (part.some((byte) => byte !== 0)) await blob.uploadPages(part, at, part.length);
    }
    return blob.url;
  }

  sourceAt(url: string): PageBlobClient {
    const [container = '', ...name] = new URL(url).pathname.split('/').slice(2);
    return this.#replica.getContainerClient(container).getPageBlobClient(name.join('/'));
  }

  /** Page blobs of managed disks and snapshots. */
  async managed(): Promise<PageBlobClient[]> {
    const container = this.#replica.getContainerClient('managed-disks');
    const names: string[] = [];
    for await (const { name } of container.listBlobsFlat()) names.push(name);
    return names.map((name) => container.getPageBlobClient(name));
  }

  /** All bytes of an unattached disk, by the read access that Azure gives. */
  async readDisk(name: string): Promise<Buffer> {
    const { disks } = this.sdk();
    const pace = { updateIntervalInMs: 5 };
    const { accessSAS = '' } = await disks.grantAccess(GROUP, name, { access: 'Read', durationInSeconds: 600 }, pace);
    const bytes = await new PageBlobClient(accessSAS, new AnonymousCredential()).downloadToBuffer();
    await disks.revokeAccess(GROUP, name, pace);
    return bytes;
  }
}

export function useArm(): () => ArmWorld {
  const stack = useStack();
  let world: ArmWorld | undefined;
  beforeAll(async () => {
    world = new ArmWorld(await mkdtemp(join(tmpdir(), 'tidemark-arm-')), stack.environment);
    await world.start();
  });
  afterAll(async () => {
    await world?.stop();
    if (world !== undefined) await rm(world.folder, { recursive: true, force: true });
  });
  return () => {
    if (world === undefined) throw new Error('the emulator runs only inside of tests');
    return world;
  };
}
