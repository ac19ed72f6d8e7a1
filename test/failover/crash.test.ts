/** Executors that die at any call that changes something, and executors that are taken over at any of them. */
import { describe, expect, it } from 'vitest';
import { getGroup } from '../../src/catalog/groups.ts';
import type { Command, JobView } from '../../src/commands/commands.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { GROUP, live, run } from '../worker/discard-support.ts';
import {
  COMMANDS,
  copiesOf,
  diskNames,
  failoverWorld,
  give,
  inAzure,
  statesOf,
  type FailoverWorld,
} from './support.ts';
import { interrupted, type Moment } from './interrupted.ts';
import { extent } from '../support/extent.ts';

const SCRIPTS: Readonly<Record<string, readonly Command[]>> = {
  'a drill': [{ ...COMMANDS.test, point: 'latest-crash' }, COMMANDS.cleanup],
  'a failover to the latest, canceled': [{ ...COMMANDS.failover, point: 'latest' }, COMMANDS.cancel],
  'a failover, changed and committed': [
    COMMANDS.failover,
    { command: 'change-point', group: GROUP, point: '20261123T040500.000000Z-crash' },
    COMMANDS.commit,
  ],
};

/** What must be the same however often executors died. */
async function outcomeOf(world: FailoverWorld, jobs: readonly JobView[]): Promise<unknown> {
  const { pins, lastDrill, failover, drill } = await getGroup(world.storage.catalog, GROUP, live);
  const told = new Map<string, string[]>();
  const ids = new Set<string>();
  for await (const { messageId, body } of world.topic.tail(live, { follow: false })) {
    const { type, data } = body as { type: string; data: { job?: string; to: string } };
    if (type !== 'Tidemark.JobChanged') continue;
    expect(ids).not.toContain(messageId);
    ids.add(messageId);
    told.set(data.job ?? '', [...(told.get(data.job ?? '') ?? []), data.to]);
  }
  const disks = jobs.flatMap(diskNames);
  return {
    states: await statesOf(world),
    held: [failover?.point, drill?.point, pins],
    lastDrill: [lastDrill?.outcome, lastDrill?.point],
    points: (await listPoints(world.storage.catalog, GROUP, live)).map(({ point }) => point),
    copies: await copiesOf(world),
    inAzure: await inAzure(world),
    bytes: disks.map((name) => world.compute.peek(name)?.toString('base64')),
    jobs: jobs.map(({ command, state, point, steps, result }) => ({
      command,
      state,
      point,
      steps: steps.length,
      result,
    })),
    told: [...told].toSorted(([a], [b]) => (a < b ? -1 : 1)),
  };
}

const keyOf = (index: number): string => `command-${index}`;

/** The commands one after the other, by executors that do not die. */
async function whole(commands: readonly Command[]): Promise<unknown> {
  const world = await failoverWorld();
  const jobs: JobView[] = [];
  for (const [index, command] of commands.entries()) jobs.push(await give(world, command, keyOf(index)));
  expect(jobs.map(({ state }) => state)).toEqual(commands.map(() => 'succeeded'));
  return outcomeOf(world, jobs);
}

/** An executor that dies at its `at`-th call; the next ones repeat its command under its key, and go on. */
async function broken(
  commands: readonly Command[],
  at: number,
  moment: Moment,
): Promise<{ readonly died: boolean; readonly outcome: unknown }> {
  const world = await failoverWorld();
  const dying = interrupted(world, at, moment, 'dies');
  const jobs: JobView[] = [];
  for (const [index, command] of commands.entries()) {
    const job = await give(dying.died() ? world : dying.world, command, keyOf(index)).catch((error: unknown) => {
      if (!dying.died()) throw error;
      return give(world, command, keyOf(index));
    });
    jobs.push(job.state === 'failed' ? await give(world, command, keyOf(index)) : job);
  }
  return { died: dying.died(), outcome: await outcomeOf(world, jobs) };
}

const STRIDE = extent({ quick: 3, full: 1 });

/**
 * Odd calls are never heard by storage, even ones are heard and the answer is lost: for the state that is left, to die after a call is to
 * die before the next one, so a full run visits every state; a quick one each third.
 */
const momentOf = (at: number): Moment => (at % 2 === 1 ? 'before' : 'after');

describe.each(Object.entries(SCRIPTS))('%s', (_name, commands) => {
  it('ends the same when its executor dies at any call', async () => {
    const expected = await whole(commands);
    let deaths = 0;
    for (let at = 1; ; at += STRIDE) {
      const { died, outcome } = await broken(commands, at, momentOf(at));
      if (!died) break;
      deaths++;
      expect(outcome, `${momentOf(at)} call ${at}`).toEqual(expected);
    }
    expect(deaths).toBeGreaterThan(40 / STRIDE);
  }, 120_000);
});

describe('an executor that stalls', () => {
  it('at any call, while another executes its job to the end: it changes nothing more', async () => {
    const command = { ...COMMANDS.failover, point: 'latest' } as const;
    const expected = await whole([command]);
    let takenOver = 0;
    for (let at = 1; ; at += 2) {
      const world = await failoverWorld();
      let other: JobView | undefined;
      const stalling = interrupted(world, at, 'before', async () => {
        other = await give(world, command, keyOf(0));
      });
      const first = await give(stalling.world, command, keyOf(0)).catch((error: unknown) => error);
      if (!stalling.died()) break;
      // It is thrown out, and finds the job done.
      expect(first, `call ${at}`).toMatchObject({ state: 'succeeded' });
      takenOver++;
      if (other === undefined) throw new Error('nobody took over');
      expect(await outcomeOf(world, [other]), `call ${at}`).toEqual(expected);
      await run(world.ports);
    }
    expect(takenOver).toBeGreaterThan(10);
  }, 120_000);
});
