/** The local stack: Azurite, the Service Bus-compatible broker and the ARM emulator as child processes of this one. */
import { rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { TidemarkError } from '../errors.ts';
import { armAnswers, azuriteAnswers, brokerAnswers, isPortFree } from './probes.ts';
import { isAlive } from './process-identity.ts';
import { type Service, type ServiceDefinition, startService } from './service.ts';
import {
  armFolder,
  PROJECT_ROOT,
  readStackConfig,
  STACK_CONFIG_FILE,
  type StackConfig,
  stackEnvironment,
  type StackPorts,
  stackPorts,
} from './stack-config.ts';
import { claimHome, leftovers, makeFolder, releaseHome, type StackState, writeState } from './stack-state.ts';

/** Services of a killed stack save their data and end by themselves; they get this long for it. */
const LEFTOVER_LIMIT_MS = 25_000;
const LEFTOVER_POLL_MS = 50;

export interface StackOptions {
  /** Folder for data, logs and `stack.json`; made when it is not there. */
  readonly home: string;
  /** Moves all ports: the blob service gets `portBase`, the broker `portBase + 1`, the ARM emulator `portBase + 2`. */
  readonly portBase?: number | undefined;
  /** Starts with empty data. */
  readonly fresh?: boolean;
  /** Ends the attempt to start; it does not stop a stack that runs. */
  readonly signal: AbortSignal;
}

export interface RunningStack {
  /** Points a worker, or any Azure SDK program, at the stack. */
  readonly environment: Record<string, string>;
  readonly ports: StackPorts;
  /** Process ids of the services. */
  readonly pids: readonly number[];
  /** Resolves when the stack is down: with an error when a service ended by itself (the others are stopped then), else undefined. */
  readonly ended: Promise<TidemarkError | undefined>;
  /** Stops the services in order; Azurite saves its data. Safe to call again. */
  stop(): Promise<void>;
}

/**
 * Starts the stack and waits until its services answer. They end with this process, however it ends.
 * @throws TidemarkError LOCAL_ALREADY_RUNNING, LOCAL_PORT_TAKEN, LOCAL_START_FAILED, CONFIG_INVALID; the signal's reason
 */
export async function startStack(options: StackOptions): Promise<RunningStack> {
  const { signal } = options;
  signal.throwIfAborted();
  const home = resolve(options.home);
  const config = readStackConfig();
  const ports = stackPorts(config, options.portBase);
  await waitForLeftovers(home, signal);
  let state = claimHome(home, ports);
  const services: Service[] = [];
  try {
    const wanted = [
      ['Azurite', ports.blob],
      ['the broker', ports.broker],
      ['the ARM emulator', ports.arm],
    ] as const;
    for (const [service, port] of wanted) {
      if (!(await isPortFree(port))) {
        throw new TidemarkError('LOCAL_PORT_TAKEN', `port ${port}, which ${service} needs, is taken`, {
          details: { port },
        });
      }
    }
    if (options.fresh === true) {
      for (const folder of [join(home, config.dataFolder), armFolder(home)]) {
        rmSync(folder, { recursive: true, force: true });
      }
    }
    for (const definition of serviceDefinitions(home, config, ports)) services.push(await startService(definition));
    state = {
      ...state,
      services: services.map(({ identity, definition }) => ({ ...identity, name: definition.name })),
    };
    writeState(home, state);
    await waitUntilReady(services, signal);
    state = { ...state, status: 'ready' };
    writeState(home, state);
  } catch (error) {
    await stopAll(services);
    releaseHome(home, state.supervisor);
    throw error;
  }
  return running({ home, state, services, environment: stackEnvironment(config, ports, home) });
}

function running(parts: {
  readonly home: string;
  readonly state: StackState;
  readonly services: readonly Service[];
  readonly environment: Record<string, string>;
}): RunningStack {
  const { home, state, services, environment } = parts;
  let stopping = false;
  const takeDown = async (): Promise<void> => {
    await stopAll(services);
    releaseHome(home, state.supervisor);
  };
  const ended = Promise.race(services.map((service) => service.ended.then(() => service))).then(async (first) => {
    const failure = stopping ? undefined : first.failure('LOCAL_CHILD_EXITED', 'ended by itself');
    await takeDown();
    return failure;
  });
  return {
    environment,
    ports: state.ports,
    pids: services.map(({ identity }) => identity.pid),
    ended,
    async stop() {
      stopping = true;
      await takeDown();
      await ended;
    },
  };
}

/** The services of a stack in the order of their start; makes the data folder. */
export function serviceDefinitions(home: string, config: StackConfig, ports: StackPorts): ServiceDefinition[] {
  const data = join(home, config.dataFolder);
  makeFolder(data);
  const accounts = Object.values(config.accounts).map(({ name, key }) => `${name}:${key}`);
  return [
    {
      name: 'azurite',
      entry: fileURLToPath(new URL('./azurite.ts', import.meta.url)),
      // The SDK is newer than the API versions that this Azurite knows. Not --loose: what Azurite does not know shall fail, not pass.
      args: [
        '--blobHost',
        '127.0.0.1',
        '--blobPort',
        String(ports.blob),
        '--location',
        data,
        '--skipApiVersionCheck',
        '--disableTelemetry',
        '--silent',
      ],
      environment: { AZURITE_ACCOUNTS: accounts.join(';') },
      logFile: join(home, 'azurite.log'),
      readyLine: 'Azurite Blob service successfully listens on',
      answers: () => azuriteAnswers(ports.blob),
    },
    {
      name: 'broker',
      entry: fileURLToPath(new URL('./broker/main.ts', import.meta.url)),
      args: [String(ports.broker), resolve(PROJECT_ROOT, config.brokerConfig)],
      environment: {},
      logFile: join(home, 'broker.log'),
      readyLine: 'Broker successfully listens on',
      answers: () => brokerAnswers(ports.broker),
    },
    {
      name: 'arm',
      entry: fileURLToPath(new URL('./arm/main.ts', import.meta.url)),
      args: [String(ports.arm), armFolder(home), String(ports.blob), STACK_CONFIG_FILE],
      environment: {},
      logFile: join(home, 'arm.log'),
      readyLine: 'ARM emulator successfully listens on',
      answers: () => armAnswers(ports.arm),
    },
  ];
}

async function waitUntilReady(services: readonly Service[], signal: AbortSignal): Promise<void> {
  // Settled, so that no wait is left behind when one of them fails.
  const results = await Promise.allSettled(services.map((service) => service.waitUntilReady(signal)));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

async function stopAll(services: readonly Service[]): Promise<void> {
  await Promise.all(services.map((service) => service.stop()));
}

/** Waits for services whose supervisor was killed: they hold the ports and still write their data. */
async function waitForLeftovers(home: string, signal: AbortSignal): Promise<void> {
  const limit = AbortSignal.timeout(LEFTOVER_LIMIT_MS);
  for (let alive = leftovers(home); alive.length > 0; alive = alive.filter(isAlive)) {
    signal.throwIfAborted();
    if (limit.aborted) {
      const pids = alive.map(({ pid }) => pid).join(', ');
      throw new TidemarkError(
        'LOCAL_STOP_FAILED',
        `services of an earlier stack in ${home} do not end: process ${pids}`,
      );
    }
    await sleep(LEFTOVER_POLL_MS);
  }
}
