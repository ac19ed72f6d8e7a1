/** Pure. The journal of a job: what was asked for, its steps, and how far it has come. Only its executor writes it, under a lease. */
import { z } from 'zod';
import { commandSchema, type Command, type JobView } from '../commands/commands.ts';
import { MAX_DISKS_PER_MACHINE, MAX_MACHINES } from '../catalog/group-document.ts';
import { TidemarkError } from '../errors.ts';
import { isoFromUs } from '../model/time.ts';
import { JOB_STATES } from '../monitoring/events.ts';
import { enqueue, newOutbox, outboxSchema } from '../monitoring/outbox.ts';
import { redactSecrets } from '../telemetry/redact.ts';
import { STEP_KINDS, type MadeResource, type PlannedStep } from './plan.ts';

/** Copy, import, delete the copy, and delete the earlier disk, for each disk of the largest group; machines; and a few more. */
const MAX_STEPS = 8 * MAX_MACHINES * MAX_DISKS_PER_MACHINE;

const time = z.iso.datetime();
const name = z.string().min(1).max(63);
const text = z.string().max(200).nullable();

const stepSchema = z.strictObject({
  kind: z.enum(STEP_KINDS),
  name: z.string().min(1).max(300),
  phase: z.int().nonnegative(),
  lane: z.string().max(20),
  machine: name.nullable(),
  disk: name.nullable(),
  resource: text,
  owner: name.nullable(),
  state: z.enum(['pending', 'running', 'done', 'failed']),
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  /** Of the operation in Azure that is under way; see Resumable. */
  token: z.string().max(20_000).nullable(),
  /** How the disk comes into being: `upload` once an import was refused. */
  via: z.enum(['import', 'upload']),
  /** Resource id of what was made. */
  id: z.string().max(1000).nullable(),
});

export const jobSchema = z.strictObject({
  version: z.literal(1),
  job: name,
  group: name,
  command: commandSchema,
  requestedBy: z.string().min(1).max(200),
  createdAt: time,
  endedAt: time.nullable(),
  state: z.enum(JOB_STATES),
  /** Null until it is chosen. */
  point: name.nullable(),
  /** Jobs before this one whose resources may exist in Azure. */
  madeBy: z.array(name),
  steps: z.array(stepSchema).max(MAX_STEPS),
  error: z.strictObject({ code: z.string(), message: z.string(), hint: z.string() }).nullable(),
  result: z.record(z.string(), z.unknown()).nullable(),
  outbox: outboxSchema,
});

export type JobDocument = Readonly<z.infer<typeof jobSchema>>;
export type JobStepRecord = Readonly<z.infer<typeof stepSchema>>;

export interface NewJob {
  readonly job: string;
  readonly command: Command;
  readonly requestedBy: string;
  readonly point: string | null;
  readonly madeBy: readonly string[];
  readonly steps: readonly PlannedStep[];
  readonly nowUs: number;
}

/** With the message of its begin queued. */
export function newJob({ nowUs, madeBy, steps, ...rest }: NewJob): JobDocument {
  const document: JobDocument = {
    ...rest,
    version: 1,
    group: rest.command.group,
    createdAt: isoFromUs(nowUs),
    endedAt: null,
    state: 'running',
    madeBy: [...madeBy],
    steps: steps.map(newStep),
    error: null,
    result: null,
    outbox: newOutbox(nowUs),
  };
  return withMessage(document, null, nowUs);
}

const newStep = (step: PlannedStep): JobStepRecord => ({
  ...step,
  state: 'pending',
  startedAt: null,
  endedAt: null,
  token: null,
  via: 'import',
  id: null,
});

/** The journal with a new plan: what both have keeps how far it has come. */
export function replanned(document: JobDocument, steps: readonly PlannedStep[]): JobDocument {
  const known = new Map(document.steps.map((step) => [step.name, step]));
  return {
    ...document,
    steps: steps.map((step) => {
      const before = known.get(step.name);
      // A name that a changed setting gives to a resource holds for what is not there yet.
      if (before === undefined || (before.state === 'pending' && before.token === null)) return newStep(step);
      return { ...before, phase: step.phase, lane: step.lane };
    }),
  };
}

/** The journal in another state, with the message that says so: one write. */
export function inState(
  document: JobDocument,
  change: Pick<JobDocument, 'state' | 'error'> & Partial<Pick<JobDocument, 'result'>>,
  nowUs: number,
): JobDocument {
  if (document.state === change.state) return document;
  const endedAt = change.state === 'running' ? null : isoFromUs(nowUs);
  return withMessage({ ...document, ...change, endedAt }, document.state, nowUs);
}

function withMessage(document: JobDocument, from: JobDocument['state'] | null, nowUs: number): JobDocument {
  const { job, command, state, point, requestedBy, error } = document;
  const data = {
    job,
    command: command.command,
    from,
    to: state,
    usedPoint: point,
    requestedBy,
    code: error?.code ?? null,
    reason: error?.message ?? null,
  };
  return { ...document, outbox: enqueue(document.outbox, [{ type: 'JobChanged', data }], nowUs) };
}

/** What the journal says that may exist in Azure. Steps that have not begun count: their turn may just have come. */
export function resourcesOf({ job, steps }: JobDocument): readonly MadeResource[] {
  return steps.flatMap(({ kind, resource }): readonly MadeResource[] => {
    if (resource === null) return [];
    if (kind === 'import') return [{ kind: 'disk', resource, job }];
    return kind === 'create-machine' ? [{ kind: 'machine', resource, job }] : [];
  });
}

export const isOver = ({ state }: JobDocument): boolean => state === 'succeeded' || state === 'canceled';

export function viewOf(document: JobDocument): JobView {
  const { job, group, command, state, point, requestedBy, createdAt, endedAt, steps, error, result } = document;
  return {
    job,
    group,
    command: command.command,
    state,
    point,
    requestedBy,
    createdAt,
    endedAt,
    steps: steps.map(({ name, state, startedAt, endedAt }) => ({ name, state, startedAt, endedAt })),
    error,
    result,
  };
}

export function errorRecord(error: unknown): NonNullable<JobDocument['error']> {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const { code, message, hint } = error instanceof TidemarkError ? error : new TidemarkError('UNEXPECTED', text);
  return { code, message: redactSecrets(message), hint };
}
