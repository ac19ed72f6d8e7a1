/** Pure. The recovery plan that an operator writes: plan groups in order, what is failed over in each, and actions around them. */
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';

/** ASR: a recovery plan has at most 7 groups and 100 machines. */
export const MAX_PLAN_GROUPS = 7;
export const MAX_PLAN_MACHINES = 100;
/** Our choice: more than that before one boot step is a program, which a script action can call. */
export const MAX_ACTIONS = 10;
/** Our choice, of a plan file. */
export const MAX_PLAN_BYTES = 256 * 1024;
/** Our choice: a week, the longest that anything in a plan may take. */
export const MAX_TIMEOUT_MINUTES = 7 * 24 * 60;
/** Problems of a plan that a message spells out. */
const MAX_PROBLEMS = 50;

const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;

const label = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/, 'a name has 1-40 small letters, digits and dashes');
const groupName = z
  .string()
  .refine((name) => NAME.test(name) && !name.includes('..'), 'is no name of a consistency group');
const timeoutMinutes = z.number().min(0.01).max(MAX_TIMEOUT_MINUTES);
const onFailure = z.enum(['stop', 'continue']);
const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,99}$/, 'is no name of an environment variable');
const path = z
  .string()
  .min(1)
  .max(1000)
  .refine((text) => !text.includes('\0'), 'is no path');

/** Where a secret is, never the secret itself. */
const secretSourceSchema = z.union([z.strictObject({ env: variable }), z.strictObject({ file: path })], {
  error: 'must be { "env": NAME } or { "file": PATH }',
});

export type SecretSource = z.infer<typeof secretSourceSchema>;

/** What is wrong with a webhook's address; undefined when nothing is. */
export function urlProblem(text: string): string | undefined {
  if (!URL.canParse(text)) return 'is no URL';
  const { protocol, hostname, username, password } = new URL(text);
  if (username !== '' || password !== '') return 'must not hold a user or a password';
  if (protocol === 'https:' || (protocol === 'http:' && LOOPBACK.test(hostname))) return undefined;
  return 'must be https, or http to this machine';
}

const webhookUrl = z
  .string()
  .max(2000)
  .superRefine((text, context) => {
    const problem = urlProblem(text);
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
  });

const common = {
  name: label,
  onFailure: onFailure.optional(),
  timeoutMinutes: timeoutMinutes.optional(),
  testOnly: z.boolean().default(false),
  skipInTest: z.boolean().default(false),
};

export const actionSchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('webhook'),
    ...common,
    /** With a secret source: an address that is itself a secret, such as one with a signature in its query. */
    url: z.union([webhookUrl, secretSourceSchema]),
    secret: secretSourceSchema,
    /** Of one request, the answer included. */
    timeoutSeconds: z.number().min(0.1).max(300).default(30),
    /** Requests in all. */
    attempts: z.int().min(1).max(10).default(5),
  }),
  z.strictObject({
    type: z.literal('script'),
    ...common,
    command: z.array(z.string().min(1).max(4000)).min(1).max(100),
    cwd: path.optional(),
    /** Variables that the script gets of the executor's environment, beside the facts. */
    env: z.array(variable).max(50).default(['PATH']),
    afterCrash: z.enum(['atLeastOnce', 'askFirst']).default('atLeastOnce'),
  }),
  z.strictObject({
    type: z.literal('manual'),
    ...common,
    instructions: z.string().min(1).max(2000),
    onTimeout: z.enum(['fail', 'continue']).default('fail'),
  }),
]);

export type Action = Readonly<z.infer<typeof actionSchema>>;
export type WebhookAction = Extract<Action, { type: 'webhook' }>;
export type ScriptAction = Extract<Action, { type: 'script' }>;
export type ManualAction = Extract<Action, { type: 'manual' }>;

/** No ids of points: a plan outlives them. */
export const planPointSchema = z.enum(['latest', 'latest-processed', 'latest-app', 'latest-crash']);
export type PlanPoint = z.infer<typeof planPointSchema>;

const memberSchema = z.preprocess(
  (value) => (typeof value === 'string' ? { group: value } : value),
  z.strictObject({
    group: groupName,
    point: planPointSchema.optional(),
    onFailure: onFailure.optional(),
    timeoutMinutes: timeoutMinutes.optional(),
  }),
);

const planGroupSchema = z.strictObject({
  name: label,
  pre: z.array(actionSchema).max(MAX_ACTIONS).default([]),
  failover: z.array(memberSchema).max(MAX_PLAN_MACHINES).default([]),
  post: z.array(actionSchema).max(MAX_ACTIONS).default([]),
});

const shape = z.strictObject({
  version: z.literal(1),
  name: label,
  onFailure: onFailure.default('stop'),
  /** Of each failover, script and webhook that has none of its own; manual actions wait for ever unless they say otherwise. */
  timeoutMinutes: timeoutMinutes.default(240),
  point: planPointSchema.default('latest-processed'),
  /** All groups fail over to the latest moment that all of them have reached. */
  common: z.boolean().default(false),
  groups: z.array(planGroupSchema).min(1).max(MAX_PLAN_GROUPS),
});

export const planFileSchema = shape.superRefine((plan, context) => {
  for (const { path, message } of problemsOf(plan)) context.addIssue({ code: 'custom', path: [...path], message });
});

export type PlanFile = Readonly<z.infer<typeof planFileSchema>>;

interface Problem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** What single fields cannot say. */
function problemsOf(plan: z.infer<typeof shape>): readonly Problem[] {
  const places = plan.groups.reduce((sum, { failover }) => sum + failover.length, 0);
  const problems: Problem[] = repeated(plan.groups, ({ name }) => name, ['groups'], 'name');
  if (places === 0) problems.push({ path: ['groups'], message: 'no group fails anything over' });
  if (places > MAX_PLAN_MACHINES) {
    problems.push({ path: ['groups'], message: `${places} failovers; a plan has at most ${MAX_PLAN_MACHINES}` });
  }
  if (plan.common && plan.point === 'latest') problems.push({ path: ['point'], message: NO_COMMON_LATEST });
  for (const [index, { pre, failover, post }] of plan.groups.entries()) {
    const at = ['groups', index];
    problems.push(...repeated(failover, ({ group }) => group, [...at, 'failover'], 'group'));
    for (const [phase, actions] of Object.entries({ pre, post })) {
      problems.push(...repeated(actions, ({ name }) => name, [...at, phase], 'name'));
      for (const [nth, { testOnly, skipInTest }] of actions.entries()) {
        const message = 'testOnly and skipInTest exclude each other';
        if (testOnly && skipInTest) problems.push({ path: [...at, phase, nth, 'testOnly'], message });
      }
    }
    for (const [nth, { point }] of failover.entries()) {
      const message = 'with "common" all groups have the point of the plan';
      if (plan.common && point !== undefined) problems.push({ path: [...at, 'failover', nth, 'point'], message });
    }
  }
  return problems;
}

export const NO_COMMON_LATEST =
  'latest makes a point per group at a moment of its own; with "common" use latest-processed';

function repeated<T>(
  items: readonly T[],
  keyOf: (item: T) => string,
  path: readonly (string | number)[],
  field: string,
): Problem[] {
  const first = new Map<string, number>();
  return items.flatMap((item, index) => {
    const key = keyOf(item);
    const before = first.get(key);
    if (before === undefined) first.set(key, index);
    return before === undefined
      ? []
      : [{ path: [...path, index, field], message: `${JSON.stringify(key)} is there already, at ${before}` }];
  });
}

/** @throws TidemarkError PLAN_INVALID with every problem and its place */
export function parsePlan(text: string): PlanFile {
  if (Buffer.byteLength(text) > MAX_PLAN_BYTES) {
    throw new TidemarkError('PLAN_INVALID', `the plan has more than ${MAX_PLAN_BYTES} bytes`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TidemarkError('PLAN_INVALID', `the plan is no JSON: ${cause instanceof Error ? cause.message : ''}`, {
      cause,
    });
  }
  const parsed = planFileSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw planInvalid(parsed.error.issues.map(({ path, message }) => `${placeOf(path)}: ${message}`));
}

export function planInvalid(problems: readonly string[]): TidemarkError {
  const more = problems.length - MAX_PROBLEMS;
  const shown = problems.slice(0, MAX_PROBLEMS).join('; ');
  return new TidemarkError('PLAN_INVALID', more > 0 ? `${shown}; and ${more} more` : shown);
}

/** `groups[1].pre[0].url`. */
export function placeOf(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'plan';
  return path
    .map((key, at) => (typeof key === 'number' ? `[${key}]` : `${at === 0 ? '' : '.'}${String(key)}`))
    .join('');
}
