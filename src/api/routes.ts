/** The routes as data: who may call them, what they take, what they answer. */
import { createRoute, z } from '@hono/zod-openapi';
import type { Permission } from './auth.ts';
import { PROBLEM_TYPE } from './problem.ts';
import {
  commandBodySchema,
  groupParams,
  groupSchema,
  groupStatusSchema,
  healthSchema,
  jobParams,
  jobSchema,
  keyHeaders,
  pageOf,
  pageQuery,
  pointSchema,
  problemSchema,
  waitQuery,
} from './schemas.ts';

const STATUS_TEXT = {
  400: 'The request is malformed.',
  401: 'No token, or none that is good.',
  403: 'The token lacks the role.',
  404: 'There is no such thing.',
  409: 'The state of the group, or the key, does not allow it.',
  413: 'The body is too large.',
  415: 'The body is not JSON.',
  422: 'The body is no command that can be carried out.',
  500: 'A defect, or settings of the server that are wrong.',
  503: 'It may succeed later; Retry-After says when to try again.',
} as const;

type ProblemStatus = keyof typeof STATUS_TEXT;

/** Of every route that needs a token. */
const COMMON: readonly ProblemStatus[] = [400, 401, 403, 500, 503];
const retryAfter = z.object({ 'Retry-After': z.string().describe('seconds') });

function problems(...statuses: readonly ProblemStatus[]) {
  const of = (status: ProblemStatus) => ({
    description: STATUS_TEXT[status],
    content: { [PROBLEM_TYPE]: { schema: problemSchema } },
    ...(status === 503 && { headers: retryAfter }),
  });
  return Object.fromEntries([...COMMON, ...statuses].toSorted((a, b) => a - b).map((status) => [status, of(status)]));
}

const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { 'application/json': { schema } },
});

const accepted = {
  ...json(jobSchema, 'The job; it is executed whether the caller waits or not.'),
  headers: z.object({ Location: z.string().describe('where to look at the job') }),
};

const security = [{ bearer: [] }];

export const listGroupsRoute = createRoute({
  method: 'get',
  path: '/v1/groups',
  operationId: 'listGroups',
  summary: 'Groups, by name',
  security,
  request: { query: pageQuery },
  responses: { 200: json(pageOf('Groups', groupSchema), 'A page of groups.'), ...problems() },
});

export const groupRoute = createRoute({
  method: 'get',
  path: '/v1/groups/{group}',
  operationId: 'getGroup',
  summary: 'How a group stands: state, RPOs, backlog, health',
  security,
  request: { params: groupParams },
  responses: { 200: json(groupStatusSchema, 'The status of the group.'), ...problems(404, 409) },
});

export const pointsRoute = createRoute({
  method: 'get',
  path: '/v1/groups/{group}/points',
  operationId: 'listPoints',
  summary: 'Recovery points of a group, oldest first',
  security,
  request: { params: groupParams, query: pageQuery },
  responses: { 200: json(pageOf('Points', pointSchema), 'A page of points.'), ...problems(404) },
});

export const commandsRoute = createRoute({
  method: 'post',
  path: '/v1/groups/{group}/commands',
  operationId: 'giveCommand',
  summary: 'Give a command; it becomes a job',
  security,
  request: {
    params: groupParams,
    headers: keyHeaders,
    body: { required: true, content: { 'application/json': { schema: commandBodySchema } } },
  },
  responses: { 202: accepted, ...problems(404, 409, 413, 415, 422) },
});

export const jobsRoute = createRoute({
  method: 'get',
  path: '/v1/groups/{group}/jobs',
  operationId: 'listJobs',
  summary: 'Jobs of a group, newest first',
  security,
  request: { params: groupParams, query: pageQuery },
  responses: { 200: json(pageOf('Jobs', jobSchema), 'A page of jobs.'), ...problems(404) },
});

export const jobRoute = createRoute({
  method: 'get',
  path: '/v1/groups/{group}/jobs/{job}',
  operationId: 'getJob',
  summary: 'A job; with `wait`, answered once it has ended or the time is over',
  security,
  request: { params: jobParams, query: waitQuery },
  responses: { 200: json(jobSchema, 'The job as it is.'), ...problems(404) },
});

export const resumeRoute = createRoute({
  method: 'post',
  path: '/v1/groups/{group}/jobs/{job}/resume',
  operationId: 'resumeJob',
  summary: 'Go on with a job that failed or that nobody executes',
  security,
  request: { params: jobParams },
  responses: { 202: accepted, ...problems(404) },
});

export const healthRoute = createRoute({
  method: 'get',
  path: '/healthz',
  operationId: 'getHealth',
  summary: 'Whether this process answers; no token needed',
  responses: { 200: json(healthSchema, 'It does.') },
});

export const openApiRoute = createRoute({
  method: 'get',
  path: '/openapi.json',
  operationId: 'getOpenApi',
  summary: 'This document; no token needed',
  responses: { 200: json(z.record(z.string(), z.unknown()), 'An OpenAPI 3.1 document.') },
});

/** What a caller must be allowed to do: everything below `/v1`, by method. */
export const permissionFor = (method: string): Permission => (method === 'POST' ? 'command' : 'read');

export const ROUTES = [
  listGroupsRoute,
  groupRoute,
  pointsRoute,
  commandsRoute,
  jobsRoute,
  jobRoute,
  resumeRoute,
  healthRoute,
  openApiRoute,
] as const;

/** Methods that the path is served by, in another method's stead. */
export function methodsOf(path: string): readonly string[] {
  return ROUTES.filter((route) =>
    new RegExp(`^${route.path.replaceAll(/\{\w+\}/g, '[^/]+').replaceAll('.', '\\.')}$`).test(path),
  ).map(({ method }) => method.toUpperCase());
}
