/**
 * Writes the golden plans that do not exist yet: `npx node test/retention/write-golden.ts`. An existing file is never touched; to change
 * one, delete it by hand and read the new one line by line.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { GOLDEN_DAYS, goldenFile, goldenPlan } from './simulation.ts';

for (const days of GOLDEN_DAYS) {
  const file = goldenFile(days);
  if (!existsSync(file)) writeFileSync(file, `${JSON.stringify(goldenPlan(days), undefined, 2)}\n`, { flag: 'wx' });
}
