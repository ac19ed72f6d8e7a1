import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import { type RunningStack, startStack } from '../../src/local/stack.ts';

/** Below the ports that the kernel hands out by itself (32768 and up on Linux). */
const FIRST_PORT = 20_000;
const PORT_TRIPLES = 4000;

/** Calls `start` with port bases until one is free. */
export async function onFreePorts<T>(start: (portBase: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(FIRST_PORT + 3 * Math.floor(Math.random() * PORT_TRIPLES));
    } catch (error) {
      const lostRace =
        error instanceof TidemarkError && (error.code === 'LOCAL_PORT_TAKEN' || error.message.includes('EADDRINUSE'));
      if (!lostRace || attempt === 10) throw error;
    }
  }
}

export interface TestStack {
  /** The `TIDEMARK_*` variables of the stack; to be read inside of tests and hooks that run after the stack's. */
  readonly environment: Record<string, string>;
  readonly home: string;
}

/** One stack (Azurite, broker and ARM emulator) for the whole test file, with empty data in a temporary home. */
export function useStack(): TestStack {
  let stack: RunningStack | undefined;
  let home: string | undefined;
  beforeAll(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tidemark-test-'));
    home = folder;
    stack = await onFreePorts((portBase) =>
      startStack({ home: folder, portBase, signal: AbortSignal.timeout(50_000) }),
    );
  });
  afterAll(async () => {
    await stack?.stop();
    if (home !== undefined) await rm(home, { recursive: true, force: true });
  });
  return {
    get environment() {
      if (stack === undefined) throw new Error('the stack runs only inside of tests');
      return stack.environment;
    },
    get home() {
      if (home === undefined) throw new Error('the stack runs only inside of tests');
      return home;
    },
  };
}
