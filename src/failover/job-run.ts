/**
 * A job in the hands of one executor: the lease on its journal, and every write under it. Whoever executes it later takes the lease away,
 * and this one's next write fails.
 */
import type { Lease } from '../catalog/catalog.ts';
import { readDocument, replaceDocument } from '../catalog/documents.ts';
import { assert, TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import { toMessage } from '../monitoring/cloud-event.ts';
import { acknowledge } from '../monitoring/outbox.ts';
import { keepLeases, type KeptLeases, RELEASE_LIMIT_MS } from '../worker/lease-keeper.ts';
import { jobSchema, type JobDocument } from './job-document.ts';
import type { FailoverPorts } from './ports.ts';

const UNSENT: ReadonlySet<string> = new Set(['MESSAGING_UNAVAILABLE', 'MESSAGING_REFUSED']);

export interface JobName {
  readonly group: string;
  readonly job: string;
}

/** @throws TidemarkError JOB_NOT_FOUND */
export async function readJob(
  { catalog }: Pick<FailoverPorts, 'catalog'>,
  { group, job }: JobName,
  signal: AbortSignal,
): Promise<JobDocument> {
  const stored = await readDocument(catalog, catalogName.job(group, job), jobSchema, signal);
  if (stored === undefined)
    throw new TidemarkError('JOB_NOT_FOUND', `group ${group} has no job ${JSON.stringify(job)}`);
  return stored.value;
}

interface Held {
  readonly ports: FailoverPorts;
  readonly lease: Lease;
  readonly kept: KeptLeases;
  readonly document: JobDocument;
  readonly etag: string;
}

export class JobRun {
  readonly #ports: FailoverPorts;
  readonly #lease: Lease;
  readonly #kept: KeptLeases;
  #document: JobDocument;
  #etag: string;
  #isLost = false;
  /** Saves queue up behind each other: the lanes of a phase share one journal. */
  #saving: Promise<void> = Promise.resolve();

  private constructor({ ports, lease, kept, document, etag }: Held) {
    this.#ports = ports;
    this.#lease = lease;
    this.#kept = kept;
    this.#document = document;
    this.#etag = etag;
  }

  /** Takes the job away from whoever executes it. @throws TidemarkError JOB_NOT_FOUND */
  static async take(ports: FailoverPorts, name: JobName, signal: AbortSignal): Promise<JobRun> {
    await readJob(ports, name, signal);
    const blob = catalogName.job(name.group, name.job);
    const lease = await ports.catalog.takeLease(blob, signal);
    const kept = keepLeases({ group: `${name.group}, job ${name.job}`, leases: [lease] }, ports.clock, signal);
    try {
      const stored = await readDocument(ports.catalog, blob, jobSchema, kept.signal);
      assert(stored !== undefined, `${blob} was there when its lease was taken`);
      return new JobRun({ ports, lease, kept, document: stored.value, etag: stored.etag });
    } catch (error) {
      await giveBack(lease, kept);
      throw error;
    }
  }

  get document(): JobDocument {
    return this.#document;
  }

  /** Aborts when the lease may no longer be held. */
  get signal(): AbortSignal {
    return this.#kept.signal;
  }

  /** Whether a write has failed: what this executor remembers is then no longer what is stored, and it must stop. */
  get isLost(): boolean {
    return this.#isLost || this.#kept.signal.aborted;
  }

  /** @throws TidemarkError OWNERSHIP_LOST unless the job is still this executor's */
  readonly confirm = (signal: AbortSignal): Promise<void> => this.#lease.renew(signal);

  /** Writes the changed journal: one guarded write. @throws TidemarkError OWNERSHIP_LOST, CONFLICT, STORAGE_* */
  async save(change: (current: JobDocument) => JobDocument): Promise<void> {
    const write = this.#write(this.#saving, change);
    this.#saving = write.catch(() => undefined); // the caller has the failure
    await write;
  }

  async #write(after: Promise<void>, change: (current: JobDocument) => JobDocument): Promise<void> {
    await after;
    const value = change(this.#document);
    if (value === this.#document) return;
    const name = catalogName.job(value.group, value.job);
    const replacement = { name, schema: jobSchema, value, etag: this.#etag, lease: this.#lease };
    try {
      this.#etag = await replaceDocument(this.#ports.catalog, replacement, this.signal);
    } catch (error) {
      this.#isLost = true;
      throw error;
    }
    this.#document = value;
  }

  /** Sends what waits in the job's outbox. What Service Bus does not take stays there: it must not keep a failover from succeeding. */
  async flushOutbox(): Promise<void> {
    const { outbox, group, job } = this.#document;
    const last = outbox.queued.at(-1);
    if (last === undefined) return;
    try {
      await this.#ports.topic.send(
        outbox.queued.map((event) => toMessage(event, group, job)),
        this.signal,
      );
    } catch (error) {
      if (error instanceof TidemarkError && UNSENT.has(error.code)) return;
      throw error;
    }
    await this.save((current) => ({ ...current, outbox: acknowledge(current.outbox, last.sequence) }));
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
