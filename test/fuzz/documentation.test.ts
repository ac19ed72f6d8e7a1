import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ERROR_CATALOGUE } from '../../src/errors.ts';

const root = new URL('../../', import.meta.url);
const page = readFileSync(new URL('docs/bad-input.md', root), 'utf8');
const fixtures = readdirSync(new URL('test/fixtures/log/bad/', root)).map((file) => file.replace(/\.seg$/, ''));
const quoted = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text);

const rows = [...page.matchAll(/^\| `(LOG_[A-Z_]+)` \| (.+) \|$/gm)].map(([, code = '', cells = '']) => {
  const [defect = '', where = '', end = '', examples = ''] = cells.split(' | ');
  return { code, defect, where: quoted(where), end, examples: quoted(examples) };
});
const codes = Object.entries(ERROR_CATALOGUE).filter(([code]) => code.startsWith('LOG_'));

describe('docs/bad-input.md', () => {
  it('has one row for every code of the log', () => {
    expect(rows.map(({ code }) => code).toSorted()).toEqual(codes.map(([code]) => code).toSorted());
  });

  it.each(codes)('says of %s what it is, what happens, and where it is checked', (code, { class: kind }) => {
    const row = rows.find((candidate) => candidate.code === code);
    expect(row?.end).toBe(kind);
    expect(row?.defect.length).toBeGreaterThan(10);
    expect(row?.where).not.toEqual([]);
    for (const file of row?.where ?? []) {
      expect(readFileSync(new URL(file, root), 'utf8'), file).toContain(`'${code}'`);
    }
  });

  it('names every file that throws a code of the log', () => {
    const folders = ['src/log', 'src/drain', 'src/azure', 'src/worker', 'src/source', 'src/points', 'src/apply'];
    const files = folders.flatMap((folder) =>
      readdirSync(new URL(`${folder}/`, root)).map((file) => `${folder}/${file}`),
    );
    const thrown = files.flatMap((file) => {
      const text = readFileSync(new URL(file, root), 'utf8').replaceAll(/^\s*(?:\*|\/\/|\/\*\*).*$/gm, '');
      return [...new Set([...text.matchAll(/'(LOG_[A-Z_]+)'/g)].map(([, code]) => `${file} ${code}`))];
    });
    const named = rows.flatMap(({ code, where }) => where.map((file) => `${file} ${code}`));
    expect(thrown.toSorted()).toEqual(named.toSorted());
  });

  it('names every fixture with its code, and none that is not there', () => {
    expect(rows.flatMap(({ examples }) => examples).toSorted()).toEqual(fixtures.toSorted());
    for (const { code, examples } of rows) {
      for (const name of examples) expect(name.split('-')[0]).toBe(code);
    }
  });

  it('names tests that exist', () => {
    const tests = quoted(page).filter((text) => text.endsWith('.test.ts'));
    expect(tests.length).toBeGreaterThan(2);
    for (const test of tests) expect(existsSync(new URL(test, root)), test).toBe(true);
  });
});
