/**
 * A long run of the fuzzers: `npm run fuzz -- --mutants 100000`. Every seed is one mutant; what is found is printed with its seed, and
 * `npm run fuzz -- --level codec --seed 4711` replays that one alone. Exits 1 when something was found.
 */
import { inspect, parseArgs } from 'node:util';
import { judgeCodec } from './judge-codec.ts';
import { judgeWorker } from './judge-worker.ts';
import { codecMutant } from './mutant.ts';

/** Of every so many mutants one is a whole log in front of a worker, which takes about fifty times as long. */
const CODEC_PER_WORKER = 50;
const PROGRESS_EVERY = 10_000;

type Level = 'codec' | 'worker';
const levels: Readonly<Record<Level, (seed: number) => Promise<string>>> = {
  codec: async (seed) => (await judgeCodec(codecMutant(seed))) ?? 'sound',
  worker: async (seed) => {
    const { end, code } = await judgeWorker(seed);
    return code ?? end;
  },
};

const { values } = parseArgs({
  options: {
    mutants: { type: 'string', default: '100000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    level: { type: 'string', default: 'both' },
  },
});
const single = values.seed === undefined ? undefined : Number(values.seed);
const first = single ?? Number(values.from);
const last = single ?? first + Number(values.mutants) - 1;
if (
  !Number.isSafeInteger(first) ||
  !Number.isSafeInteger(last) ||
  !['codec', 'worker', 'both'].includes(values.level)
) {
  process.stderr.write(
    'usage: npm run fuzz -- [--mutants N] [--from SEED] [--level codec|worker|both] [--seed SEED]\n',
  );
  process.exit(2);
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const outcomes = new Map<string, number>();
const longestMs = { codec: 0, worker: 0 };
let findings = 0;

async function judge(level: Level, seed: number): Promise<void> {
  const beganMs = performance.now();
  try {
    const outcome = `${level} ${await levels[level](seed)}`;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    if (single !== undefined) say(`seed ${seed}: ${outcome}`);
  } catch (error) {
    findings++;
    say(`FOUND at level ${level}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    if (error instanceof Error && error.cause !== undefined) say(`  caused by ${inspect(error.cause)}`);
  }
  longestMs[level] = Math.max(longestMs[level], performance.now() - beganMs);
}

say(`fuzzing with seeds ${first} to ${last}, level ${values.level}`);
for (let seed = first; seed <= last; seed++) {
  if (values.level !== 'worker') await judge('codec', seed);
  const isDue = values.level === 'worker' || single !== undefined || seed % CODEC_PER_WORKER === 0;
  if (values.level !== 'codec' && isDue) await judge('worker', seed);
  if ((seed - first + 1) % PROGRESS_EVERY === 0) say(`${seed - first + 1} seeds, ${findings} findings`);
}
for (const [outcome, count] of [...outcomes].toSorted((a, b) => b[1] - a[1]))
  say(`${String(count).padStart(8)}  ${outcome}`);
const peakMib = Math.round(process.resourceUsage().maxRSS / 1024);
say(
  `longest: codec ${Math.round(longestMs.codec)} ms, worker ${Math.round(longestMs.worker)} ms; peak memory ${peakMib} MiB`,
);
say(`${findings} findings`);
process.exitCode = findings === 0 ? 0 : 1;
