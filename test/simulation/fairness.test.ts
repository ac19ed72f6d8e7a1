/** Many groups, some of them in trouble, one worker that runs in virtual time: the others must not notice. */
import PQueue from 'p-queue';
import { describe, expect, it } from 'vitest';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { TidemarkError } from '../../src/errors.ts';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { MIB } from '../../src/model/sizes.ts';
import { FIVE_MINUTES_US } from '../../src/model/time.ts';
import { Worker } from '../../src/worker/worker.ts';
import { DISK_BYTES, ModelShipper, START_US, type ModelEntry } from '../support/model-log.ts';
import { MINUTE_MS, SECOND_MS } from './durations.ts';
import { interceptPorts, type Around, type PortCall } from './gated-ports.ts';
import { Scheduler, virtualClock } from './scheduler.ts';
import { NOISE } from './seeded-log.ts';

const signal = new AbortController().signal;
const HEALTHY = ['a', 'b', 'c', 'd', 'e', 'f'] as const;
const LENGTH_MS = 12 * MINUTE_MS;
const SHIP_EVERY_MS = 20 * SECOND_MS;
const USUAL_MS = 5;

/** What a call of a group in trouble comes to: how long it takes, and whether it fails then. */
interface Trouble {
  readonly takesMs: number;
  readonly fails: boolean;
  /** Only these calls; all of them when left out. */
  readonly only?: string;
}

function groupOf({ args: [first], opener }: PortCall): string {
  if (typeof first === 'object' && first !== null && 'group' in first) return String(first.group);
  const path = opener === undefined ? first : opener.args[0];
  if (typeof path === 'object' && path !== null && 'group' in path) return String(path.group);
  return typeof path === 'string' ? (/^(?:groups|progress|points)\/([^/.]+)/.exec(path)?.[1] ?? '') : '';
}

/** A write to every 64 KiB of the disk, so that a window has more requests than a disk may have in flight. */
function entriesAt(timeUs: number, isFirst: boolean): ModelEntry[] {
  const entries = Array.from({ length: isFirst ? 1 : 8 }, (_, i): ModelEntry => {
    const record = { kind: 'write', timeUs, offsetBytes: i * 128 * 1024, lengthBytes: 512 } as const;
    const at = (i * 512 + (Math.floor(timeUs / 1_000_000) % 512)) * 512;
    return { record, data: NOISE.subarray(at, at + 512) };
  });
  return isFirst ? [...entries, { record: { kind: 'base-complete', timeUs } }] : entries;
}

class Fleet {
  readonly scheduler = new Scheduler();
  readonly storage = createMemoryStorage();
  readonly troubles: ReadonlyMap<string, Trouble>;
  /** Per group and cut: when the log that completes it was there, and when the point was. In ms. */
  readonly receivedMs = new Map<string, number>();
  readonly madeMs = new Map<string, number>();
  calls = 0;

  constructor(troubles: Readonly<Record<string, Trouble>>) {
    this.troubles = new Map(Object.entries(troubles));
  }

  get groups(): readonly string[] {
    return [...HEALTHY, ...this.troubles.keys()];
  }

  async run(): Promise<void> {
    await setPolicy(this.storage.catalog, 'p', { retentionHours: 24, appConsistentHours: 0 }, signal);
    for (const group of this.groups) {
      const disks = ['d0', 'd1'].map((disk) => ({ disk, sizeBytes: DISK_BYTES }));
      const machines = [{ machine: 'm', disks }];
      await protectGroup(this.storage.catalog, { group, policy: 'p', machines, nowUs: START_US }, signal);
      for (const { disk } of disks) this.#ship(group, disk);
    }
    const stop = new AbortController();
    let isOver = false;
    const work = this.#worker()
      .run(stop.signal)
      .then(() => (isOver = true));
    this.scheduler.after(LENGTH_MS, () => stop.abort());
    await this.scheduler.runUntil(() => isOver, 2_000_000);
    await work;
  }

  /** The longest time from a complete log to its point, over the groups that are not in trouble. */
  worstDelayMs(): number {
    const delays = [...this.receivedMs]
      .filter(([cut, atMs]) => HEALTHY.some((group) => cut.startsWith(`${group} `)) && atMs < LENGTH_MS - MINUTE_MS)
      .map(([cut, atMs]) => (this.madeMs.get(cut) ?? Number.POSITIVE_INFINITY) - atMs);
    expect(delays.length).toBeGreaterThanOrEqual(2 * HEALTHY.length);
    return Math.max(...delays);
  }

  /** Again and again a segment up to now. */
  #ship(group: string, disk: string): void {
    const shipper = new ModelShipper({ group, machine: 'm', disk, epoch: 1 }, this.storage.logUpload);
    let throughUs = START_US;
    const next = (isFirst: boolean): void => {
      const nowUs = START_US + this.scheduler.nowMs * 1000;
      void shipper.ship(entriesAt(throughUs, isFirst), nowUs, signal);
      const cutUs = Math.floor(nowUs / FIVE_MINUTES_US) * FIVE_MINUTES_US;
      const cut = `${group} ${cutUs}`;
      if (cutUs >= START_US && !this.receivedMs.has(cut)) this.receivedMs.set(cut, this.scheduler.nowMs);
      throughUs = nowUs;
      if (this.scheduler.nowMs < LENGTH_MS) this.scheduler.after(SHIP_EVERY_MS, () => next(false));
    };
    this.scheduler.after(0, () => next(true));
  }

  readonly #around: Around = (call, perform) =>
    new Promise((resolve, reject) => {
      this.calls++;
      const abort = call.args.at(-1) as AbortSignal;
      const known = this.troubles.get(groupOf(call));
      const trouble = known?.only === undefined || known.only === call.name ? known : undefined;
      const onAbort = (): void => reject(abort.reason as Error);
      if (abort.aborted) return onAbort();
      abort.addEventListener('abort', onAbort, { once: true });
      this.scheduler.after(trouble?.takesMs ?? USUAL_MS, () => {
        abort.removeEventListener('abort', onAbort);
        if (trouble?.fails === true) return reject(new TidemarkError('STORAGE_UNAVAILABLE', 'in trouble'));
        perform(call.args)
          .finally(() => this.#note(call))
          .then(resolve, reject);
      });
    });

  #note({ name, args }: PortCall): void {
    if (name !== 'catalog.create' || !String(args[0]).endsWith('.json') || !String(args[0]).startsWith('points/'))
      return;
    const { group, cutUs } = JSON.parse(String(args[1])) as { group: string; cutUs: number };
    this.madeMs.set(`${group} ${cutUs}`, this.scheduler.nowMs);
  }

  #worker(): Worker {
    const { logStore, seeds, copies, catalog } = this.storage;
    const topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 1 });
    const clock = virtualClock(
      this.scheduler,
      () => START_US,
      () => true,
    );
    return new Worker({
      ports: interceptPorts({ logStore, seeds, copies, catalog, topic, clock }, this.#around),
      settings: {
        payloadBudgetBytes: 64 * MIB,
        requestsPerDisk: 4,
        account: new PQueue({ concurrency: 8 }),
        rate: undefined,
        key: undefined,
      },
      groups: [],
      report: () => undefined,
    });
  }
}

/** Two looks of two seconds each, and the work itself. */
const PROMPT_MS = 5 * SECOND_MS;
const SLOW_WRITE_MS = 15 * SECOND_MS;

describe('a group is not delayed by', () => {
  it.each<[string, Readonly<Record<string, Trouble>>, number]>([
    ['healthy ones', {}, PROMPT_MS],
    ['one that fails at every call', { broken: { takesMs: 1000, fails: true } }, PROMPT_MS],
    ['one whose calls take long', { slow: { takesMs: 1000, fails: false } }, PROMPT_MS],
    ['one of each', { broken: { takesMs: 3000, fails: true }, slow: { takesMs: 1000, fails: false } }, PROMPT_MS],
    ['one that does not come to an end', { stuck: { takesMs: 25_000, fails: false } }, PROMPT_MS],
    // Its writes may take all that the account allows at once, so others wait for at most two of them.
    [
      'one whose page writes take long, by more than two of them',
      { slow: { takesMs: SLOW_WRITE_MS, fails: false, only: 'seed.putPages' } },
      PROMPT_MS + 2 * SLOW_WRITE_MS,
    ],
  ])('%s', async (_name, troubles, withinMs) => {
    const fleet = new Fleet(troubles);
    await fleet.run();
    expect(fleet.worstDelayMs()).toBeLessThanOrEqual(withinMs);
  });
});
