/** Azurite and the broker as single processes, so that a test can end either of them in any way and start it again. */
import { randomUUID } from 'node:crypto';
import { copyFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlobServiceClient } from '@azure/storage-blob';
import { afterAll, beforeAll, vi } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import { isPortFree } from '../../src/local/probes.ts';
import { type Service, startService } from '../../src/local/service.ts';
import {
  PROJECT_ROOT,
  readStackConfig,
  type StackConfig,
  stackEnvironment,
  type StackPorts,
  stackPorts,
} from '../../src/local/stack-config.ts';
import { serviceDefinitions } from '../../src/local/stack.ts';
import { onFreePorts } from '../support/stack.ts';

export type ServiceName = 'azurite' | 'broker';

const config = readStackConfig();
/** Azurite saves each index file every five seconds when something in it has changed. */
const SAVE_BOUND = { timeout: 20_000, interval: 100 };

export class Services {
  readonly home: string;
  readonly ports: StackPorts;
  readonly #config: StackConfig;
  readonly #running = new Map<string, Service>();

  private constructor(home: string, ports: StackPorts, brokerConfig: string) {
    this.home = home;
    this.ports = ports;
    this.#config = { ...config, brokerConfig };
  }

  /** `lockDuration` of the broker's entities, ISO 8601, instead of that of `infra/service-bus/Config.json`. */
  static async start({ lockDuration }: { readonly lockDuration?: string } = {}): Promise<Services> {
    const home = await mkdtemp(join(tmpdir(), 'tidemark-processes-'));
    const brokerConfig = lockDuration === undefined ? config.brokerConfig : join(home, 'Config.json');
    if (lockDuration !== undefined) {
      const text = await readFile(join(PROJECT_ROOT, config.brokerConfig), 'utf8');
      await writeFile(brokerConfig, text.replaceAll('"PT1M"', JSON.stringify(lockDuration)));
    }
    return onFreePorts(async (portBase) => {
      const ports = stackPorts(config, portBase);
      for (const port of [ports.blob, ports.broker]) {
        if (!(await isPortFree(port))) throw new TidemarkError('LOCAL_PORT_TAKEN', `port ${port} is taken`);
      }
      const services = new Services(home, ports, brokerConfig);
      await Promise.all([services.start('azurite'), services.start('broker')]);
      return services;
    });
  }

  /** The `TIDEMARK_*` variables, with other ports when a proxy stands before a service. */
  environment(ports: Partial<StackPorts> = {}): Record<string, string> {
    return stackEnvironment(config, { ...this.ports, ...ports }, this.home);
  }

  async start(name: ServiceName): Promise<void> {
    const definition = serviceDefinitions(this.home, this.#config, this.ports).find((one) => one.name === name);
    if (definition === undefined) throw new Error(`there is no service ${name}`);
    const service = await startService(definition);
    this.#running.set(name, service);
    await service.waitUntilReady(AbortSignal.timeout(50_000));
  }

  async end(name: ServiceName, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const service = this.#running.get(name);
    if (service === undefined) throw new Error(`${name} does not run`);
    process.kill(service.identity.pid, signal);
    await service.ended;
    this.#running.delete(name);
  }

  async restart(name: ServiceName, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await this.end(name, signal);
    await this.start(name);
  }

  #indexFiles(): Promise<string[]> {
    return readdir(join(this.home, config.dataFolder)).then((names) =>
      names
        .filter((name) => /^__azurite_db_.*\.json$/.test(name))
        .map((name) => join(this.home, config.dataFolder, name)),
    );
  }

  /** Changes both index files: that of the blobs, and that of the extents with their bytes. @returns what the blobs' one then holds */
  async #touch(): Promise<string> {
    const connection = this.environment()['TIDEMARK_CACHE_CONNECTION_STRING'] ?? '';
    const container = BlobServiceClient.fromConnectionString(connection).getContainerClient('touched');
    await container.createIfNotExists();
    const name = `touched-${randomUUID()}`;
    await container.getBlockBlobClient(name).upload('x', 1);
    return name;
  }

  /**
   * Waits until Azurite's index files hold everything that was made before the call: what a kill can no longer take. The two are saved
   * at times of their own, and a saving that was under way holds an earlier state; so it is what they hold that tells.
   */
  async untilSaved(): Promise<void> {
    const atMs = Date.now();
    const name = await this.#touch();
    const held = new Map<string, { readonly savedMs: number; readonly isNew: boolean; readonly isNamed: boolean }>();
    await vi.waitFor(async () => {
      for (const file of await this.#indexFiles()) {
        const { mtimeMs: savedMs } = await stat(file);
        if (held.get(file)?.savedMs === savedMs) continue;
        const text = await readFile(file, 'utf8');
        const isNew = [...text.matchAll(/"lastModif(?:ied|y)InMS":(\d+)/gi)].some(([, ms]) => Number(ms) >= atMs);
        held.set(file, { savedMs, isNew, isNamed: text.includes(name) });
      }
      const all = [...held.values()];
      const isSaved = all.some(({ isNamed }) => isNamed) && all.some(({ isNew }) => isNew);
      if (!isSaved) throw new Error('the index was not saved yet');
    }, SAVE_BOUND);
  }

  /** Keeps copies of what Azurite has saved. Nothing may change meanwhile. */
  async keepIndex(): Promise<void> {
    await this.untilSaved();
    for (const file of await this.#indexFiles()) await copyFile(file, `${file}.kept`);
  }

  /**
   * Kills Azurite, and starts it as it was at {@link keepIndex}: a kill within five seconds of a saving does just that, but a test
   * cannot choose these.
   */
  async rollBack(): Promise<void> {
    await this.end('azurite', 'SIGKILL');
    for (const file of await this.#indexFiles()) await copyFile(`${file}.kept`, file);
    await this.start('azurite');
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.values()].map((service) => service.stop()));
    await rm(this.home, { recursive: true, force: true });
  }
}

/** Services of its own for the whole test file, with empty data. */
export function useServices(): () => Services {
  let services: Services | undefined;
  beforeAll(async () => {
    services = await Services.start();
  });
  afterAll(() => services?.stop());
  return () => {
    if (services === undefined) throw new Error('the services run only inside of tests');
    return services;
  };
}
