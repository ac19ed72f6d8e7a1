import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createContext } from '../../src/cli/context.ts';
import { runCommand } from '../../src/cli/main.ts';
import { confirm, describeError, printJson, stageProgress, table } from '../../src/cli/output.ts';
import { reportError } from '../../src/cli/report.ts';
import type { Environment } from '../../src/config.ts';
import { TidemarkError } from '../../src/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'tidemark-frame-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A world whose output can be read. */
function makeWorld(env: Environment = {}, signal: AbortSignal = new AbortController().signal) {
  const written = { stdout: '', stderr: '' };
  const context = createContext({
    env: { TIDEMARK_HOME: folder, ...env },
    stdout: { write: (text) => void (written.stdout += text) },
    stderr: { write: (text) => void (written.stderr += text) },
    isTerminal: false,
    signal,
  });
  return { context, written };
}

async function run(...argv: string[]) {
  const { context, written } = makeWorld();
  return { code: await runCommand(argv, context), ...written };
}

describe('exit codes and errors', () => {
  it('ends with 1, the code and a hint when a command fails', async () => {
    expect(await run('local', 'env')).toEqual({
      code: 1,
      stdout: '',
      stderr: `error[LOCAL_NOT_RUNNING]: no local stack runs in ${folder}\nhint: start the local stack with \`tidemark local up --detach\`\n`,
    });
  });

  it.each([
    [['local', 'up', '--nope'], "unknown option '--nope'"],
    [['nope'], "unknown command 'nope'"],
    [['local', 'env', 'extra'], 'too many arguments'],
    [['local', 'env', '--env'], "option '--env <file>' argument missing"],
    [['local', 'env', '--env', '/nowhere/x'], '--env: cannot read /nowhere/x'],
  ])('ends with 2 for %j', async (argv, message) => {
    const { code, stdout, stderr } = await run(...argv);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^error\[USAGE\]: .*\nhint: .*\n$/);
    expect(stderr).toContain(message);
  });

  it('helps on stdout when asked, and on stderr when a command is missing', async () => {
    expect(await run('local', 'up', '--help')).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining('--json'),
    });
    expect(await run('local')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('Usage: tidemark local'),
    });
  });

  it('shows where an error came from only when asked', () => {
    const error = new Error('boom', { cause: new Error('deeper') });
    const quiet = makeWorld();
    expect(reportError(error, quiet.context)).toBe(1);
    expect(quiet.written.stderr).toMatch(/^error\[UNEXPECTED\]: Error: boom\nhint: .*\n$/);
    const loud = makeWorld({ TIDEMARK_DEBUG: '1' });
    reportError(error, loud.context);
    expect(loud.written.stderr).toContain('caused by: Error: deeper');
    expect([describeError(error), describeError(new TidemarkError('CONFLICT', 'x'))]).toEqual([
      'UNEXPECTED: boom',
      'CONFLICT: x',
    ]);
  });

  it('tells an interruption from a failure', () => {
    const controller = new AbortController();
    controller.abort(new TidemarkError('INTERRUPTED', 'stopped by SIGINT'));
    const { context, written } = makeWorld({}, controller.signal);
    const aborted = new DOMException('This operation was aborted', 'AbortError');
    expect([aborted, controller.signal.reason, new Error('x')].map((error) => reportError(error, context))).toEqual([
      'interrupted',
      'interrupted',
      1,
    ]);
    expect(written.stderr).toMatch(/^error\[INTERRUPTED\]: stopped by SIGINT\n/);
  });
});

describe('global options', () => {
  it.each([
    ['--json', 'local', 'down'],
    ['local', '--json', 'down'],
    ['local', 'down', '--json'],
  ])('%s %s %s prints one JSON document', async (...argv) => {
    const { code, stdout } = await run(...argv);
    expect([code, stdout]).toEqual([0, `{"home":"${folder}","status":"not-running"}\n`]);
  });

  it('reads --env, but the environment wins', () => {
    const file = join(folder, 'settings');
    const settings = ['# a comment', "export A='from file'", 'B="two words" # more', 'C=plain', ''];
    writeFileSync(file, settings.join('\n'));
    const { context } = makeWorld({ C: 'from environment' });
    context.applyGlobals({ env: file, json: true });
    expect(context.env).toEqual({ TIDEMARK_HOME: folder, A: 'from file', B: 'two words', C: 'from environment' });
    expect(context.json).toBe(true);
  });
});

describe('output', () => {
  it('prints tables without lines and colours', () => {
    const rows = [
      ['web', 3],
      ['database', 12],
    ];
    expect(table(['group', 'points'], rows)).toBe('group     points\nweb       3\ndatabase  12');
    expect(table(['group', 'points'], [])).toBe('group  points');
  });

  it('prints JSON on one line', () => {
    const { context, written } = makeWorld();
    printJson(context, { a: [1, 'x\n'] });
    expect(written).toEqual({ stdout: '{"a":[1,"x\\n"]}\n', stderr: '' });
  });

  it('shows progress as lines where there is no terminal', () => {
    const { context, written } = makeWorld();
    const progress = stageProgress(context);
    for (let done = 0; done <= 1000; done++) progress.update('base copy', done, 1000, done === 1000 ? '28 MiB' : '');
    progress.update('empty', 0, 0);
    progress.stop();
    const lines = written.stderr.split('\n');
    expect(lines).toHaveLength(13);
    expect([lines[0], lines[5], lines[10], lines[11]]).toEqual([
      'base copy: 0%',
      'base copy: 50%',
      'base copy: 100%  28 MiB',
      'empty: 100%',
    ]);
  });

  it('asks before it destroys', async () => {
    const { context } = makeWorld();
    await expect(confirm(context, 'Delete 3 points?', {})).rejects.toMatchObject({ code: 'CONFIRMATION_REQUIRED' });
    await expect(confirm(context, 'Delete 3 points?', { yes: true })).resolves.toBeUndefined();
    const asked: string[] = [];
    const ask = (answer: string) => (question: string) => (asked.push(question), Promise.resolve(answer));
    await expect(confirm({ ask: ask('y') }, 'Sure?', {})).resolves.toBeUndefined();
    await expect(confirm({ ask: ask('') }, 'Sure?', {})).rejects.toMatchObject({ code: 'CONFIRMATION_REQUIRED' });
    expect(asked).toEqual(['Sure? [y/N] ', 'Sure? [y/N] ']);
  });
});
