/** A run in the hands of one executor. */
import { readDocument } from '../catalog/documents.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import { planMessage } from '../monitoring/cloud-event.ts';
import { acknowledge } from '../monitoring/outbox.ts';
import { LeasedDocument } from '../worker/leased-document.ts';
import type { PlanPorts } from './ports.ts';
import { noted, runSchema, stepTo, type RunDocument, type RunStep } from './run-document.ts';
import type { StepEvent } from './states.ts';

const UNSENT: ReadonlySet<string> = new Set(['MESSAGING_UNAVAILABLE', 'MESSAGING_REFUSED']);

const isRunId = (run: string): boolean => /^[A-Za-z0-9-]{1,40}$/.test(run);

/** @throws TidemarkError PLAN_RUN_NOT_FOUND */
export async function readRun(
  { catalog }: Pick<PlanPorts, 'catalog'>,
  run: string,
  signal: AbortSignal,
): Promise<RunDocument> {
  const stored = isRunId(run) ? await readDocument(catalog, catalogName.run(run), runSchema, signal) : undefined;
  if (stored !== undefined) return stored.value;
  throw new TidemarkError('PLAN_RUN_NOT_FOUND', `there is no run ${JSON.stringify(run.slice(0, 80))}`);
}

type Change = NonNullable<Parameters<typeof stepTo>[1]['change']>;

export class RunJournal {
  readonly #ports: PlanPorts;
  readonly #held: LeasedDocument<RunDocument>;
  /** Once Service Bus has not taken messages, only the last attempt of this executor waits for it again. */
  #isUnsent = false;

  private constructor(ports: PlanPorts, held: LeasedDocument<RunDocument>) {
    this.#ports = ports;
    this.#held = held;
  }

  /** Takes the run away from whoever executes it. @throws TidemarkError PLAN_RUN_NOT_FOUND */
  static async take(ports: PlanPorts, run: string, signal: AbortSignal): Promise<RunJournal> {
    await readRun(ports, run, signal);
    const about = { name: catalogName.run(run), schema: runSchema, title: `plan run ${run}` };
    return new RunJournal(ports, await LeasedDocument.take(ports, about, signal));
  }

  get document(): RunDocument {
    return this.#held.document;
  }

  get signal(): AbortSignal {
    return this.#held.signal;
  }

  get isLost(): boolean {
    return this.#held.isLost;
  }

  /** One guarded write. @throws TidemarkError OWNERSHIP_LOST, CONFLICT, STORAGE_* */
  async save(change: (current: RunDocument, nowUs: number) => RunDocument): Promise<void> {
    await this.#held.save((current) => change(current, this.#ports.clock.nowUs()));
  }

  /** Moves a step by an event of its table. */
  async move({ id }: Pick<RunStep, 'id'>, event: StepEvent, change: Change = {}): Promise<void> {
    await this.save((current, nowUs) => stepTo(current, { id, event, nowUs, change }));
  }

  /** Notes more about a step. */
  async note({ id }: Pick<RunStep, 'id'>, change: Partial<RunStep>): Promise<void> {
    await this.save((current) => noted(current, id, change));
  }

  /** Sends what waits. What Service Bus does not take stays in the outbox: it must not keep a failover from going on. */
  async flush({ isLast }: { readonly isLast: boolean }): Promise<void> {
    const { outbox } = this.document;
    const last = outbox.queued.at(-1);
    if (last === undefined || (this.#isUnsent && !isLast)) return;
    try {
      const messages = outbox.queued.map((event) => planMessage(event, this.document));
      await this.#ports.topic.send(messages, this.signal);
    } catch (error) {
      this.#isUnsent = true;
      if (error instanceof TidemarkError && UNSENT.has(error.code)) return;
      throw error;
    }
    await this.save((current) => ({ ...current, outbox: acknowledge(current.outbox, last.sequence) }));
  }

  async close(): Promise<void> {
    await this.#held.close();
  }
}
