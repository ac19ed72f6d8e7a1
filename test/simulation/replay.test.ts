import { expect, it } from 'vitest';
import { simulate } from './simulate.ts';

it('the same seed gives the same calls in the same order, whatever ran before it', async () => {
  const seeds = [3, 17, 42, 99, 123];
  const forwards = new Map<number, string[]>();
  for (const seed of seeds) {
    const lines: string[] = [];
    await simulate(seed, { trace: (line) => lines.push(line) });
    forwards.set(seed, lines);
  }
  for (const seed of seeds.toReversed()) {
    const lines: string[] = [];
    const { fingerprint } = await simulate(seed, { trace: (line) => lines.push(line) });
    expect(lines).toEqual(forwards.get(seed));
    expect(lines.length).toBeGreaterThan(50);
    expect((await simulate(seed)).fingerprint).toBe(fingerprint);
  }
  expect(new Set([...forwards.values()].map((lines) => lines.join('\n'))).size).toBe(seeds.length);
});
