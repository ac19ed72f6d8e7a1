/** Pure. The commands that people, scripts and messages give, whichever door they come through: CLI, HTTP, Service Bus. */
import { z } from 'zod';
import { MAX_PIN_TEXT_CHARS } from '../catalog/group-document.ts';

const name = z.string().min(1).max(63);
const line = z.string().min(1).max(MAX_PIN_TEXT_CHARS);

/** Which point: by what it is, or by its id. `latest` drains what was received and makes a point of it first. */
export const pointSelectorSchema = z.union([
  z.enum(['latest', 'latest-processed', 'latest-app', 'latest-crash']),
  z.string().min(1).max(63).describe('id of a point'),
]);

const point = pointSelectorSchema.default('latest-processed');

export const commandSchema = z.discriminatedUnion('command', [
  z.strictObject({
    command: z.literal('create-point'),
    group: name,
    at: z.union([z.literal('latest'), z.iso.datetime()]),
  }),
  z.strictObject({ command: z.literal('test-failover'), group: name, point }),
  z.strictObject({ command: z.literal('cleanup-test-failover'), group: name, notes: line.optional() }),
  z.strictObject({ command: z.literal('failover'), group: name, point }),
  z.strictObject({ command: z.literal('change-point'), group: name, point: pointSelectorSchema }),
  z.strictObject({ command: z.literal('commit'), group: name }),
  z.strictObject({ command: z.literal('cancel'), group: name }),
]);

export type Command = Readonly<z.infer<typeof commandSchema>>;
export type PointSelector = z.infer<typeof pointSelectorSchema>;

/** 1 to 128 printable characters, chosen by the caller: the same key gives the same job. */
export const idempotencyKeySchema = z.string().regex(/^[!-~]{1,128}$/);

export interface JobStep {
  /** Such as `copy web/disk0`. */
  readonly name: string;
  readonly state: 'pending' | 'running' | 'done' | 'failed';
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

/** What every door shows of a job. */
export interface JobView {
  readonly job: string;
  readonly group: string;
  readonly command: Command['command'];
  readonly state: 'running' | 'succeeded' | 'failed' | 'canceled';
  readonly point: string | null;
  readonly requestedBy: string;
  readonly createdAt: string;
  readonly endedAt: string | null;
  readonly steps: readonly JobStep[];
  readonly error: { readonly code: string; readonly message: string; readonly hint: string } | null;
  /** What was made: names and ids of disks and machines, or the id of the point. */
  readonly result: Readonly<Record<string, unknown>> | null;
}

/** What a command would do now. */
export interface CommandPlan {
  readonly group: string;
  readonly command: Command['command'];
  /** Null where none is used, or where one is to be made first. */
  readonly point: string | null;
  /** Names of the steps, in their order. */
  readonly steps: readonly string[];
}

/** The one implementation behind all doors. */
export interface CommandService {
  /** Changes nothing. @throws TidemarkError as `submit` does, but for its key */
  plan(command: Command, signal: AbortSignal): Promise<CommandPlan>;
  /**
   * Journals the command as a job, after which it survives any crash; executes nothing yet. The same `idempotencyKey` for the same
   * group gives the same job, finished or not.
   * @throws TidemarkError USAGE when the command or the key is malformed; GROUP_NOT_FOUND, GROUP_DISABLED, POINT_NOT_FOUND;
   * GROUP_PINNED when a commit would delete pinned points; FAILOVER_STATE with what is allowed now; IDEMPOTENCY_CONFLICT when the key was
   * used for another command
   */
  submit(
    command: Command,
    options: { readonly idempotencyKey?: string; readonly requestedBy: string },
    signal: AbortSignal,
  ): Promise<JobView>;
  /**
   * Executes a job from where it is to its end; one that has succeeded or was canceled is returned as it is, one that has failed goes on
   * where it failed. Takes it over from whoever executes it.
   * @throws TidemarkError JOB_NOT_FOUND; OWNERSHIP_LOST when another executor took it over. A failure of the job itself is its outcome.
   */
  execute(
    group: string,
    job: string,
    options: { readonly onProgress?: (job: JobView) => void },
    signal: AbortSignal,
  ): Promise<JobView>;
  /** @throws TidemarkError JOB_NOT_FOUND */
  job(group: string, job: string, signal: AbortSignal): Promise<JobView>;
  /** The job of that id, whatever its group. @throws TidemarkError JOB_NOT_FOUND */
  findJob(job: string, signal: AbortSignal): Promise<JobView>;
  /** Newest first. */
  jobs(group: string, signal: AbortSignal): Promise<readonly JobView[]>;
}
