/**
 * A long run of the simulation: `npm run soak -- --seeds N [--from S]`, or one seed with every call: `npm run soak -- --seed S --trace`.
 * `--until-failure` ends at the first seed that fails.
 */
import { parseArgs } from 'node:util';
import { simulate } from './simulate.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    'until-failure': { type: 'boolean', default: false },
  },
});

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const first = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
const PROGRESS_EVERY_MS = 2000;

let points = 0;
let failed = 0;
let printedMs = 0;
const happened = new Map<string, number>();
const startMs = performance.now();
for (let seed = first; seed < first + count && !(values['until-failure'] && failed > 0); seed++) {
  try {
    const result = await simulate(seed, values.trace ? { trace: print } : {});
    points += result.points;
    for (const [what, times] of result.happened) happened.set(what, (happened.get(what) ?? 0) + times);
    if (count === 1) print(JSON.stringify({ ...result, happened: Object.fromEntries(result.happened) }));
  } catch (error) {
    failed++;
    print(
      count === 1 && error instanceof Error
        ? String(error.stack) + '\n' + String((error.cause as Error)?.stack)
        : String(error),
    );
  }
  const elapsedMs = performance.now() - startMs;
  if (elapsedMs - printedMs > PROGRESS_EVERY_MS || seed === first + count - 1) {
    printedMs = elapsedMs;
    const done = seed - first + 1;
    print(`${done}/${count} seeds, ${points} points, ${failed} failed, ${(elapsedMs / done).toFixed(1)} ms per seed`);
  }
}
print(
  [...happened]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([what, times]) => `${what} ${times}`)
    .join(', '),
);
process.exitCode = failed > 0 ? 1 : 0;
