import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ERROR_CATALOGUE, type ErrorCode } from '../../src/errors.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const page = read('docs/errors.md');

interface Row {
  readonly heading: string;
  readonly code: string;
  readonly class: string;
  readonly when: string;
  readonly todo: string;
}

const rows: readonly Row[] = page
  .split('\n## ')
  .slice(1)
  .flatMap((section) => {
    const heading = section.slice(0, section.indexOf('\n'));
    return [...section.matchAll(/^\| `([A-Z_]+)` \| (.+) \|$/gm)].map(([, code = '', cells = '']) => {
      const [kind = '', when = '', ...todo] = cells.split(' | ');
      return { heading, code, class: kind, when, todo: todo.join(' | ') };
    });
  });

/** `heading/CODE` in the order of the source, whose comments are the headings. */
function sourceOrder(): readonly string[] {
  let heading = '';
  const codes: string[] = [];
  for (const [, comment, code] of read('src/errors.ts').matchAll(/^ {2}(?:\/\/ (.+)|([A-Z_]+): \{.*)$/gm)) {
    if (comment !== undefined) heading = comment;
    else codes.push(`${heading}/${code}`);
  }
  return codes;
}

describe('docs/errors.md', () => {
  it('lists exactly the codes of the catalogue, under its headings and in its order', () => {
    const order = sourceOrder();
    expect(order.map((entry) => entry.split('/').at(-1))).toEqual(Object.keys(ERROR_CATALOGUE));
    expect(rows.map(({ heading, code }) => `${heading}/${code}`)).toEqual(order);
  });

  it.each(Object.keys(ERROR_CATALOGUE))('has the class and the hint of %s, and says when it happens', (code) => {
    const [row, ...more] = rows.filter((candidate) => candidate.code === code);
    expect(more).toEqual([]);
    const { class: kind, hint } = ERROR_CATALOGUE[code as ErrorCode];
    expect(row).toMatchObject({ class: kind, todo: hint });
    expect(row?.when.length).toBeGreaterThan(10);
  });

  it('explains exactly the classes that there are', () => {
    const explained = [...(page.split('\n## ')[0] ?? '').matchAll(/^\| (\w+) \|/gm)].map(([, name]) => name);
    const used = new Set(Object.values(ERROR_CATALOGUE).map(({ class: kind }) => kind));
    expect(new Set(explained.filter((name) => name !== 'class'))).toEqual(used);
  });
});
