/** The local stack of a demo: in a temporary folder and gone with it, or in a home that is kept. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { TidemarkError } from '../errors.ts';
import { startDetachedStack, stopStack } from '../local/detached.ts';
import { startStack } from '../local/stack.ts';
import { readStackConfig, stackEnvironment } from '../local/stack-config.ts';

/** Below the ports that systems hand out by themselves (32768 and up on Linux, 49152 elsewhere). */
const FIRST_PORT = 22_000;
const PORT_TRIPLES = 2600;
const PORT_ATTEMPTS = 20;

export interface DemoStackOptions {
  /** Folder of a stack that is to stay up; undefined: a temporary one. */
  readonly keepHome: string | undefined;
  /** Undefined: any free ports. */
  readonly portBase: number | undefined;
  /** From 0 up to 1, as `Math.random`. */
  readonly random: () => number;
  readonly signal: AbortSignal;
}

export interface DemoStack {
  readonly environment: Readonly<Record<string, string>>;
  /** Stops the services; a temporary folder is deleted, a kept one stays. */
  close(): Promise<void>;
}

/** @throws TidemarkError LOCAL_ALREADY_RUNNING, LOCAL_PORT_TAKEN, LOCAL_START_FAILED; the signal's reason */
export async function openDemoStack(options: DemoStackOptions): Promise<DemoStack> {
  const { keepHome, signal } = options;
  if (keepHome !== undefined) {
    const home = resolve(keepHome);
    const state = await onFreePorts(options, (portBase) => startDetachedStack({ home, portBase, signal }));
    return {
      environment: stackEnvironment(readStackConfig(), state.ports, home),
      close: async () => void (await stopStack(home)),
    };
  }
  const home = await mkdtemp(join(tmpdir(), 'tidemark-demo-'));
  const remove = (): Promise<void> => rm(home, { recursive: true, force: true });
  try {
    const stack = await onFreePorts(options, (portBase) => startStack({ home, portBase, signal }));
    return {
      environment: stack.environment,
      close: async () => {
        await stack.stop();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Another stack, or another demo, may hold any of the ports: tries some, unless the caller named them. */
async function onFreePorts<T>(
  { portBase, random }: Pick<DemoStackOptions, 'portBase' | 'random'>,
  start: (portBase: number) => Promise<T>,
): Promise<T> {
  if (portBase !== undefined) return start(portBase);
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(FIRST_PORT + 3 * Math.floor(random() * PORT_TRIPLES));
    } catch (error) {
      const isTaken = error instanceof TidemarkError && error.code === 'LOCAL_PORT_TAKEN';
      if (!isTaken || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}
