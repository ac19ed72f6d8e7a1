/** What must be true of a worker that meets a damaged log, whatever the damage is. */
import { TidemarkError } from '../../src/errors.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';
import type { GroupOutcome } from '../../src/worker/worker.ts';
import { anyDamage, type Damage } from './damage.ts';
import { anyGroup, BYSTANDER, HostileWorld, MACHINE, VICTIM, type GroupLogs } from './hostile-world.ts';
import { Finding } from './judge-codec.ts';
import { appPoints, areMarksRegular, crashPoints, readLog, replay, type ReadLog } from './oracle.ts';
import { createRandom } from './random.ts';
import type { SoundLog } from './sound-logs.ts';

export interface WorkerVerdict {
  /** `sound`: the damage makes another sound log; `ahead`: no disk has come to the defect; `leap`: left out, for it makes days of points. */
  readonly end: 'resync' | 'operator' | 'sound' | 'ahead' | 'leap';
  readonly code: string | undefined;
  readonly what: readonly string[];
}

interface Place {
  readonly sequence: number;
  readonly record: number;
}

type Points = Awaited<ReturnType<HostileWorld['points']>>;

/** Source time that damage may add; a leap within the format's limit of 35 days is sound, and makes 10,000 points. */
const LONGEST_LEAP_US = 3 * 3_600_000_000;
const isForOperator = (code: string): boolean => code.startsWith('LOG_KEY_') || code === 'LOG_NOT_SEALED';

/** @throws Finding */
export async function judgeWorker(seed: number): Promise<WorkerVerdict> {
  const random = createRandom(seed);
  const isSealed = random.chance(0.2);
  const victim = anyGroup(VICTIM, random, { diskCount: random.int(1, 2), isSealed });
  const bystander = anyGroup(BYSTANDER, random, { diskCount: 1, isSealed });
  const disk = random.int(0, victim.logs.length - 1);
  const damage = anyDamage({ victim, bystander, disk }, random);
  return judgeScene(seed, { victim, bystander, disk, damage }, random.chance(0.5));
}

/** @param isLate whether the worker runs once before the damaged segment and what follows it are there. @throws Finding */
export async function judgeScene(seed: number, scene: Scene, isLate: boolean): Promise<WorkerVerdict> {
  const trial = new Trial(seed, scene);
  if (trial.leaps) return { end: 'leap', code: undefined, what: scene.damage.what };
  return trial.run(isLate);
}

export interface Scene {
  readonly victim: GroupLogs;
  readonly bystander: GroupLogs;
  readonly disk: number;
  readonly damage: Damage;
}

class Trial {
  readonly #seed: number;
  readonly #scene: Scene;
  /** The victim's logs as the reference reader sees them. */
  #logs: readonly ReadLog[];

  constructor(seed: number, scene: Scene) {
    this.#seed = seed;
    this.#scene = scene;
    this.#logs = scene.victim.logs.map((log, disk) =>
      readLog(log, disk === scene.disk ? scene.damage.blobs : blobsOf(log)),
    );
  }

  get leaps(): boolean {
    return this.#logs.some(({ watermarkUs }) => watermarkUs > this.#scene.victim.endUs + LONGEST_LEAP_US);
  }

  async run(isLate: boolean): Promise<WorkerVerdict> {
    const { victim, bystander, damage } = this.#scene;
    const world = await HostileWorld.create([victim, bystander]);
    for (const log of bystander.logs) await world.putAll(log);
    let early: Points = [];
    if (isLate) {
      await this.#put(world, (sequence) => sequence < damage.sequence);
      this.#require(
        (await world.run()).get(VICTIM)?.error === undefined,
        'the sound part of the log ends with an error',
      );
      early = await world.points(VICTIM);
    }
    await this.#put(world, (sequence) => !isLate || sequence >= damage.sequence);
    const outcomes = await world.run();
    await this.#requireBystander(world, outcomes.get(BYSTANDER));
    const points = await world.points(VICTIM);
    this.#requireKept(early, points);
    await this.#passBuried(world);
    await this.#requireSeeds(world);
    const verdict = await this.#requireVictim(world, outcomes.get(VICTIM), points);
    await this.#requireSame(world, points);
    return { ...verdict, what: damage.what };
  }

  #require(condition: boolean, what: string, cause?: unknown): asserts condition {
    if (!condition) throw new Finding(this.#seed, this.#scene.damage.what, what, cause);
  }

  async #put(world: HostileWorld, isWanted: (sequence: number) => boolean): Promise<void> {
    const { victim, disk: damaged, damage } = this.#scene;
    for (const [disk, log] of victim.logs.entries()) {
      for (const [sequence, bytes] of disk === damaged ? damage.blobs : blobsOf(log)) {
        // The whole of a sound log is there from the beginning: putting it again changes nothing.
        if (disk !== damaged || isWanted(sequence)) await world.put(log.stream, sequence, bytes);
      }
    }
  }

  async #requireBystander(world: HostileWorld, outcome: GroupOutcome | undefined): Promise<void> {
    this.#require(
      outcome !== undefined && outcome.error === undefined && !outcome.needsResync,
      'the other group ended otherwise',
      outcome?.error,
    );
    const logs = this.#scene.bystander.logs.map((log) => readLog(log, blobsOf(log)));
    this.#requirePoints(await world.points(BYSTANDER), logs, true);
  }

  #requireKept(early: Points, points: Points): void {
    for (const { point, images } of early) {
      const now = points.find((other) => other.point === point);
      this.#require(now !== undefined && sameImages(now.images, images), `point ${point} is gone or changed`);
    }
  }

  /**
   * Payload that later records of a window bury is verified and not unpacked. A writer who makes the checksums fit can thus hide
   * there what cannot be unpacked; the disk goes on, and none of it may be seen anywhere.
   */
  async #passBuried(world: HostileWorld): Promise<void> {
    const { victim, disk, damage } = this.#scene;
    const applied = (await world.progress(VICTIM)).disks[disk]?.applied;
    const log = victim.logs[disk];
    if (log === undefined || applied === undefined || applied.sequence <= (this.#logs[disk]?.soundThrough ?? 0) + 1)
      return;
    this.#logs = this.#logs.map((read, index) => (index === disk ? readLog(log, damage.blobs, false) : read));
  }

  /** Each seed holds exactly what lies before its place in the log, and that is sound. */
  async #requireSeeds(world: HostileWorld): Promise<void> {
    const { disks } = await world.progress(VICTIM);
    for (const [index, log] of this.#logs.entries()) {
      const applied = disks[index]?.applied;
      this.#require(
        applied !== undefined && applied.sequence <= log.soundThrough + 1,
        'the place is beyond the sound log',
      );
      const records = (log.recordsBefore[applied.sequence - 1] ?? 0) + applied.record;
      const stream = this.#scene.victim.logs[index]?.stream;
      const seed = stream === undefined ? Buffer.alloc(0) : world.seed(stream);
      this.#require(
        seed.equals(replay(log.entries.slice(0, records))),
        `seed ${index} is not what came before its place`,
      );
    }
  }

  async #requireVictim(
    world: HostileWorld,
    outcome: GroupOutcome | undefined,
    points: Points,
  ): Promise<Omit<WorkerVerdict, 'what'>> {
    this.#require(outcome !== undefined, 'the group was left out');
    const { error, needsResync } = outcome;
    const defect = this.#logs[this.#scene.disk]?.defect;
    if (defect !== undefined && [...defect.codes].some(isForOperator)) {
      this.#require(
        error instanceof TidemarkError && defect.codes.has(error.code) && !needsResync,
        'not left to the operator',
        error,
      );
      this.#requirePoints(points, this.#logs, false);
      return { end: 'operator', code: error.code };
    }
    this.#require(error === undefined, `the cycle ended with ${String(error)}`, error);
    this.#requirePoints(points, this.#logs, areMarksRegular(this.#logs));
    const { disks } = await world.progress(VICTIM);
    const places = disks.map(({ applied }) => applied);
    this.#require(!needsResync || this.#isAtDefect(places[this.#scene.disk]), 'a resync for nothing');
    const isReported = needsResync || defect === undefined || this.#isHeldUp(places);
    this.#require(isReported, 'no resync, and no other disk that is waited for');
    if (defect === undefined) return { end: 'sound', code: undefined };
    await this.#requireKeptLog(world, defect.sequence);
    if (needsResync) return { end: 'resync', code: await this.#requireEvent(world, defect) };
    return { end: 'ahead', code: undefined };
  }

  /** At the bad segment, or at an app mark that the group cannot judge without it. */
  #isAtDefect(place: Place | undefined): boolean {
    const log = this.#logs[this.#scene.disk];
    return log?.defect !== undefined && (place?.sequence === log.defect.sequence || this.#isAtMark(place));
  }

  #isAtMark(place: Place | undefined): boolean {
    const log = this.#logs[this.#scene.disk];
    if (log === undefined || place === undefined) return false;
    return log.entries[(log.recordsBefore[place.sequence - 1] ?? 0) + place.record]?.mark?.kind === 'app';
  }

  /** Whether another disk's log ends before a boundary that the damaged one has reached, or before it tells of the mark it stands at. */
  #isHeldUp(places: readonly Place[]): boolean {
    const boundaries = this.#logs.map(({ watermarkUs }) => Math.floor(watermarkUs / FIVE_MINUTES_US));
    if (Math.min(...boundaries) < (boundaries[this.#scene.disk] ?? 0)) return true;
    const isOtherAtEnd = this.#logs.some(
      (log, disk) => disk !== this.#scene.disk && (places[disk]?.sequence ?? 0) > log.soundThrough,
    );
    return isOtherAtEnd && this.#isAtMark(places[this.#scene.disk]);
  }

  async #requireEvent(world: HostileWorld, defect: NonNullable<ReadLog['defect']>): Promise<string> {
    const { blob, disk, offset, code } = await this.#onlyEvent(world);
    const stream = this.#scene.victim.logs[this.#scene.disk]?.stream;
    const wanted = `replication-logs/${VICTIM}/${MACHINE}/${stream?.disk}/00000001/${String(defect.sequence).padStart(12, '0')}.seg`;
    this.#require(blob === wanted && disk === stream?.disk, `the event names ${String(blob)}`);
    this.#require(
      typeof code === 'string' && defect.codes.has(code),
      `the event says ${String(code)}, not ${[...defect.codes].join(' or ')}`,
    );
    const isWhole =
      code === 'LOG_SEQUENCE_GAP' || (this.#scene.damage.blobs.get(defect.sequence)?.length ?? 0) > 16 * 1_048_576;
    this.#require(isWhole ? offset === null : typeof offset === 'number', `the event has offset ${String(offset)}`);
    const known = (await world.progress(VICTIM)).disks[this.#scene.disk];
    this.#require(
      known?.state === 'resync-required' && known.defect?.code === code,
      'the document says something else',
    );
    return code;
  }

  async #onlyEvent(world: HostileWorld): Promise<Readonly<Record<string, unknown>>> {
    const events = await world.messages('ResyncRequired');
    const [event] = events;
    this.#require(events.length === 1 && event?.group === VICTIM, `${events.length} events`);
    return event.data;
  }

  /** From the bad segment on the log is as it was found. */
  async #requireKeptLog(world: HostileWorld, from: number): Promise<void> {
    const { victim, disk, damage } = this.#scene;
    const stream = victim.logs[disk]?.stream;
    for (const [sequence, bytes] of damage.blobs) {
      if (sequence < from || stream === undefined) continue;
      this.#require(
        (await world.segment(stream, sequence))?.equals(bytes) === true,
        `segment ${sequence} was not kept`,
      );
    }
  }

  #requirePoints(points: Points, logs: readonly ReadLog[], marksAreRegular: boolean): void {
    const wanted = [...crashPoints(logs), ...appPoints(logs)];
    for (const { kind, cutUs, point, images } of points) {
      const candidates = wanted.filter((other) => other.kind === kind && other.cutUs === cutUs);
      this.#require(
        candidates.some((other) => sameImages(other.images, images)),
        `point ${point} holds something else`,
      );
    }
    if (!marksAreRegular) return;
    const made = new Set(points.map(label));
    for (const one of wanted) this.#require(made.has(label(one)), `the ${one.kind} point at ${one.cutUs} was not made`);
  }

  /** A worker that starts anew finds nothing to do and says nothing again. */
  async #requireSame(world: HostileWorld, points: Points): Promise<void> {
    const before = { seeds: this.#seeds(world), events: await world.messages('ResyncRequired') };
    await world.run();
    const after = { seeds: this.#seeds(world), events: await world.messages('ResyncRequired') };
    this.#require(after.events.length === before.events.length, 'the event was sent again');
    this.#require(sameImages(after.seeds, before.seeds), 'a second run changed a seed');
    this.#requireKept(points, await world.points(VICTIM));
  }

  #seeds(world: HostileWorld): Buffer[] {
    return this.#scene.victim.logs.map(({ stream }) => world.seed(stream));
  }
}

const blobsOf = ({ segments }: SoundLog): ReadonlyMap<number, Buffer> =>
  new Map(segments.map(({ bytes }, index) => [index + 1, bytes]));

const label = ({ kind, cutUs }: { readonly kind: string; readonly cutUs: number }): string => `${kind} ${cutUs}`;

const sameImages = (a: readonly Buffer[], b: readonly Buffer[]): boolean =>
  a.length === b.length && a.every((image, disk) => b[disk]?.equals(image) === true);
