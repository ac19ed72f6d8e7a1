/** What goes wrong at the command line: exit codes, and the two lines that say what happened and what to do. */
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { Operator } from '../support/cli.ts';
import { useStack } from '../support/stack.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { tracePath } from '../support/trace-oracle.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
let point = '';
let dir = '';

beforeAll(async () => {
  dir = await writeSyntheticTrace(join(stack.home, 'trace'));
  await symlink('/dev/null', join(stack.home, 'null'));
  await operator.ok('policy', 'set', 'p');
  const disks = ['--disk', 'disk0=2MiB', '--disk', 'disk1=2MiB'];
  await operator.ok('group', 'protect', 'g', '--policy', 'p', '--machine', 'web', ...disks);
  const ship = ['source', 'ship', 'g', '--trace', dir, '--start', '2026-11-20T04:00:00Z', '--stretch', '8'];
  await operator.ok(...ship);
  await operator.ok('worker', 'run', '--once');
  point = (await operator.json<{ id: string }[]>('point', 'list', 'g'))[0]?.id ?? '';
  expect(point).toBe('20261120T040000.000000Z-crash');
}, 60_000);

/** `POINT`, `TRACE` and `HOME` stand for what only a running test knows. */
const words = (line: string): string[] =>
  line
    .split(' ')
    .map((word) => word.replace('POINT', point).replace('TRACE', dir).replace('HOME', stack.home))
    .filter((word) => word !== '');

const WRONG_USAGE = [
  'frobnicate',
  'point list',
  'point list g extra',
  'point list g --kind weekly',
  'point list g --colour',
  'point export g POINT --disk disk0',
  'point export g POINT --disk disk0 --out HOME/x --format qcow2',
  'point create g',
  'point create g --latest --at 2026-11-20T04:00:00Z',
  'point create g --at noon',
  'point pin g POINT',
  'point pin g POINT --reason x --for ever',
  'policy set q --retention-hours many',
  'group protect h --policy p --machine web',
  'group protect h --policy p --disk disk0=1MiB --machine web',
  'group protect h --policy p --machine web --disk disk0',
  'group protect h --policy p --machine web --disk disk0=big',
  'source ship g',
  'source ship g --trace TRACE --stretch 0',
  'source ship g --trace TRACE --stretch 1.5',
  'source ship g --trace TRACE --start yesterday',
  'source ship g --trace TRACE --until -1',
  'source ship g --trace TRACE --disk disk0',
  'monitor tail --no-follow --limit none',
  'monitor tail --no-follow --since noon',
  '--env HOME/none policy list',
] as const;

it.each(WRONG_USAGE)('exits with 2 for `%s`', async (line) => {
  const { exitCode, stdout, stderr } = await operator.run(...words(line));
  expect(stderr).toMatch(/^error\[USAGE\]: .+\nhint: .+\n$/);
  expect(exitCode).toBe(2);
  expect(stdout).toBe('');
});

const FAILURES = [
  ['GROUP_NOT_FOUND', 'status none'],
  ['GROUP_NOT_FOUND', 'point list none'],
  ['GROUP_NOT_FOUND', 'group show none'],
  ['GROUP_NOT_FOUND', 'group pause none'],
  ['GROUP_NOT_FOUND', 'prune none --dry-run'],
  ['GROUP_NOT_FOUND', 'source ship none --trace TRACE'],
  ['NAME_INVALID', 'point list ../g'],
  ['NAME_INVALID', 'group protect h/i --policy p --machine web --disk disk0=1MiB'],
  ['POINT_NOT_FOUND', 'point show g none'],
  ['POINT_NOT_FOUND', 'point export g none --disk disk0 --out HOME/x'],
  ['POINT_NOT_FOUND', 'point pin g none --reason x'],
  ['DISK_NOT_FOUND', 'point export g POINT --disk disk7 --out HOME/x'],
  ['EXPORT_TARGET', 'point export g POINT --disk disk0 --out HOME/none/x'],
  ['EXPORT_TARGET', 'point export g POINT --disk disk0 --out HOME'],
  ['EXPORT_TARGET', 'point export g POINT --disk disk0 --out HOME/null'],
  ['POLICY_NOT_FOUND', 'policy show none'],
  ['POLICY_NOT_FOUND', 'group protect h --policy none --machine web --disk disk0=1MiB'],
  ['POLICY_INVALID', 'policy set q --retention-hours 361'],
  ['POLICY_INVALID', 'policy set q --retention-hours 3 --app-consistent-hours 3'],
  ['POLICY_IN_USE', 'policy delete p'],
  ['GROUP_EXISTS', 'group protect g --policy p --machine web --disk disk0=1MiB'],
  ['GROUP_INVALID', 'group protect h --policy p --machine web --disk disk0=1000000'],
  ['CONFIRMATION_REQUIRED', 'group disable g'],
  ['TRACE_NOT_FOUND', 'source ship g --trace HOME/none'],
  ['SOURCE_MISMATCH', 'source ship g --trace TRACE --start 2026-11-20T04:00:01Z --stretch 8'],
] as const;

it.each(FAILURES)('exits with 1 and %s for `%s`', async (code, line) => {
  const { exitCode, stdout, stderr } = await operator.run(...words(line));
  expect(stderr).toMatch(new RegExp(`^error\\[${code}\\]: .+\nhint: .+\n$`));
  expect(exitCode).toBe(1);
  expect(stdout).toBe('');
});

it('refuses a trace that does not fit the disk, before anything is sent', async () => {
  await operator.ok('group', 'protect', 'small', '--policy', 'p', '--machine', 'web', '--disk', 'disk0=1MiB');
  const { exitCode, stderr } = await operator.run('source', 'ship', 'small', '--trace', tracePath('t1-ext4-sqlite'));
  expect(stderr).toMatch(/^(?:.+: \d+%.*\n)*error\[TRACE_OUTSIDE_DISK\]: .+\nhint: .+\n$/);
  expect(exitCode).toBe(1);
});

it('needs to know where storage is', async () => {
  const nowhere = new Operator(() => ({ TIDEMARK_HOME: join(stack.home, 'none') }));
  expect(await nowhere.run('policy', 'list')).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/^error\[CONFIG_MISSING\]: .+\nhint: .+\n$/) as string,
  });
  const [name = ''] = Object.keys(stack.environment).filter((name) => name.endsWith('_CONNECTION_STRING'));
  expect(await operator.with({ [name]: 'nonsense' }).run('policy', 'list')).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/^error\[CONFIG_INVALID\]: .+\nhint: .+\n$/) as string,
  });
});

it('takes names of disks with their machine, and replaces an older file', async () => {
  const file = join(stack.home, 'disk.img');
  const disk = ['point', 'export', 'g', point, '--out', file, '--disk'];
  const first = await operator.json<object>(...disk, 'disk0');
  expect(await operator.json(...disk, 'web/disk0')).toEqual(first);
  expect(first).toMatchObject({ point, machine: 'web', disk: 'disk0', format: 'raw', fileBytes: 2 * 1024 * 1024 });
});

it('prints help without an error', async () => {
  const { exitCode, stdout } = await operator.run('point', 'export', '--help');
  expect(exitCode).toBe(0);
  expect(stdout).toContain('--format');
});
