/** Pure. Commands and jobs as the doors take and show them: checked on the way in, and on the way out. */
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import { JOB_STATES } from '../monitoring/events.ts';
import { commandSchema, type Command, type JobView } from './commands.ts';

/** Far above the longest command. */
export const MAX_COMMAND_BYTES = 16_384;

const COMMAND_NAMES = commandSchema.options.map(({ shape }) => shape.command.value);

const time = z.iso.datetime();

export const jobErrorSchema = z.strictObject({ code: z.string(), message: z.string(), hint: z.string() });

export const jobViewSchema = z.strictObject({
  job: z.string(),
  group: z.string(),
  command: z.enum(COMMAND_NAMES),
  state: z.enum(JOB_STATES),
  point: z.string().nullable().describe('id of the point; null until it is chosen'),
  requestedBy: z.string(),
  createdAt: time,
  endedAt: time.nullable(),
  steps: z.array(
    z.strictObject({
      name: z.string().describe('such as `copy web/disk0`'),
      state: z.enum(['pending', 'running', 'done', 'failed']),
      startedAt: time.nullable(),
      endedAt: time.nullable(),
    }),
  ),
  error: jobErrorSchema.nullable(),
  result: z
    .record(z.string(), z.unknown())
    .nullable()
    .describe('what was made: names and ids of disks and machines, or the id of the point'),
}) satisfies z.ZodType<JobView>;

/** Whether nothing is left to execute, unless a failed job is resumed. */
export const hasEnded = ({ state }: Pick<JobView, 'state'>): boolean => state !== 'running';

/**
 * The command in a body that may leave out its group, since the path or the session names it.
 * @throws TidemarkError COMMAND_INVALID
 */
export function commandFor(group: string, body: unknown): Command {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new TidemarkError('COMMAND_INVALID', 'the command is no JSON object');
  }
  if ('group' in body && body.group !== group) {
    throw new TidemarkError('COMMAND_INVALID', `group: the command is for another group than ${group}`);
  }
  const parsed = commandSchema.safeParse({ ...body, group });
  if (parsed.success) return parsed.data;
  throw new TidemarkError('COMMAND_INVALID', issueText(parsed.error));
}

/** The first issue, which says enough: `point: Invalid input`. */
export function issueText({ issues: [issue] }: z.core.$ZodError): string {
  const path = issue?.path.map(String).join('.') ?? '';
  return `${path === '' ? 'command' : path}: ${issue?.message ?? 'malformed'}`;
}
