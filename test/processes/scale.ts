/**
 * Many workers and many groups on the local stack: `npm run scale -- [--groups 200] [--workers 4] [--kills 6] [--idle-seconds 60]
 * [--seed N]`. While the groups' logs come in three parts, workers are killed and replaced, and one stands still for longer than its
 * locks last. Then every point is read back. At last nothing happens for a while, and what that costs is counted.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Random } from '../simulation/random.ts';
import type { Child } from './child.ts';
import { figuresOf, Fleet, type WorkerFigures } from './fleet.ts';
import { Services } from './services.ts';

const { values } = parseArgs({
  options: {
    groups: { type: 'string', default: '200' },
    workers: { type: 'string', default: '4' },
    kills: { type: 'string', default: '6' },
    'idle-seconds': { type: 'string', default: '60' },
    'cycle-seconds': { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
  },
});
const [groupCount, workerCount, kills, idleSeconds, cycleSeconds, seed] = [
  values.groups,
  values.workers,
  values.kills,
  values['idle-seconds'],
  values['cycle-seconds'],
  values.seed,
].map(Number) as [number, number, number, number, number, number];

const LIMIT_MS = 600_000;
const KILL_EVERY_MS = 8000;
/** Longer than the locks of the queue last. */
const STAND_STILL_MS = 8000;
const LOCK_DURATION = 'PT5S';

const print = (line: string): void => void process.stdout.write(`${line}\n`);

async function disturb(fleet: Fleet, workers: Child[], random: Random): Promise<void> {
  for (let kill = 0; kill < kills; kill++) {
    await pause(KILL_EVERY_MS / 2 + random.next() * KILL_EVERY_MS);
    const at = random.int(0, workers.length - 1);
    workers[at]?.kill('SIGKILL');
    workers[at] = fleet.worker();
  }
  const still = random.pick(workers);
  still.kill('SIGSTOP');
  await pause(STAND_STILL_MS);
  still.kill('SIGCONT');
}

function printCost(all: readonly WorkerFigures[], seconds: number, ticks: number): void {
  const sums: Record<string, number> = {};
  for (const { requests } of all) {
    const { storage, serviceBus, messages } = requests;
    const sections = { cache: storage.cache, replica: storage.replica, 'Service Bus': serviceBus, messages };
    for (const [section, counts] of Object.entries(sections)) {
      for (const [kind, count] of Object.entries(counts)) {
        const label = `${section}: ${kind}`;
        sums[label] = (sums[label] ?? 0) + count;
      }
    }
  }
  const perGroupHour = (count: number): string => ((count / groupCount / seconds) * 3600).toFixed(1);
  print(`idle: ${seconds.toFixed(0)} s, ${ticks} ticks of ${cycleSeconds} s; per group and hour:`);
  print(`  turns ${perGroupHour(all.reduce((sum, { turns }) => sum + turns, 0))}`);
  for (const kind of Object.keys(sums).toSorted()) print(`  ${kind} ${perGroupHour(sums[kind] ?? 0)}`);
}

const services = await Services.start({ lockDuration: LOCK_DURATION });
try {
  print(`${groupCount} groups, ${workerCount} workers, ${kills} kills, seed ${seed}`);
  const fleet = await Fleet.create(services, groupCount, seed, cycleSeconds);
  await fleet.ship();
  const scheduler = fleet.scheduler();
  const workers = Array.from({ length: workerCount }, () => fleet.worker());
  const shipping = (async () => {
    for (let part = 1; part < 3; part++) {
      await pause((kills * KILL_EVERY_MS) / 3);
      await fleet.ship();
    }
  })();
  await Promise.all([shipping, disturb(fleet, workers, new Random(seed))]);
  await fleet.untilMade(LIMIT_MS);
  const [first = 0, ...rest] = [...fleet.completedMs.values()].toSorted((a, b) => a - b);
  print(
    `all points made; groups completed from ${(first / 1000).toFixed(1)} s to ${((rest.at(-1) ?? first) / 1000).toFixed(1)} s`,
  );
  print(`${await fleet.requireAllRight()} points read back, all right`);
  const shares = await Promise.all(workers.map(figuresOf));
  print(`turns of the workers at the end: ${shares.map(({ turns }) => turns).join(', ')}`);

  const fresh = Array.from({ length: workerCount }, () => fleet.worker());
  const beganMs = performance.now();
  await pause(idleSeconds * 1000);
  const idle = await Promise.all(fresh.map(figuresOf));
  scheduler.kill('SIGTERM');
  await scheduler.ended;
  const seconds = (performance.now() - beganMs) / 1000;
  printCost(idle, seconds, Math.floor(seconds / cycleSeconds));
  await fleet.close();
} finally {
  await services.stop();
}
