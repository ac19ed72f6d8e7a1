/** Any sequence of commands: only states of the table, and no point is pruned while it is in use. */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { getGroup, jobHolds, operationStates } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import type { Command } from '../../src/commands/commands.ts';
import { TidemarkError } from '../../src/errors.ts';
import { claimed, COMMAND_NAMES, ENDED_DRILL, ENDED_FAILOVER } from '../../src/failover/states.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { GROUP, live, newWorker } from '../worker/discard-support.ts';
import { BY, COMMANDS, copiesOf, failoverWorld, inAzure, service, statesOf, type FailoverWorld } from './support.ts';

const selectorArb = fc.constantFrom('latest', 'latest-processed', 'latest-crash', '20261123T040000.000000Z-crash');
const commandArb: fc.Arbitrary<Command> = fc.oneof(
  ...COMMAND_NAMES.map((command): fc.Arbitrary<Command> => {
    if (command === 'create-point') return fc.constant({ command, group: GROUP, at: 'latest' as const });
    if (command === 'commit' || command === 'cancel' || command === 'cleanup-test-failover') {
      return fc.constant({ command, group: GROUP });
    }
    return selectorArb.map((point) => ({ command, group: GROUP, point }));
  }),
);
/** What happens to a command, or what else happens. */
const actionArb = fc.oneof(
  { weight: 6, arbitrary: fc.record({ give: commandArb, isExecuted: fc.boolean() }) },
  { weight: 2, arbitrary: fc.constant('execute all' as const) },
  { weight: 2, arbitrary: fc.constant('work' as const) },
  { weight: 1, arbitrary: fc.constant('prune' as const) },
);

async function states({ storage }: FailoverWorld) {
  return operationStates(await getGroup(storage.catalog, GROUP, live));
}

/** Refused exactly where the table says so, or where there is no such point. */
async function give(world: FailoverWorld, command: Command, isExecuted: boolean): Promise<void> {
  const before = await states(world);
  const wanted = claimed(before, command.command);
  const commands = service(world);
  try {
    const { job } = await commands.submit(command, BY, live);
    expect(await states(world)).toEqual(wanted);
    if (!isExecuted) return;
    const ended = await commands.execute(GROUP, job, {}, live);
    if (ended.state === 'failed') return expect(await states(world)).toEqual(wanted);
    if (wanted === undefined || command.command === 'create-point') return;
    const isDrill = wanted.failover === before.failover && wanted.drill !== before.drill;
    expect(await states(world)).toEqual(
      isDrill
        ? { ...wanted, drill: ENDED_DRILL[wanted.drill] }
        : { ...wanted, failover: ENDED_FAILOVER[wanted.failover] },
    );
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    expect(['FAILOVER_STATE', 'POINT_NOT_FOUND']).toContain(error.code);
    expect(error.code === 'FAILOVER_STATE').toBe(wanted === undefined);
    expect(await states(world)).toEqual(before);
  }
}

async function requireHeldPoints({ storage }: FailoverWorld): Promise<void> {
  const document = await getGroup(storage.catalog, GROUP, live);
  const { failover } = operationStates(document);
  if (failover === 'committing' || failover === 'committed') return;
  const listed = new Set((await listPoints(storage.catalog, GROUP, live)).map(({ point }) => point));
  for (const { point } of jobHolds(document)) expect(listed).toContain(point);
}

async function executeAll(world: FailoverWorld): Promise<void> {
  const commands = service(world);
  // Oldest first, as they were asked for.
  for (const { job } of (await commands.jobs(GROUP, live)).toReversed()) await commands.execute(GROUP, job, {}, live);
}

/** Whatever is left can be brought to an end, and nothing is left then that nobody knows of. */
async function end(world: FailoverWorld): Promise<void> {
  await executeAll(world);
  for (const command of [COMMANDS.cleanup, COMMANDS.cancel]) {
    if (claimed(await states(world), command.command) === undefined) continue;
    const { job } = await service(world).submit(command, BY, live);
    expect(await service(world).execute(GROUP, job, {}, live)).toMatchObject({ state: 'succeeded' });
  }
  expect(['none none', 'committed none']).toContain(await statesOf(world));
  expect(await copiesOf(world)).toEqual([]);
  if ((await states(world)).failover === 'none') expect(await inAzure(world)).toEqual([]);
  for (const { state } of await service(world).jobs(GROUP, live)) expect(state).not.toBe('running');
}

it('keeps to the table, and to the points in use, whatever is asked for', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(actionArb, { minLength: 1, maxLength: 12 }), async (actions) => {
      const world = await failoverWorld();
      // Every point but the newest is due at once.
      await setPolicy(world.storage.catalog, 'p', { retentionHours: 0, appConsistentHours: 0 }, live);
      for (const action of actions) {
        if (action === 'execute all') await executeAll(world);
        else if (action === 'work') await newWorker(world.ports).runOnce(live);
        else if (action === 'prune') {
          await newWorker(world.ports)
            .prune(GROUP, live)
            .catch((error: unknown) => {
              if (!(error instanceof TidemarkError) || error.code !== 'FAILOVER_STATE') throw error;
            });
        } else await give(world, action.give, action.isExecuted);
        await requireHeldPoints(world);
      }
      await end(world);
    }),
    { numRuns: 40 },
  );
});
