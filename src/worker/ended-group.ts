/** The lease and the progress document of a group that is being ended: no disks, no log. */
import type { Lease } from '../catalog/catalog.ts';
import { readDocument, replaceDocument } from '../catalog/documents.ts';
import { assert } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import { nextBatch } from '../monitoring/cloud-event.ts';
import type { MonitoringEvent } from '../monitoring/events.ts';
import type { MessageTopic } from '../monitoring/message-topic.ts';
import { acknowledge, enqueue } from '../monitoring/outbox.ts';
import { keepLeases, type KeptLeases, RELEASE_LIMIT_MS } from './lease-keeper.ts';
import type { WorkerPorts } from './ports.ts';
import { progressSchema, type ProgressDocument } from './progress.ts';

/** Messages of one batch that leaves the outbox; storage is written once per batch. */
const MESSAGES_PER_BATCH = 100;

export interface EndedGroupOptions {
  readonly group: string;
  readonly ports: Pick<WorkerPorts, 'catalog' | 'clock'>;
  /** Told of events once they are queued durably. */
  readonly onEvents: ((group: string, events: readonly MonitoringEvent[]) => void) | undefined;
  readonly signal: AbortSignal;
}

interface Held {
  readonly lease: Lease;
  readonly kept: KeptLeases;
  readonly progress: ProgressDocument;
  readonly etag: string;
}

export class EndedGroup {
  readonly group: string;
  readonly #options: EndedGroupOptions;
  readonly #lease: Lease;
  readonly #kept: KeptLeases;
  #progress: ProgressDocument;
  #etag: string;

  private constructor(options: EndedGroupOptions, { lease, kept, progress, etag }: Held) {
    this.group = options.group;
    this.#options = options;
    this.#lease = lease;
    this.#kept = kept;
    this.#progress = progress;
    this.#etag = etag;
  }

  /** Takes the group away from whoever owns it; its progress document exists. */
  static async take(options: EndedGroupOptions): Promise<EndedGroup> {
    const { group, ports, signal } = options;
    const name = catalogName.progress(group);
    const lease = await ports.catalog.takeLease(name, signal);
    const kept = keepLeases({ group, leases: [lease] }, ports.clock, signal);
    try {
      const stored = await readDocument(ports.catalog, name, progressSchema, kept.signal);
      assert(stored !== undefined, `${name} was there when its lease was taken`);
      return new EndedGroup(options, { lease, kept, progress: stored.value, etag: stored.etag });
    } catch (error) {
      await giveBack(lease, kept);
      throw error;
    }
  }

  /** Aborts when the lease may no longer be held. */
  get signal(): AbortSignal {
    return this.#kept.signal;
  }

  get progress(): ProgressDocument {
    return this.#progress;
  }

  /** @throws TidemarkError OWNERSHIP_LOST unless the group is still this owner's */
  readonly confirm = (signal: AbortSignal): Promise<void> => this.#lease.renew(signal);

  /** Writes `next` with `events` queued: one guarded write. @throws TidemarkError OWNERSHIP_LOST, CONFLICT, OUTBOX_FULL */
  async save(next: ProgressDocument, events: readonly MonitoringEvent[] = []): Promise<void> {
    const { ports, onEvents } = this.#options;
    const value = { ...next, outbox: enqueue(next.outbox, events, ports.clock.nowUs()) };
    const name = catalogName.progress(this.group);
    this.#etag = await replaceDocument(
      ports.catalog,
      { name, schema: progressSchema, value, etag: this.#etag, lease: this.#lease },
      this.signal,
    );
    this.#progress = value;
    if (events.length > 0) onEvents?.(this.group, events);
  }

  /** Sends what waits in the outbox. @throws TidemarkError MESSAGING_UNAVAILABLE; what was not sent stays queued. */
  async flushOutbox(topic: MessageTopic): Promise<void> {
    for (;;) {
      const { outbox } = this.#progress;
      const batch = nextBatch(outbox, this.group, MESSAGES_PER_BATCH);
      if (batch === undefined) return;
      await topic.send(batch.messages, this.signal);
      await this.save({ ...this.#progress, outbox: acknowledge(outbox, batch.throughSequence) });
    }
  }

  /** Gives the lease back; what cannot be given back expires. */
  async close(): Promise<void> {
    await giveBack(this.#lease, this.#kept);
  }
}

async function giveBack(lease: Lease, kept: KeptLeases): Promise<void> {
  await kept.stop();
  await lease.release(AbortSignal.timeout(RELEASE_LIMIT_MS)).catch(() => undefined);
}
