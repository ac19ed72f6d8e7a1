/** What requests and answers look like: the same schemas check both, and make the OpenAPI document. */
import { z } from '@hono/zod-openapi';
import { commandSchema, idempotencyKeySchema } from '../commands/commands.ts';
import { jobViewSchema } from '../commands/job-view.ts';
import { ERROR_CATALOGUE, type ErrorCode } from '../errors.ts';
import { POINT_KINDS, type PointSummary } from '../points/manifest.ts';
import { DISK_STATES } from '../worker/progress.ts';
import type { GroupStatus } from '../worker/status.ts';
import type { Problem } from './problem.ts';

/** Longest wait of a long poll. */
export const MAX_WAIT_SECONDS = 60;
export const MAX_PAGE = 500;
const DEFAULT_PAGE = 100;

const time = z.iso.datetime();
const moment = time.nullable();
const bytes = z.int().nonnegative();
const seconds = z.number().nullable();

/** The commands of the service; the path names the group, the body may repeat it. */
export const commandBodySchema: z.ZodType = z
  .discriminatedUnion(
    'command',
    commandSchema.options.map((option) => z.strictObject({ ...option.shape }).partial({ group: true })) as unknown as [
      (typeof commandSchema.options)[0],
    ],
  )
  .openapi('Command');

export const jobSchema = z.strictObject(jobViewSchema.shape).openapi('Job');

const SYMPTOMS = [
  'RESYNC_REQUIRED',
  'NO_HEARTBEAT',
  'NO_CRASH_CONSISTENT_POINT',
  'RPO_EXCEEDED',
  'NO_APP_CONSISTENT_POINT',
  'SOURCE_CLOCK_AHEAD',
] as const;

const operationSchema = z.strictObject({
  state: z.string(),
  job: z.string(),
  point: z.string().nullable(),
  since: time,
});

export const groupStatusSchema = z
  .strictObject({
    group: z.string(),
    policy: z.string(),
    wanted: z.string(),
    state: z.string(),
    receivedRpoSeconds: seconds,
    recoverableRpoSeconds: seconds,
    backlogBytes: bytes,
    etaSeconds: seconds,
    points: z.int().nonnegative(),
    newestPoint: z.string().nullable(),
    newestAppPoint: z.string().nullable(),
    health: z.string(),
    symptoms: z.array(
      z.strictObject({ code: z.enum(SYMPTOMS), severity: z.enum(['warning', 'critical']), text: z.string() }),
    ),
    messagesWaiting: z.int().nonnegative(),
    failover: operationSchema.nullable(),
    testFailover: operationSchema.nullable(),
    lastTestFailover: z
      .strictObject({
        at: time,
        job: z.string(),
        point: z.string().nullable(),
        outcome: z.enum(['succeeded', 'failed']),
        notes: z.string().nullable(),
      })
      .nullable(),
    advice: z.string().nullable(),
    disks: z.array(
      z.strictObject({
        machine: z.string(),
        disk: z.string(),
        state: z.enum(DISK_STATES),
        sizeBytes: bytes,
        epoch: z.int().positive(),
        receivedThrough: moment,
        appliedThrough: moment,
        lagSeconds: seconds,
        backlogSegments: z.int().nonnegative(),
        backlogBytes: bytes,
        defect: z.strictObject({ code: z.string(), blob: z.string(), reason: z.string() }).nullable(),
      }),
    ),
  })
  .openapi('GroupStatus') satisfies z.ZodType<GroupStatus>;

export const groupSchema = z
  .strictObject({
    group: z.string(),
    policy: z.string(),
    wanted: z.enum(['active', 'paused', 'disabled']),
    machines: z.int().nonnegative(),
    disks: z.int().nonnegative(),
    failover: z.string().describe('state of the failover; `none` without one'),
    testFailover: z.string(),
  })
  .openapi('Group');

export const pointSchema = z
  .strictObject({
    id: z.string(),
    kind: z.enum(POINT_KINDS),
    cut: time,
    created: time,
    disks: z.array(z.strictObject({ machine: z.string(), disk: z.string(), sizeBytes: bytes, changedBytes: bytes })),
    pinned: z.boolean(),
    verified: z
      .strictObject({
        at: time,
        ok: z.boolean(),
        bytes: z.boolean().describe('false: only inspected, the bytes were not read back'),
      })
      .nullable(),
  })
  .openapi('Point') satisfies z.ZodType<PointSummary>;

export const problemSchema = z
  .strictObject({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.enum(Object.keys(ERROR_CATALOGUE) as ErrorCode[]),
    hint: z.string(),
  })
  .openapi('Problem') satisfies z.ZodType<Problem>;

export const healthSchema = z
  .strictObject({ status: z.literal('ok'), jobsUnderWay: z.int().nonnegative() })
  .openapi('Health');

/** A page of a list. */
export const pageOf = <T extends z.ZodType>(name: string, item: T) =>
  z
    .strictObject({
      items: z.array(item),
      next: z.string().nullable().describe('`after` of the next page; null on the last one'),
    })
    .openapi(name);

const whole = (least: number, most: number) =>
  z
    .string()
    .regex(/^\d{1,4}$/, 'must be a whole number')
    .transform(Number)
    .pipe(z.int().min(least).max(most));

export const groupParams = z.object({ group: z.string().min(1).max(63) });
export const jobParams = z.object({ group: z.string().min(1).max(63), job: z.string().min(1).max(63) });

export const pageQuery = z.strictObject({
  limit: whole(1, MAX_PAGE)
    .default(DEFAULT_PAGE)
    .openapi({ type: 'integer', minimum: 1, maximum: MAX_PAGE, default: DEFAULT_PAGE }),
  after: z.string().min(1).max(63).optional().describe('the `next` of the page before'),
});

export const waitQuery = z.strictObject({
  wait: whole(0, MAX_WAIT_SECONDS)
    .default(0)
    .openapi({ type: 'integer', minimum: 0, maximum: MAX_WAIT_SECONDS, default: 0 })
    .describe('seconds to wait for the end of the job, at most'),
});

export const keyHeaders = z.object({
  'idempotency-key': idempotencyKeySchema
    .optional()
    .describe('chosen by the caller: the same key for the same group gives the same job'),
});
