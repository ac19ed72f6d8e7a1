/**
 * A job in the hands of one executor: the lease on its journal, and every write under it. Whoever executes it later takes the lease away,
 * and this one's next write fails.
 */
import { readDocument } from '../catalog/documents.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import { toMessage } from '../monitoring/cloud-event.ts';
import { acknowledge } from '../monitoring/outbox.ts';
import { LeasedDocument } from '../worker/leased-document.ts';
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

export class JobRun {
  readonly #ports: FailoverPorts;
  readonly #journal: LeasedDocument<JobDocument>;

  private constructor(ports: FailoverPorts, journal: LeasedDocument<JobDocument>) {
    this.#ports = ports;
    this.#journal = journal;
  }

  /** Takes the job away from whoever executes it. @throws TidemarkError JOB_NOT_FOUND */
  static async take(ports: FailoverPorts, { group, job }: JobName, signal: AbortSignal): Promise<JobRun> {
    await readJob(ports, { group, job }, signal);
    const about = { name: catalogName.job(group, job), schema: jobSchema, title: `${group}, job ${job}` };
    return new JobRun(ports, await LeasedDocument.take(ports, about, signal));
  }

  get document(): JobDocument {
    return this.#journal.document;
  }

  /** Aborts when the lease may no longer be held. */
  get signal(): AbortSignal {
    return this.#journal.signal;
  }

  /** Whether a write has failed: what this executor remembers is then no longer what is stored, and it must stop. */
  get isLost(): boolean {
    return this.#journal.isLost;
  }

  /** @throws TidemarkError OWNERSHIP_LOST unless the job is still this executor's */
  readonly confirm = (signal: AbortSignal): Promise<void> => this.#journal.confirm(signal);

  /** Writes the changed journal: one guarded write. @throws TidemarkError OWNERSHIP_LOST, CONFLICT, STORAGE_* */
  save(change: (current: JobDocument) => JobDocument): Promise<void> {
    return this.#journal.save(change);
  }

  /** Sends what waits in the job's outbox. What Service Bus does not take stays there: it must not keep a failover from succeeding. */
  async flushOutbox(): Promise<void> {
    const { outbox, group, job } = this.document;
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
    await this.#journal.close();
  }
}
