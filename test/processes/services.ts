/** Azurite and the broker as single processes, so that a test can end either of them in any way and start it again. */
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
/** Azurite saves its index every five seconds when something has changed. */
const SAVE_BOUND = { timeout: 20_000, interval: 10 };

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

  async #touch(): Promise<void> {
    const connection = this.environment()['TIDEMARK_CACHE_CONNECTION_STRING'] ?? '';
    const container = BlobServiceClient.fromConnectionString(connection).getContainerClient('touched');
    await container.createIfNotExists();
    await container.setMetadata({ at: String(Date.now()) });
  }

  /** Waits until Azurite has saved all its index files, and keeps copies. Nothing may change meanwhile. */
  async keepIndex(): Promise<void> {
    const atMs = Date.now();
    await this.#touch(); // only a changed index is saved
    const [blobs = ''] = (await this.#indexFiles()).filter((file) => file.endsWith('db_blob__.json'));
    await vi.waitFor(async () => {
      if ((await stat(blobs)).mtimeMs <= atMs) throw new Error('the index was not saved yet');
    }, SAVE_BOUND);
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
