/**
 * Looks at the truth in storage at every step of a worker, and throws when a rule of the design's "Order of durable steps" is broken.
 * It shares nothing with the worker: what a seed must hold comes from the plain replay of the model.
 */
import { catalogName, CONTAINERS } from '../../src/model/names.ts';
import { manifestSchema, type Manifest } from '../../src/points/manifest.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { progressSchema, type ProgressDocument } from '../../src/worker/progress.ts';
import { boundaryAtOrAfter } from '../../src/model/time.ts';
import { replay, START_US, type ModelEntry } from '../support/model-log.ts';
import type { Gate, PortCall } from './gated-ports.ts';
import { DISKS, GROUP, MACHINE, type World } from './world.ts';

export type Rule =
  | 'apply before advance'
  | 'cut before pass'
  | 'snapshots before manifest'
  | 'manifest before delete'
  | 'unlist before delete'
  | 'event after fact';

export class RuleBroken extends Error {
  readonly rule: Rule;

  constructor(rule: Rule, what: string) {
    super(`${rule}: ${what}`);
    this.name = 'RuleBroken';
    this.rule = rule;
  }
}

export class OrderWatch implements Gate {
  readonly #world: World;
  readonly #streams: readonly (readonly ModelEntry[])[];
  /** Records before each segment, per disk: `sequence - 1` is the index. */
  readonly #recordsBefore: readonly (readonly number[])[];
  readonly #only: Rule | undefined;
  /** How often each rule was looked at: a rule that was never looked at was not tested. */
  readonly looks = new Map<Rule, number>();
  /** Rules that were broken; the worker reports an error of its own kind, so it is also kept here. */
  readonly broken: RuleBroken[] = [];

  /** @param only judge this rule alone: a storage that breaks one rule may break others with it */
  constructor(
    world: World,
    streams: readonly (readonly ModelEntry[])[],
    segmentLengths: readonly (readonly number[])[],
    only?: Rule,
  ) {
    this.#only = only;
    this.#world = world;
    this.#streams = streams;
    this.#recordsBefore = segmentLengths.map((lengths) => {
      const before = [0];
      for (const length of lengths) before.push((before.at(-1) ?? 0) + length);
      return before;
    });
  }

  async before(call: PortCall): Promise<void> {
    const [name] = call.args as [string];
    if (call.name === 'seed.putPages' || call.name === 'seed.clearPages') await this.#cutBeforePass();
    if (call.name === 'catalog.create' && name.startsWith(catalogName.points(GROUP)) && name.endsWith('.json')) {
      await this.#snapshotsBeforeManifest(manifestSchema.parse(JSON.parse(String(call.args[1]))));
    }
    if (call.name === 'log.delete')
      await this.#manifestBeforeDelete(call.args[0] as { disk: string }, Number(call.args[1]));
    if (call.name === 'seed.deleteSnapshot') await this.#unlistBeforeDelete(String(call.args[0]));
    if (call.name === 'topic.send') await this.#eventAfterFact(call.args[0] as readonly { messageId: string }[]);
  }

  async after(call: PortCall): Promise<void> {
    if (call.name === 'catalog.replace' && call.args[0] === catalogName.progress(GROUP)) {
      this.#applyBeforeAdvance(progressSchema.parse(JSON.parse(String(call.args[1]))));
    }
  }

  #fail(rule: Rule, what: string): void {
    if (this.#only !== undefined && this.#only !== rule) return;
    const error = new RuleBroken(rule, what);
    this.broken.push(error);
    throw error;
  }

  #look(rule: Rule): void {
    this.looks.set(rule, (this.looks.get(rule) ?? 0) + 1);
  }

  /** Writes that are on the seed but not yet noted are allowed; writes that are noted must be there, unless a later one covers them. */
  #applyBeforeAdvance({ disks }: ProgressDocument): void {
    for (const [index, progress] of disks.entries()) {
      this.#look('apply before advance');
      const stream = this.#streams[index] ?? [];
      const through = (this.#recordsBefore[index]?.[progress.applied.sequence - 1] ?? 0) + progress.applied.record;
      const seed = this.#world.storage.seeds.peek({ group: GROUP, machine: MACHINE, disk: DISKS[index] ?? '' });
      const noted = replay(stream.slice(0, through));
      const covered = new Set(stream.slice(through).flatMap(({ record }) => sectorsOf(record)));
      for (let sector = 0; sector * 512 < noted.length; sector++) {
        const range = [sector * 512, sector * 512 + 512] as const;
        if (covered.has(sector)) continue;
        if (seed?.subarray(...range).equals(noted.subarray(...range)) !== true) {
          this.#fail('apply before advance', `${DISKS[index]} sector ${sector} is noted through record ${through}`);
        }
      }
    }
  }

  /** The first boundary behind the newest point that storage lists bounds what may be on any seed. */
  async #cutBeforePass(): Promise<void> {
    this.#look('cut before pass');
    const newestUs = (await this.#manifests()).at(-1)?.cutUs ?? START_US;
    const boundaryUs = boundaryAtOrAfter(newestUs + 1);
    for (const [index, stream] of this.#streams.entries()) {
      this.#requireAbsent(
        index,
        stream,
        stream.filter(({ record }) => record.timeUs >= boundaryUs),
      );
    }
  }

  /** None of the records in `after` may have left its bytes where no earlier record wrote. */
  #requireAbsent(index: number, stream: readonly ModelEntry[], after: readonly ModelEntry[]): void {
    if (after.length === 0) return;
    const seed = this.#world.storage.seeds.peek({ group: GROUP, machine: MACHINE, disk: DISKS[index] ?? '' });
    if (seed === undefined) return;
    const before = new Set(stream.slice(0, stream.length - after.length).flatMap(({ record }) => sectorsOf(record)));
    for (const { record, data } of after) {
      if (record.kind !== 'write' || data === undefined) continue;
      for (const sector of sectorsOf(record)) {
        const bytes = seed.subarray(sector * 512, sector * 512 + 512);
        if (!before.has(sector) && bytes.some((byte) => byte !== 0)) {
          this.#fail('cut before pass', `${DISKS[index]} sector ${sector} holds a write from behind the next cut`);
        }
      }
    }
  }

  async #snapshotsBeforeManifest(manifest: Manifest): Promise<void> {
    this.#look('snapshots before manifest');
    for (const { disk, snapshot } of manifest.disks) {
      const reader = this.#world.storage.seeds.reader({ group: GROUP, machine: MACHINE, disk });
      const there = await reader.listSnapshots(this.#world.signal);
      if (!there.some((info) => info.snapshot === snapshot)) {
        this.#fail('snapshots before manifest', `${manifest.point} names ${disk}@${snapshot}`);
      }
    }
  }

  async #manifestBeforeDelete({ disk }: { readonly disk: string }, sequence: number): Promise<void> {
    this.#look('manifest before delete');
    const contained = (await this.#manifests()).some(({ disks }) =>
      disks.some((cut) => cut.disk === disk && cut.sequence > sequence),
    );
    if (!contained) this.#fail('manifest before delete', `${CONTAINERS.logs} ${disk} segment ${sequence}`);
  }

  async #unlistBeforeDelete(snapshot: string): Promise<void> {
    this.#look('unlist before delete');
    for (const { point, disks } of await this.#manifests()) {
      if (disks.some((disk) => disk.snapshot === snapshot))
        this.#fail('unlist before delete', `${point} names ${snapshot}`);
    }
  }

  async #eventAfterFact(messages: readonly { readonly messageId: string }[]): Promise<void> {
    this.#look('event after fact');
    const stored = await this.#world.storage.catalog.read(catalogName.progress(GROUP), this.#world.signal);
    const { outbox } = progressSchema.parse(JSON.parse(String(stored?.bytes)));
    const queued = new Set(outbox.queued.map(({ sequence }) => `${GROUP}:${sequence}`));
    for (const { messageId } of messages) {
      if (!queued.has(messageId)) this.#fail('event after fact', `${messageId} is not in the stored outbox`);
    }
  }

  #manifests(): Promise<readonly Manifest[]> {
    return listPoints(this.#world.storage.catalog, GROUP, this.#world.signal);
  }
}

function sectorsOf(record: ModelEntry['record']): number[] {
  if (record.kind !== 'write' && record.kind !== 'discard') return [];
  return Array.from({ length: record.lengthBytes / 512 }, (_, i) => record.offsetBytes / 512 + i);
}
