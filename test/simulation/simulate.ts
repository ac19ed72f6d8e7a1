/** One simulated life of a group, from a seed alone: log, segments, faults, crashes, owners and the order of all calls. */
import PQueue from 'p-queue';
import { crc32 } from 'node:zlib';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { TidemarkError } from '../../src/errors.ts';
import { MIB } from '../../src/model/sizes.ts';
import { HOUR_US } from '../../src/model/time.ts';
import { MINUTE_MS, SECOND_MS } from './durations.ts';
import type { WorkerPorts } from '../../src/worker/ports.ts';
import { Worker, type GroupOutcome } from '../../src/worker/worker.ts';
import { DISK_BYTES, ModelShipper, START_US } from '../support/model-log.ts';
import { interceptPorts } from './gated-ports.ts';
import { judge } from './judge.ts';
import { Network, NO_FAULTS, type FaultRates, type Process } from './network.ts';
import { Random } from './random.ts';
import { Scheduler, virtualClock } from './scheduler.ts';
import { seededLog } from './seeded-log.ts';
import { GROUP, SeededWorld } from './seeded-world.ts';

export interface SimulateOptions {
  /** Told of every call and every thing that happens. */
  readonly trace?: (line: string) => void;
}

export interface Simulated {
  readonly seed: number;
  readonly points: number;
  readonly pruned: number;
  readonly steps: number;
  readonly virtualMs: number;
  /** How often each fault and each thing of the outside world happened. */
  readonly happened: ReadonlyMap<string, number>;
  /** Follows from every call and its time: equal for equal seeds. */
  readonly fingerprint: number;
}

/** @throws Error whose message names the seed and how to replay it, when anything is wrong */
export async function simulate(seed: number, options: SimulateOptions = {}): Promise<Simulated> {
  try {
    return await new Simulation(seed, options).run();
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`seed ${seed}: ${what}\nreplay it alone: npm run soak -- --seed ${seed}`, { cause: error });
  }
}

interface SeededPolicy {
  readonly retentionHours: number;
  readonly appConsistentHours: number;
  readonly logRetentionHours: number;
}

function seededPolicy(random: Random): SeededPolicy {
  const appConsistentHours = random.chance(0.5) ? 1 : 0;
  const retentionHours = random.pick(appConsistentHours > 0 ? [2, 360] : [0, 1, 2, 360]);
  return { retentionHours, appConsistentHours, logRetentionHours: random.pick([0, 0, 1]) };
}

/** Calm lives, lives with a few faults of each sort, and lives full of one sort. */
function seededRates(random: Random): FaultRates {
  const rate = (usual: number): number =>
    random.weighted([
      [3, 0],
      [4, usual],
      [1, usual * 5],
    ] as const);
  return {
    unavailable: rate(0.01),
    lostAnswer: rate(0.01),
    late: rate(0.01),
    slow: rate(0.01),
    listLag: rate(0.1),
    crash: rate(0.004),
    topic: rate(0.1),
  };
}

interface Running extends Process {
  readonly stop: AbortController;
  isDone: boolean;
}

/** Far above what any life needs: more is a worker that does not come to rest. */
const MAX_STEPS = 60_000;
const PROCESSES_AT_ONCE = 2;
/** Far longer than anything is kept for a point that is being built, whatever the clock has jumped. */
const BUILDS_ARE_OVER_US = 10_000 * HOUR_US;

class Simulation {
  readonly #seed: number;
  readonly #random: Random;
  readonly #chance: Random;
  readonly #scheduler = new Scheduler();
  readonly #world: SeededWorld;
  readonly #network: Network;
  readonly #happened = new Map<string, number>();
  readonly #trace: (line: string) => void;
  readonly #shippers: readonly ModelShipper[];
  readonly #shipped: number[];
  readonly #signal = new AbortController().signal;
  #policy: SeededPolicy;
  #rates: FaultRates;
  #processes: Running[] = [];
  #started = 0;
  #clockOffsetUs = START_US;
  #fingerprint = 0;
  #violation: unknown;

  constructor(seed: number, { trace }: SimulateOptions) {
    this.#seed = seed;
    this.#random = new Random(seed);
    this.#chance = this.#random.fork();
    this.#policy = seededPolicy(this.#random);
    this.#rates = seededRates(this.#random);
    const log = seededLog(this.#random.fork(), this.#policy.appConsistentHours > 0);
    this.#world = new SeededWorld(log, this.#policy.logRetentionHours, () => new Date(this.#scheduler.nowMs));
    this.#shippers = log.lanes.map(
      (_, lane) => new ModelShipper(this.#world.stream(lane), this.#world.storage.logUpload),
    );
    this.#shipped = log.lanes.map(() => 0);
    this.#trace = (line) => {
      const text = `${this.#scheduler.nowMs} ${line}`;
      this.#fingerprint = crc32(text, this.#fingerprint);
      trace?.(text);
    };
    this.#network = new Network({
      scheduler: this.#scheduler,
      random: this.#random.fork(),
      rates: () => this.#rates,
      trace: this.#trace,
      landed: async (call, result) => {
        try {
          await this.#world.landed(call, result);
        } catch (error) {
          this.#violation ??= error;
          throw error;
        }
      },
    });
  }

  async run(): Promise<Simulated> {
    await this.#protect();
    await this.#live();
    await this.#comeToRest();
    const { kept } = await judge(this.#world, this.#policy);
    return {
      seed: this.#seed,
      points: this.#world.expected.length,
      pruned: this.#world.expected.length - kept,
      steps: this.#scheduler.steps,
      virtualMs: this.#scheduler.nowMs,
      happened: new Map([...this.#happened, ...this.#network.fates]),
      fingerprint: this.#fingerprint,
    };
  }

  async #protect(): Promise<void> {
    const { catalog } = this.#world.storage;
    await setPolicy(catalog, 'p', this.#policy, this.#signal);
    const { lanes } = this.#world.log;
    const machines = [...new Set(lanes.map(({ machine }) => machine))].map((machine) => ({
      machine,
      disks: lanes.filter((lane) => lane.machine === machine).map(({ disk }) => ({ disk, sizeBytes: DISK_BYTES })),
    }));
    await protectGroup(catalog, { group: GROUP, policy: 'p', machines, nowUs: START_US }, this.#signal);
  }

  /** Things happen until all of the log is shipped and a few more have happened. */
  async #live(): Promise<void> {
    let left = this.#chance.int(5, 20);
    const busyMs = this.#chance.pick([50, 500, 5 * SECOND_MS, 60 * SECOND_MS]);
    const next = (): void => {
      if (!this.#isShipped || --left > 0) this.#scheduler.after(this.#chance.int(1, busyMs), happen);
    };
    let isHappening = false;
    const happen = (): void => {
      isHappening = true;
      void this.#happen().then(
        () => (isHappening = false),
        (error: unknown) => (this.#violation ??= error),
      );
      next();
    };
    next();
    await this.#scheduler.runUntil(
      () => this.#violation !== undefined || (this.#isShipped && left <= 0 && !isHappening),
      MAX_STEPS,
    );
    this.#throwIfViolated();
  }

  get #isShipped(): boolean {
    return this.#shipped.every((count, lane) => count === this.#world.log.lanes[lane]?.segments.length);
  }

  async #happen(): Promise<void> {
    const what = this.#chance.weighted([
      [12, 'ship'],
      [8, 'start'],
      [1.5, 'kill'],
      [1.5, 'stop'],
      [1, 'steal'],
      [1, 'clock-jump'],
      [0.5, 'policy'],
      [1.5, 'latest'],
      [1, 'at'],
    ] as const);
    this.#happened.set(what, (this.#happened.get(what) ?? 0) + 1);
    this.#trace(`-- ${what}`);
    switch (what) {
      case 'ship':
        return this.#ship();
      case 'start':
        return this.#start();
      case 'kill':
        for (const process of this.#alive().slice(0, 1)) process.isAlive = false;
        return;
      case 'stop':
        for (const process of this.#alive().slice(0, 1)) process.stop.abort();
        return;
      case 'steal':
        return this.#steal();
      case 'clock-jump':
        this.#clockOffsetUs += this.#chance.int(-300, 300) * MINUTE_MS * 1000;
        return;
      case 'policy':
        return this.#changePolicy();
      case 'latest':
        return this.#ask('latest');
      case 'at':
        return this.#ask(this.#moment());
    }
  }

  #alive(): Running[] {
    this.#processes = this.#processes.filter(({ isAlive, isDone }) => isAlive && !isDone);
    return this.#processes;
  }

  /** The next few segments of some disk. */
  async #ship(): Promise<void> {
    const open = [...this.#shipped.keys()].filter(
      (lane) => (this.#shipped[lane] ?? 0) < (this.#world.log.lanes[lane]?.segments.length ?? 0),
    );
    if (open.length === 0) return;
    const lane = this.#chance.pick(open);
    for (let count = this.#chance.int(1, 6); count > 0; count--) {
      const segment = this.#world.log.lanes[lane]?.segments[this.#shipped[lane] ?? 0];
      if (segment === undefined) return;
      await this.#shippers[lane]?.ship(segment.entries, segment.endUs, this.#signal);
      this.#world.shippedUs[lane] = segment.endUs;
      this.#shipped[lane] = (this.#shipped[lane] ?? 0) + 1;
    }
  }

  /** A second worker may start while the first is in the middle of a cycle. */
  #start(): void {
    if (this.#alive().length >= PROCESSES_AT_ONCE) return;
    const process = this.#newProcess();
    const worker = this.#worker(process, []);
    const work = this.#chance.chance(0.5) ? worker.run(process.stop.signal) : worker.runOnce(process.stop.signal);
    work.then(
      () => (process.isDone = true),
      (error: unknown) => (this.#violation ??= error),
    );
  }

  #newProcess(): Running {
    const name = `w${++this.#started}`;
    const process: Running = { name, isAlive: true, isDone: false, stop: new AbortController() };
    this.#processes.push(process);
    return process;
  }

  /** Somebody asks for a point, beside a worker or after it. */
  #ask(at: 'latest' | number): void {
    if (this.#alive().length >= PROCESSES_AT_ONCE) return;
    const process = this.#newProcess();
    const refused = (error: unknown): void => {
      process.isDone = true;
      const isUsual = error instanceof TidemarkError && (error.class === 'retry' || error.code === 'POINT_UNREACHABLE');
      if (!isUsual && !process.stop.signal.aborted) this.#violation ??= error;
      this.#trace(`-- ${process.name} ${error instanceof Error ? error.message : 'failed'}`);
    };
    const made = async (): Promise<void> => {
      const { created } = await this.#worker(process, []).createPoint(GROUP, at, process.stop.signal);
      process.isDone = true;
      const what = created ? `${at === 'latest' ? at : 'at'}-made` : 'there-already';
      this.#happened.set(what, (this.#happened.get(what) ?? 0) + 1);
    };
    made().catch(refused);
  }

  /** Of a record of the log, or one microsecond beside it. */
  #moment(): number {
    const { entries } = this.#chance.pick(this.#world.log.lanes);
    const timeUs = entries.length === 0 ? START_US : this.#chance.pick(entries).record.timeUs;
    return timeUs + this.#chance.int(-1, 1);
  }

  #worker(process: Process, outcomes: GroupOutcome[]): Worker {
    const { logStore, seeds, copies, catalog } = this.#world.storage;
    const clock = virtualClock(
      this.#scheduler,
      () => this.#clockOffsetUs,
      () => process.isAlive,
    );
    const ports: WorkerPorts = { logStore, seeds, copies, catalog, topic: this.#world.topic, clock };
    return new Worker({
      ports: interceptPorts(ports, this.#network.around(process)),
      settings: {
        payloadBudgetBytes: this.#chance.pick([16 * 1024, 64 * MIB]),
        requestsPerDisk: this.#chance.int(1, 4),
        account: new PQueue({ concurrency: this.#chance.int(1, 8) }),
        rate: undefined,
        key: undefined,
      },
      groups: [GROUP],
      report: (outcome) => {
        outcomes.push(outcome);
        const { error } = outcome;
        if (error instanceof Error && 'class' in error && error.class !== 'retry') this.#violation ??= error;
        if (!(error instanceof Error && 'class' in error)) this.#violation ??= error;
        this.#trace(`-- ${process.name} ${error instanceof Error ? error.message : 'needs attention'}`);
      },
    });
  }

  /** Somebody takes a lease away and does nothing with it. */
  async #steal(): Promise<void> {
    const { catalog, seeds } = this.#world.storage;
    if (this.#chance.chance(0.5)) {
      if ((await catalog.read(`progress/${GROUP}.json`, this.#signal)) === undefined) return;
      await catalog.takeLease(`progress/${GROUP}.json`, this.#signal);
      return;
    }
    const keys = await seeds.list(GROUP, this.#signal);
    if (keys.length === 0) return;
    const key = this.#chance.pick(keys);
    await seeds
      .remove(key, () => Promise.reject(new Stolen()), this.#signal)
      .catch((error: unknown) => {
        if (!(error instanceof Stolen)) throw error;
      });
  }

  /** Only what leaves the expected result well defined: a shorter retention removes what a longer one did, and more. */
  async #changePolicy(): Promise<void> {
    const { retentionHours, appConsistentHours } = this.#policy;
    const shorter = (appConsistentHours > 0 ? [2, 360] : [0, 1, 2, 360]).filter((hours) => hours <= retentionHours);
    this.#policy = {
      appConsistentHours,
      retentionHours: this.#chance.pick(shorter),
      logRetentionHours: this.#chance.pick([0, 1]),
    };
    this.#world.logRetentionHours = Math.min(this.#world.logRetentionHours, this.#policy.logRetentionHours);
    await setPolicy(this.#world.storage.catalog, 'p', this.#policy, this.#signal);
  }

  /** The faults end, whoever is left stops or dies, what is under way arrives; then healthy workers do what is due. */
  async #comeToRest(): Promise<void> {
    this.#rates = NO_FAULTS;
    for (const process of this.#alive()) {
      if (this.#chance.chance(0.5)) process.isAlive = false;
      else process.stop.abort();
    }
    await this.#scheduler.runUntil(() => this.#violation !== undefined || this.#scheduler.waiting === 0, MAX_STEPS);
    this.#throwIfViolated();
    const hung = this.#alive();
    if (hung.length > 0) throw new Error(`${hung[0]?.name} was told to stop, and did not`);
    this.#clockOffsetUs += BUILDS_ARE_OVER_US;
    // The first one repairs and goes on; the second one finds what the first one should have left alone.
    for (const name of ['healthy', 'again']) {
      this.#trace(`-- ${name}`);
      const process = { name, isAlive: true };
      const outcomes: GroupOutcome[] = [];
      let isDone = false;
      const work = this.#worker(process, outcomes)
        .runOnce(this.#signal)
        .then(() => (isDone = true));
      await this.#scheduler.runUntil(() => isDone || this.#violation !== undefined, MAX_STEPS);
      this.#throwIfViolated();
      await work;
      const [outcome] = outcomes;
      if (outcome !== undefined) throw outcome.error ?? new Error('the group needs a resync');
      await this.#scheduler.runUntil(() => this.#scheduler.waiting === 0, MAX_STEPS);
    }
  }

  #throwIfViolated(): void {
    if (this.#violation !== undefined) throw this.#violation;
  }
}

class Stolen extends Error {
  override readonly name = 'Stolen';
}
