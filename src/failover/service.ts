/** The one implementation behind all doors: journals commands as jobs, and executes them. */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { createDocument, readDocument, readDocuments } from '../catalog/documents.ts';
import { getGroup, listGroups, operationStates, type GroupDocument } from '../catalog/groups.ts';
import {
  commandSchema,
  idempotencyKeySchema,
  type Command,
  type CommandService,
  type JobView,
} from '../commands/commands.ts';
import { TidemarkError } from '../errors.ts';
import { catalogName, requireName } from '../model/names.ts';
import { claimedGroup, claimGroup, operationOf } from './claims.ts';
import { endJob } from './end-job.ts';
import { executeJob } from './execute.ts';
import { choose } from './hold-step.ts';
import { errorRecord, jobSchema, newJob, resourcesOf, viewOf, type JobDocument } from './job-document.ts';
import { readJob } from './job-run.ts';
import { planSteps, type PlannedStep } from './plan.ts';
import { requireCompute, type FailoverPorts } from './ports.ts';
import { targetsOf } from './set-target.ts';
import { ENDED_DRILL, ENDED_FAILOVER, trackOf } from './states.ts';
import { disksOf } from './steps.ts';

/** Hex digits of an id that follows from a key: enough that no two keys of a group ever meet. */
const KEYED_ID_DIGITS = 32;
const MAX_REQUESTER_CHARS = 200;

export function createCommandService(ports: FailoverPorts): CommandService {
  return {
    submit: (command, options, signal) => submit(ports, { ...options, command: parseCommand(command) }, signal),
    plan: async (given, signal) => {
      const command = parseCommand(given);
      const group = await getGroup(ports.catalog, command.group, signal);
      const { point, steps } = await planFor(ports, { group, command, job: ports.newId() }, signal);
      return { group: command.group, command: command.command, point, steps: steps.map(({ name }) => name) };
    },
    execute: (group, job, { onProgress = () => undefined }, signal) =>
      executeJob(ports, jobName(group, job), onProgress, signal),
    job: async (group, job, signal) => viewOf(await readJob(ports, jobName(group, job), signal)),
    jobs: async (group, signal) => {
      const prefix = catalogName.jobs(requireName('group', group));
      const documents = await readDocuments(ports.catalog, prefix, jobSchema, signal);
      return documents.map(viewOf).toSorted(newestFirst);
    },
    findJob: (job, signal) => findJob(ports, job, signal),
  };
}

const newestFirst = (a: JobView, b: JobView): number =>
  a.createdAt === b.createdAt ? (a.job < b.job ? -1 : 1) : a.createdAt < b.createdAt ? 1 : -1;

function jobName(group: string, job: string): { readonly group: string; readonly job: string } {
  requireName('group', group);
  if (/^[A-Za-z0-9-]{1,63}$/.test(job)) return { group, job };
  throw new TidemarkError('JOB_NOT_FOUND', `${JSON.stringify(job.slice(0, 80))} is no id of a job`);
}

async function findJob(ports: FailoverPorts, job: string, signal: AbortSignal): Promise<JobView> {
  for (const group of await listGroups(ports.catalog, signal)) {
    const stored = await readDocument(
      ports.catalog,
      catalogName.job(group, jobName(group, job).job),
      jobSchema,
      signal,
    );
    if (stored !== undefined) return viewOf(stored.value);
  }
  throw new TidemarkError('JOB_NOT_FOUND', `no group has a job ${JSON.stringify(job)}`);
}

/** @throws TidemarkError USAGE, NAME_INVALID */
function parseCommand(command: Command): Command {
  const parsed = commandSchema.safeParse(command);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new TidemarkError(
      'USAGE',
      `command: ${issue?.path.map(String).join('.') ?? ''}: ${issue?.message ?? 'malformed'}`,
    );
  }
  requireName('group', parsed.data.group);
  return parsed.data;
}

interface Submission {
  readonly command: Command;
  readonly idempotencyKey?: string;
  readonly requestedBy: string;
}

/** The id that a key gives. Another group may use the same key. @throws TidemarkError USAGE */
export function keyedId(group: string, key: string): string {
  if (!idempotencyKeySchema.safeParse(key).success) {
    throw new TidemarkError('USAGE', 'an idempotency key is 1 to 128 printable characters without spaces');
  }
  return createHash('sha256').update(`${group}\n${key}`).digest('hex').slice(0, KEYED_ID_DIGITS);
}

/**
 * The journal is written before the claim that names it: a claim always has a journal. A journal without a claim, which a crash in between
 * leaves, claims when it is executed or submitted again.
 */
async function submit(ports: FailoverPorts, submission: Submission, signal: AbortSignal): Promise<JobView> {
  const { command, idempotencyKey, requestedBy } = submission;
  if (!/^\P{Cc}+$/u.test(requestedBy) || requestedBy.length > MAX_REQUESTER_CHARS) {
    throw new TidemarkError('USAGE', `who asks is one line of 1 to ${MAX_REQUESTER_CHARS} characters`);
  }
  const { catalog, clock } = ports;
  const job = idempotencyKey === undefined ? ports.newId() : keyedId(command.group, idempotencyKey);
  const name = catalogName.job(command.group, job);
  const known = idempotencyKey === undefined ? undefined : await readDocument(catalog, name, jobSchema, signal);
  if (known !== undefined) return resubmit(ports, known.value, command, signal);
  const group = await getGroup(catalog, command.group, signal);
  const { point, steps } = await planFor(ports, { group, command, job }, signal);
  await settle(ports, group, command, signal);
  const document = newJob({ job, command, requestedBy, point, madeBy: [], steps, nowUs: clock.nowUs() });
  if ((await createDocument(catalog, name, jobSchema, document, signal)) === undefined) {
    return resubmit(ports, await readJob(ports, document, signal), command, signal); // the same key, at the same moment
  }
  return claim(ports, document, signal);
}

/** @throws TidemarkError IDEMPOTENCY_CONFLICT */
async function resubmit(
  ports: FailoverPorts,
  known: JobDocument,
  command: Command,
  signal: AbortSignal,
): Promise<JobView> {
  if (!isDeepStrictEqual(known.command, command)) {
    const message = `the key belongs to job ${known.job}, which is another command: ${JSON.stringify(known.command)}`;
    throw new TidemarkError('IDEMPOTENCY_CONFLICT', message);
  }
  const isClaimed = known.steps.every(({ kind, state }) => kind !== 'claim' || state === 'done');
  return known.state !== 'running' || isClaimed ? viewOf(known) : claim(ports, known, signal);
}

/** A refusal here means that another command came between: the job has failed, and says so. */
async function claim(ports: FailoverPorts, document: JobDocument, signal: AbortSignal): Promise<JobView> {
  const { job, group, command, point } = document;
  try {
    await claimGroup(ports.catalog, { job, command, point, nowUs: ports.clock.nowUs() }, signal);
  } catch (error) {
    if (error instanceof TidemarkError && error.class === 'operator') {
      await endJob(ports, { group, job, state: 'failed', error: errorRecord(error) }, signal);
    }
    throw error;
  }
  return viewOf(document);
}

interface PlanFor {
  readonly group: GroupDocument;
  readonly command: Command;
  readonly job: string;
}

/** @throws TidemarkError what {@link claimedGroup} refuses with; POINT_NOT_FOUND; CONFIG_MISSING without Azure Compute */
async function planFor(
  ports: FailoverPorts,
  { group, command, job }: PlanFor,
  signal: AbortSignal,
): Promise<{ readonly point: string | null; readonly steps: readonly PlannedStep[] }> {
  if (trackOf(command.command) !== undefined) requireCompute(ports);
  claimedGroup(group, { job, command, point: null, nowUs: ports.clock.nowUs() });
  const selector = 'point' in command ? command.point : undefined;
  const manifest =
    selector === undefined || selector === 'latest'
      ? undefined
      : await choose(ports, { group: group.group, selector }, signal);
  const madeBy = operationOf(group, command.command)?.made ?? [];
  const earlier = await Promise.all(madeBy.map((other) => readJob(ports, { group: group.group, job: other }, signal)));
  const steps = planSteps({
    job,
    command,
    disks: manifest?.disks ?? disksOf(group),
    targets: targetsOf(group),
    made: earlier.flatMap(resourcesOf),
    madeBy,
  });
  return { point: manifest?.point ?? null, steps };
}

/**
 * A job that ended its claim and died before it said so has succeeded. Said here, before the next claim forgets about it; a claim from a
 * state in which a job is under way is the next job's to sort out.
 */
async function settle(
  ports: FailoverPorts,
  group: GroupDocument,
  command: Command,
  signal: AbortSignal,
): Promise<void> {
  const before = operationOf(group, command.command);
  if (before === undefined) return;
  const { failover, drill } = operationStates(group);
  const isEnded = before === group.drill ? ENDED_DRILL[drill] === undefined : ENDED_FAILOVER[failover] === undefined;
  if (isEnded) await endJob(ports, { group: group.group, job: before.job, state: 'succeeded' }, signal);
}
