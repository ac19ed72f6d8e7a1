/** The storage of one simulated group, its truth, and the rules that hold at every moment. */
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { catalogName, type DiskKey, type LogStream } from '../../src/model/names.ts';
import { HOUR_US } from '../../src/model/time.ts';
import type { OutgoingMessage, ReceivedMessage } from '../../src/monitoring/message-topic.ts';
import { progressKey } from '../../src/monitoring/events.ts';
import type { Manifest } from '../../src/points/manifest.ts';
import type { ProgressDocument } from '../../src/worker/progress.ts';
import type { PortCall } from './gated-ports.ts';
import { pointReader } from '../../src/copies/copy-store.ts';
import { pointDisk } from '../../src/points/manifest.ts';
import { byCut } from '../../src/retention/plan.ts';
import { expectedPoints, momentBefore, type ExpectedPoint, type SeededLog } from './seeded-log.ts';

export const GROUP = 'g';

export interface AskedPoint extends ExpectedPoint {
  readonly isBuilt: boolean;
  readonly previousPoint: string | null;
}

type Queued = ProgressDocument['outbox']['queued'][number];

/** Keeps the truth, and throws when a request breaks a rule at the moment at which storage does it. */
export class SeededWorld {
  readonly storage: MemoryStorage = createMemoryStorage();
  readonly topic: MemoryTopic;
  readonly log: SeededLog;
  /** Points that follow from the log. */
  readonly regular: readonly ExpectedPoint[];
  /** Points that somebody asked for and that were committed, with what they follow upon. */
  readonly asked = new Map<string, AskedPoint>();
  /** The watermark through which each disk's log is shipped. */
  readonly shippedUs: number[];
  /** Every manifest that was ever committed, by point. */
  readonly committed = new Map<string, Manifest>();
  /** Points that a stored progress document has named as its newest. */
  readonly noted = new Set<string>();
  /** Every event that was ever queued in a stored outbox, by sequence. */
  readonly queued = new Map<number, Queued>();
  /** What reached the topic, before duplicate detection. */
  readonly sent: OutgoingMessage[] = [];
  /** The shortest log retention that has been in force. */
  logRetentionHours: number;
  readonly #signal = new AbortController().signal;

  constructor(log: SeededLog, logRetentionHours: number, now: () => Date) {
    this.log = log;
    this.logRetentionHours = logRetentionHours;
    this.regular = expectedPoints(log);
    this.shippedUs = log.lanes.map(() => 0);
    this.topic = new MemoryTopic({ now, duplicateWindowMs: Number.MAX_SAFE_INTEGER });
  }

  /** All points, in order. */
  get expected(): readonly (ExpectedPoint & { readonly isBuilt?: boolean })[] {
    return [...this.regular, ...this.asked.values()].toSorted(byCut);
  }

  /** Those that the seeds went through. */
  get chain(): readonly ExpectedPoint[] {
    return this.expected.filter(({ isBuilt }) => isBuilt !== true);
  }

  /** The bytes from which a point's changes count; undefined: an empty disk. */
  before(id: string): ExpectedPoint | undefined {
    const asked = this.asked.get(id);
    if (asked?.isBuilt === true) return this.expected.find((point) => point.id === asked.previousPoint);
    return this.chain[this.chain.findIndex((point) => point.id === id) - 1];
  }

  stream(index: number): LogStream {
    const lane = this.log.lanes[index];
    return { group: GROUP, machine: lane?.machine ?? '', disk: lane?.disk ?? '', epoch: 1 };
  }

  async messages(): Promise<ReceivedMessage[]> {
    const messages: ReceivedMessage[] = [];
    for await (const message of this.topic.tail(this.#signal, { follow: false })) messages.push(message);
    return messages;
  }

  async names(): Promise<readonly string[]> {
    return this.storage.catalog.list(catalogName.points(GROUP), this.#signal);
  }

  async manifest(name: string): Promise<Manifest | undefined> {
    const blob = await this.storage.catalog.read(name, this.#signal);
    return blob === undefined ? undefined : (JSON.parse(String(blob.bytes)) as Manifest);
  }

  async manifests(): Promise<Manifest[]> {
    const names = (await this.names()).filter((name) => name.endsWith('.json'));
    const manifests = await Promise.all(names.map((name) => this.manifest(name)));
    return manifests.filter((manifest) => manifest !== undefined);
  }

  /** A rule of the order of durable steps, looked at when storage has just done a step. */
  async landed(call: PortCall, result: unknown): Promise<void> {
    const [name] = call.args as [string];
    switch (call.name) {
      case 'catalog.create':
        if (result !== undefined && isManifest(name)) await this.#committed(name);
        if (result !== undefined && name === catalogName.progress(GROUP)) this.#noted(call.args[1]);
        return;
      case 'catalog.replace':
        if (result !== undefined && name === catalogName.progress(GROUP)) this.#noted(call.args[1]);
        return;
      case 'log.delete':
        return this.#segmentDeleted(call.args[0] as LogStream, Number(call.args[1]));
      case 'seed.deleteSnapshot':
        return this.#snapshotDeleted(name);
      case 'topic.send':
        return this.#messagesSent(call.args[0] as readonly OutgoingMessage[]);
      default:
    }
  }

  /** Snapshots before manifest: a point that can be seen is whole and right. */
  async #committed(name: string): Promise<void> {
    const manifest = await this.manifest(name);
    require(manifest !== undefined, `${name} was created`);
    // A request that was given up may bring back a point that has been pruned since; the next owner prunes it again.
    if (this.noted.has(manifest.point)) return;
    const isRegular = this.regular.some(({ id }) => id === manifest.point);
    if (!isRegular && !(await this.#askedFor(manifest))) return;
    await this.requireRight(manifest);
    this.committed.set(manifest.point, manifest);
  }

  /**
   * Takes note of a point that does not follow from the log. False for one whose request was given up, and whose place somebody else's
   * has taken: its copies may be gone, and then the next owner unlists it.
   */
  async #askedFor(manifest: Manifest): Promise<boolean> {
    const { point, kind, cutUs, mark, previousPoint, disks } = manifest;
    const isBuilt = disks.some(({ copy }) => copy !== null);
    const progress = await this.storage.catalog.read(catalogName.progress(GROUP), this.#signal);
    const { building, latestUs } = JSON.parse(String(progress?.bytes)) as ProgressDocument;
    if (isBuilt ? building?.point !== point : latestUs !== cutUs) return false;
    require(cutUs <= Math.min(...this.shippedUs), `${point} lies behind what was shipped`);
    const base = this.chain.find(({ id }) => id === previousPoint);
    if (isBuilt) require(base !== undefined && base.cutUs <= cutUs, `${point} is built on ${previousPoint}`);
    const moment = momentBefore(this.log, cutUs);
    this.asked.set(point, { id: point, kind, cutUs, mark, isBuilt, previousPoint, ...moment });
    return true;
  }

  /** The bytes of all its disks are the oracle's. @throws Error */
  async requireRight(manifest: Manifest): Promise<void> {
    const { point, kind, cutUs, mark, disks, previousPoint } = manifest;
    const expected = this.expected.find(({ id }) => id === point);
    require(expected !== undefined, `${point} is no point of this log`);
    same(`${point} kind`, kind, expected.kind);
    same(`${point} cut`, cutUs, expected.cutUs);
    same(`${point} mark`, mark, expected.mark);
    same(`${point} previous point`, previousPoint, this.before(point)?.id ?? null);
    same(`${point} disks`, disks.length, this.log.lanes.length);
    const { arena } = this.log;
    for (const [index, disk] of disks.entries()) {
      const key = this.stream(index);
      same(`${point} disk ${index}`, `${disk.machine}/${disk.disk}`, `${key.machine}/${key.disk}`);
      const reader = pointReader(this.storage, pointDisk(manifest, disk));
      const image = await reader.read(disk.snapshot, arena.offsetBytes, arena.lengthBytes, this.#signal);
      require(expected.images[index]?.equals(image) ===
        true, `${point} holds other bytes of ${key.machine}/${key.disk}`);
      const ranges = await reader.ranges(disk.snapshot, disk.sizeBytes, this.#signal);
      const outside = ranges.some(
        ({ offsetBytes, lengthBytes }) =>
          offsetBytes < arena.offsetBytes || offsetBytes + lengthBytes > arena.offsetBytes + arena.lengthBytes,
      );
      require(!outside, `${point} holds bytes where nothing was written`);
    }
  }

  #noted(bytes: unknown): void {
    const { outbox, newestPoint } = JSON.parse(String(bytes)) as ProgressDocument;
    if (newestPoint !== null) this.noted.add(newestPoint.id);
    for (const event of outbox.queued) {
      const known = this.queued.get(event.sequence);
      if (known === undefined) this.queued.set(event.sequence, event);
      else same(`message ${event.sequence}`, JSON.stringify(event.data), JSON.stringify(known.data));
    }
  }

  /** Manifest before delete. */
  #segmentDeleted({ machine, disk }: DiskKey, sequence: number): void {
    const all = [...this.committed.values()];
    const newestUs = Math.max(...all.map(({ cutUs }) => cutUs));
    const allows = ({ cutUs, disks }: Manifest): boolean =>
      cutUs <= newestUs - this.logRetentionHours * HOUR_US &&
      disks.some((cut) => cut.machine === machine && cut.disk === disk && cut.sequence - 2 >= sequence);
    require(all.some(allows), `segment ${sequence} of ${machine}/${disk} is deleted before a point may let it go`);
  }

  /** Unlist before delete. */
  async #snapshotDeleted(snapshot: string): Promise<void> {
    for (const { point, disks } of await this.manifests()) {
      require(!disks.some((disk) => disk.snapshot === snapshot), `${snapshot} is deleted and ${point} names it`);
    }
  }

  /** Event after fact: what is sent was stored, and is always the same under its id. */
  #messagesSent(messages: readonly OutgoingMessage[]): void {
    for (const message of messages) {
      const event = this.queued.get(Number(message.messageId.split(':')[1]));
      require(event !== undefined, `${message.messageId} was never stored`);
      const { data } = message.body as { readonly data: unknown };
      same(message.messageId, JSON.stringify(data), JSON.stringify(event.data));
      this.sent.push(message);
    }
  }

  /** Facts that were queued: progress figures may be superseded before they are sent. */
  facts(): Queued[] {
    return [...this.queued.values()].filter((event) => progressKey(event) === undefined);
  }
}

export const isManifest = (name: string): boolean =>
  name.startsWith(catalogName.points(GROUP)) && name.endsWith('.json');

export class Wrong extends Error {
  override readonly name = 'Wrong';
}

export function require(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Wrong(what);
}

export function same(what: string, is: unknown, wanted: unknown): void {
  if (is !== wanted) throw new Wrong(`${what} is ${String(is)} and must be ${String(wanted)}`);
}
