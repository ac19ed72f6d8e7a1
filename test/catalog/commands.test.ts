import { Command, CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { getGroup, pinPoint } from '../../src/catalog/groups.ts';
import type { CatalogTools } from '../../src/cli/commands/catalog-tools.ts';
import * as groupCommands from '../../src/cli/commands/group.ts';
import * as policyCommands from '../../src/cli/commands/policy.ts';
import { createContext } from '../../src/cli/context.ts';
import { reportError } from '../../src/cli/report.ts';
import { contents, live, newCatalog, NOW_US } from './support.ts';

interface Outcome {
  readonly exitCode: number | string;
  readonly out: string;
  readonly err: string;
}

/** A command line on a catalog in memory; `answer` is what a person at the terminal says. */
function commandLine(catalog: Catalog = newCatalog(), answer?: string) {
  const tools: CatalogTools = { withCatalog: (context, work) => work(catalog, context.signal), nowUs: () => NOW_US };
  const run = async (line: string): Promise<Outcome> => {
    const [out, err]: [string[], string[]] = [[], []];
    const context = createContext({
      env: {},
      stdout: { write: (text) => void out.push(text) },
      stderr: { write: (text) => void err.push(text) },
      isTerminal: answer !== undefined,
      signal: live(),
      ...(answer !== undefined && { ask: async () => answer }),
    });
    const program = new Command()
      .option('--json')
      .exitOverride()
      .configureOutput({ writeErr: () => undefined });
    program.hook('preAction', (_, command) => context.applyGlobals(command.optsWithGlobals()));
    policyCommands.register(program, context, tools);
    groupCommands.register(program, context, tools);
    let exitCode: number | string = 0;
    try {
      await program.parseAsync(line.split(' '), { from: 'user' });
    } catch (error) {
      exitCode = error instanceof CommanderError ? error.code : reportError(error, context);
    }
    return { exitCode, out: out.join(''), err: err.join('') };
  };
  return { run, catalog };
}

async function withShop(answer?: string) {
  const line = commandLine(newCatalog(), answer);
  await line.run('policy set gold');
  await line.run('group protect shop --policy gold --machine db --disk disk0=64MiB');
  return line;
}

describe('policy', () => {
  it('set, show and list print the whole policy as JSON', async () => {
    const { run } = commandLine();
    const gold = {
      policy: 'gold',
      retentionHours: 72,
      appConsistentHours: 1,
      rpoThresholdMinutes: 30,
      logRetentionHours: 2,
    };
    const set = await run(
      'policy set gold --retention-hours 72 --app-consistent-hours 1 --rpo-threshold-minutes 30 --log-retention-hours 2 --json',
    );
    expect(set).toEqual({ exitCode: 0, out: `${JSON.stringify(gold)}\n`, err: '' });
    expect(JSON.parse((await run('--json policy show gold')).out)).toEqual(gold);
    expect(JSON.parse((await run('policy list --json')).out)).toEqual([gold]);
  });

  it('set, show and list print a table', async () => {
    const { run } = commandLine();
    await run('policy set gold --app-consistent-hours 0');
    const expected =
      'POLICY  RETENTION  APP-CONSISTENT  RPO THRESHOLD  LOG RETENTION\ngold    24 h       off             15 min         0 h\n';
    for (const line of ['policy set gold', 'policy show gold', 'policy list'])
      expect((await run(line)).out).toBe(expected);
  });

  it('delete deletes, and says so', async () => {
    const { run, catalog } = commandLine();
    await run('policy set gold');
    expect(JSON.parse((await run('policy delete gold --json')).out)).toEqual({ policy: 'gold', deleted: true });
    expect(await contents(catalog)).toEqual({});
  });

  it.each([
    [
      'policy set gold --retention-hours 400',
      1,
      'error[POLICY_INVALID]: retentionHours is 400, but must be a whole number of hours from 0 to 360',
    ],
    ['policy set gold --retention-hours -1', 1, 'error[POLICY_INVALID]: retentionHours is -1'],
    ['policy set gold --app-consistent-hours 24', 1, 'error[POLICY_INVALID]: appConsistentHours is 24'],
    ['policy set gold --retention-hours 1d', 2, 'error[USAGE]: "1d" is no number'],
    ['policy set gold --retention-hours ', 2, 'error[USAGE]: "" is no number'],
    ['policy set a/b', 1, 'error[NAME_INVALID]'],
    ['policy show gold', 1, 'error[POLICY_NOT_FOUND]: there is no policy gold'],
    ['policy delete gold', 1, 'error[POLICY_NOT_FOUND]: there is no policy gold'],
    ['policy set', 'commander.missingArgument', ''],
    ['policy set gold --retention 5', 'commander.unknownOption', ''],
  ])('%s fails', async (line, exitCode, message) => {
    const { run, catalog } = commandLine();
    const outcome = await run(line);
    expect([outcome.exitCode, outcome.out]).toEqual([exitCode, '']);
    expect(outcome.err).toContain(message);
    expect(await contents(catalog)).toEqual({});
  });
});

describe('group protect', () => {
  it('gives each disk to the machine before it, in the order given', async () => {
    const { run } = commandLine();
    await run('policy set gold');
    const protect = await run(
      'group protect shop --machine web --disk b=1GiB --disk a=2GiB --policy gold --machine db --disk a=64MiB --json',
    );
    const disk = (disk: string, sizeBytes: number) => ({ disk, sizeBytes, epoch: 1 });
    expect(JSON.parse(protect.out)).toEqual({
      group: 'shop',
      policy: 'gold',
      wanted: 'active',
      machines: [
        { machine: 'web', disks: [disk('b', 2 ** 30), disk('a', 2 ** 31)] },
        { machine: 'db', disks: [disk('a', 2 ** 26)] },
      ],
      pins: [],
      createdAt: '2026-11-23T04:30:00.000000Z',
    });
    expect(JSON.parse((await run('group show shop --json')).out)).toEqual(JSON.parse(protect.out));
    expect(JSON.parse((await run('group list --json')).out)).toEqual([JSON.parse(protect.out)]);
  });

  it('says what it did in one line', async () => {
    const { run } = commandLine();
    await run('policy set gold');
    expect((await run('group protect shop --policy gold --machine db --disk a=64MiB --disk b=1GiB')).out).toBe(
      'Group shop is protected with 1 machine, 2 disks (1.1 GiB) and policy gold.\n',
    );
  });

  it.each([
    ['--policy gold --disk a=1GiB --machine db', 2, 'error[USAGE]: --disk a=1GiB needs a --machine before it'],
    ['--policy gold --machine db --disk a', 2, 'error[USAGE]: --disk a is not ID=SIZE'],
    ['--policy gold --machine db --disk =1GiB', 2, 'error[USAGE]: --disk =1GiB is not ID=SIZE'],
    ['--policy gold --machine db --disk a=big', 2, 'error[USAGE]: "big" is no size'],
    ['--policy gold --machine db --disk a=1000', 1, 'error[GROUP_INVALID]: disk db/a has 1000 bytes'],
    ['--policy gold --machine db --machine web --disk a=1GiB', 1, 'error[GROUP_INVALID]: machine db has 0 disks'],
    ['--policy tin --machine db --disk a=1GiB', 1, 'error[POLICY_NOT_FOUND]: there is no policy tin'],
    ['--policy gold', 'commander.missingMandatoryOptionValue', ''],
    ['--machine db --disk a=1GiB', 'commander.missingMandatoryOptionValue', ''],
  ])('%s fails', async (options, exitCode, message) => {
    const { run, catalog } = commandLine();
    await run('policy set gold');
    const before = await contents(catalog);
    const outcome = await run(`group protect shop ${options}`);
    expect([outcome.exitCode, outcome.out]).toEqual([exitCode, '']);
    expect(outcome.err).toContain(message);
    expect(await contents(catalog)).toEqual(before);
  });
});

describe('group', () => {
  it('show and list print tables', async () => {
    const { run, catalog } = await withShop();
    const pin = { group: 'shop', point: 'p1', owner: 'ada', reason: 'audit', expiresAtUs: null, nowUs: NOW_US };
    await pinPoint(catalog, pin, live());
    expect((await run('group list')).out).toBe(
      'GROUP  WANTED  POLICY  MACHINES  DISKS  SIZE      PINS\nshop   active  gold    1         1      64.0 MiB  1\n',
    );
    expect((await run('group show shop')).out).toBe(
      [
        'Group shop: active, policy gold, protected since 2026-11-23T04:30:00.000000Z',
        'MACHINE  DISK   SIZE      BYTES     EPOCH',
        'db       disk0  64.0 MiB  67108864  1',
        'PINNED POINT  BY   UNTIL     REASON',
        'p1            ada  unpinned  audit',
        '',
      ].join('\n'),
    );
  });

  it('pause, resume and set-policy change the document', async () => {
    const { run, catalog } = await withShop();
    expect((await run('group pause shop')).out).toBe('Group shop is paused.\n');
    expect(JSON.parse((await run('group resume shop --json')).out)).toMatchObject({ group: 'shop', wanted: 'active' });
    await run('policy set silver');
    expect((await run('group set-policy shop silver')).out).toBe('Group shop has policy silver.\n');
    expect(await getGroup(catalog, 'shop', live())).toMatchObject({ wanted: 'active', policy: 'silver' });
  });

  it.each(['pause', 'resume', 'disable', 'show'])('%s of an unknown group fails', async (verb) => {
    const { run } = commandLine();
    const outcome = await run(`group ${verb} shop`);
    expect(outcome.exitCode).toBe(1);
    expect(outcome.err).toMatch(/^error\[GROUP_NOT_FOUND\]: there is no group shop\nhint: /);
  });
});

describe('group disable', () => {
  const stateOf = async (catalog: Catalog) => {
    const { wanted, discardBeforeEpoch } = await getGroup(catalog, 'shop', live());
    return [wanted, discardBeforeEpoch];
  };

  it('with --keep-points needs no answer', async () => {
    const { run, catalog } = await withShop();
    await catalog.create('points/shop/p1.json', Buffer.from('{}'), live());
    expect(await run('group disable shop --keep-points')).toEqual({
      exitCode: 0,
      out: 'Group shop is disabled; kept: 1 point.\n',
      err: '',
    });
    expect(await stateOf(catalog)).toEqual(['disabled', undefined]);
  });

  it('otherwise needs a yes, from the person or the option', async () => {
    const unattended = await withShop();
    const outcome = await unattended.run('group disable shop');
    expect([outcome.exitCode, outcome.err.split(':')[0]]).toEqual([1, 'error[CONFIRMATION_REQUIRED]']);
    const refused = await withShop('n');
    expect((await refused.run('group disable shop')).err).toContain('error[CONFIRMATION_REQUIRED]');
    for (const { catalog } of [unattended, refused]) expect(await stateOf(catalog)).toEqual(['active', undefined]);
    const asked = await withShop('y');
    expect((await asked.run('group disable shop')).exitCode).toBe(0);
    expect((await unattended.run('group disable shop --yes --json')).exitCode).toBe(0);
    for (const { catalog } of [unattended, asked]) expect(await stateOf(catalog)).toEqual(['disabled', 2]);
  });

  it('--dry-run changes nothing', async () => {
    const { run, catalog } = await withShop();
    const before = await contents(catalog);
    expect((await run('group disable shop --dry-run')).out).toBe(
      'Group shop would be disabled; its 0 points, its seed disks and its logs are given up for deletion.\n',
    );
    expect(JSON.parse((await run('group disable shop --dry-run --json')).out)).toMatchObject({
      dryRun: true,
      keepPoints: false,
      points: 0,
      group: 'shop',
      wanted: 'disabled',
    });
    expect(await contents(catalog)).toEqual(before);
  });

  it('is refused while a point is pinned', async () => {
    const { run, catalog } = await withShop();
    const pin = { group: 'shop', point: 'p1', owner: 'ada', reason: 'audit', expiresAtUs: null, nowUs: NOW_US };
    await pinPoint(catalog, pin, live());
    const outcome = await run('group disable shop --yes');
    expect([outcome.exitCode, outcome.err.split('\n')[0]]).toEqual([
      1,
      'error[GROUP_PINNED]: group shop has pinned points: p1 by ada: audit',
    ]);
    expect(await stateOf(catalog)).toEqual(['active', undefined]);
  });
});
