/** What the HTTP door is given, and what its handlers have in common. */
import type { OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { CommandService } from '../commands/commands.ts';
import type { JobId, JobRunner } from '../commands/job-runner.ts';
import { issueText } from '../commands/job-view.ts';
import { assert } from '../errors.ts';
import type { WorkerPorts } from '../worker/ports.ts';
import type { Caller, Verifier } from './auth.ts';

export interface ApiOptions {
  readonly ports: Omit<WorkerPorts, 'topic'>;
  readonly commands: CommandService;
  readonly runner: JobRunner;
  /** Has a job executed somewhere, and resolves when that is sure; by default it is executed here, in the background. */
  readonly begin?: (job: JobId, signal: AbortSignal) => Promise<void>;
  readonly verifiers: readonly Verifier[];
  /** Told of defects, and of jobs that could not be executed to an end. */
  readonly report: (error: unknown) => void;
  /** Ends requests and what they wait for. */
  readonly signal: AbortSignal;
}

export interface ApiEnvironment {
  Variables: { caller: Caller; signal: AbortSignal };
}

export type ApiContext = Context<ApiEnvironment>;

export type Api = OpenAPIHono<ApiEnvironment>;

/** The answer, checked by the schema that describes it. */
export function checked<T>(schema: z.ZodType<T>, value: T): T {
  const result = schema.safeParse(value);
  assert(result.success, `an answer does not match its schema: ${result.success ? '' : issueText(result.error)}`);
  return value;
}
