import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { METRICS } from '../../src/telemetry/metrics.ts';

const page = readFileSync(new URL('../../docs/observability.md', import.meta.url), 'utf8');
const rows = [...page.matchAll(/^\| `(tidemark\.[a-z.]+)` \| (\w+) \| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$/gm)];

describe('docs/observability.md', () => {
  it('lists every metric as it is, in the same order', () => {
    const documented = rows.map(([, name, kind, unit, attributes = '', description]) => ({
      name,
      kind,
      unit,
      attributes: [...attributes.matchAll(/`([a-z]+)`/g)].map(([, attribute]) => attribute),
      description,
    }));
    const defined = Object.entries(METRICS).map(([name, { kind, ...rest }]) => ({
      name,
      ...rest,
      kind: kind === 'observed-counter' ? 'counter' : kind,
    }));
    expect(documented).toEqual(defined);
  });

  it('lists every span', () => {
    const sources = ['traced-commands', 'traced-ports', 'worker-observer'].map((file) =>
      readFileSync(new URL(`../../src/telemetry/${file}.ts`, import.meta.url), 'utf8'),
    );
    const made = new Set(
      [...sources.join('').matchAll(/'(tidemark\.(?:group|job|point|snapshot)(?:\.[a-z]+)*)'/g)].map(
        ([, name]) => name,
      ),
    );
    for (const name of Object.keys(METRICS)) made.delete(name);
    const listed = [
      ...(page.split('\n## Spans\n')[1]?.split('\n## ')[0] ?? '').matchAll(/^\| `(tidemark\.[a-z.]+)` \|/gm),
    ];
    expect(new Set(listed.map(([, name]) => name))).toEqual(made);
  });
});
