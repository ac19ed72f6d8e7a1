/** `stack.json` in the home folder: how commands find the stack that runs there. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import { isAlive, type ProcessIdentity, processStart } from './process-identity.ts';

const identity = z.object({ pid: z.int().min(1), start: z.string() });

const stateSchema = z.object({
  version: z.literal(1),
  /** `starting` until every service answers. */
  status: z.enum(['starting', 'ready']),
  startedAt: z.iso.datetime(),
  ports: z.object({ blob: z.int(), broker: z.int(), arm: z.int() }),
  /** The process that started the services; they end when it does. */
  supervisor: identity,
  services: z.array(identity.extend({ name: z.string() })),
});

export type StackState = z.infer<typeof stateSchema>;

export const DEFAULT_HOME = '.tidemark';

const stateFile = (home: string): string => join(home, 'stack.json');

/** What `stack.json` says, whether it is true or not; undefined when there is none that can be read. */
function readStateFile(home: string): StackState | undefined {
  try {
    return stateSchema.safeParse(JSON.parse(readFileSync(stateFile(home), 'utf8'))).data;
  } catch {
    return undefined;
  }
}

/**
 * The stack that lives in `home`, running or starting; undefined when there is none. A `stack.json` whose supervisor is dead, or whose
 * pid belongs to another program by now, counts as none.
 */
export function findStack(home: string): StackState | undefined {
  const state = readStateFile(home);
  return state !== undefined && isAlive(state.supervisor) ? state : undefined;
}

/** The stack that runs in `home` with all its services up; undefined when there is none. */
export function readStack(home: string): StackState | undefined {
  const state = findStack(home);
  return state?.status === 'ready' && state.services.every(isAlive) ? state : undefined;
}

/** Services that still end after their supervisor was killed. */
export function leftovers(home: string): readonly ProcessIdentity[] {
  const state = readStateFile(home);
  return state === undefined || isAlive(state.supervisor) ? [] : state.services.filter(isAlive);
}

/**
 * Claims `home` for the stack that this process starts.
 * @throws TidemarkError LOCAL_ALREADY_RUNNING
 */
export function claimHome(home: string, ports: StackState['ports']): StackState {
  makeFolder(home);
  const { pid } = process;
  const state: StackState = {
    version: 1,
    status: 'starting',
    startedAt: new Date().toISOString(),
    ports,
    supervisor: { pid, start: processStart(pid) ?? '' },
    services: [],
  };
  const running = findStack(home);
  if (running === undefined) rmSync(stateFile(home), { force: true });
  else throw alreadyRunning(home, running);
  try {
    // Of two that start at once, one creates the file.
    writeFileSync(stateFile(home), JSON.stringify(state, null, 2), { flag: 'wx' });
  } catch (cause) {
    const other = findStack(home);
    if (other === undefined)
      throw new TidemarkError('LOCAL_START_FAILED', `cannot write ${stateFile(home)}`, { cause });
    throw alreadyRunning(home, other);
  }
  return state;
}

/** @throws TidemarkError LOCAL_START_FAILED */
export function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw new TidemarkError('LOCAL_START_FAILED', `cannot make the folder ${folder}`, { cause });
  }
}

/** Replaces `stack.json` at once and whole. */
export function writeState(home: string, state: StackState): void {
  const temporary = `${stateFile(home)}.${process.pid}.tmp`;
  writeFileSync(temporary, JSON.stringify(state, null, 2));
  renameSync(temporary, stateFile(home));
}

/** Removes `stack.json`, unless it belongs to another stack by now. */
export function releaseHome(home: string, supervisor: StackState['supervisor']): void {
  const state = readStateFile(home);
  if (state === undefined || state.supervisor.pid !== supervisor.pid || state.supervisor.start !== supervisor.start)
    return;
  rmSync(stateFile(home), { force: true });
}

const alreadyRunning = (home: string, { supervisor, ports }: StackState): TidemarkError =>
  new TidemarkError(
    'LOCAL_ALREADY_RUNNING',
    `a local stack runs in ${home} already (process ${supervisor.pid}, ports ${ports.blob}, ${ports.broker} and ${ports.arm})`,
    { details: { pid: supervisor.pid } },
  );
