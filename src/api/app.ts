/** The HTTP door: requests in, the one command service behind. Knows nothing of sockets. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { HTTPException } from 'hono/http-exception';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { isJson } from '../commands/messages.ts';
import { issueText, MAX_COMMAND_BYTES } from '../commands/job-view.ts';
import { TidemarkError } from '../errors.ts';
import { authenticate, requirePermission } from './auth.ts';
import type { Api, ApiContext, ApiEnvironment, ApiOptions } from './context.ts';
import { addHandlers } from './handlers.ts';
import { openApiDocument } from './openapi.ts';
import { problemHeaders, problemOf } from './problem.ts';
import { healthRoute, methodsOf, openApiRoute, permissionFor } from './routes.ts';
import { MAX_WAIT_SECONDS } from './schemas.ts';

/** Requests under way; more are answered with BUSY. */
export const MAX_REQUESTS = 64;
/** What a request may take, beside what it asks to wait. */
export const REQUEST_LIMIT_MS = 30_000;

export function createApi(options: ApiOptions): Api {
  const api: Api = new OpenAPIHono<ApiEnvironment>({
    defaultHook: (result) => {
      if (result.success) return;
      const text = `${result.target}: ${issueText(result.error)}`;
      throw new TidemarkError(result.target === 'json' ? 'COMMAND_INVALID' : 'REQUEST_INVALID', text);
    },
  });
  let requests = 0;
  api.use(async (c, next) => {
    c.header('cache-control', 'no-store');
    c.header('x-content-type-options', 'nosniff');
    if (requests >= MAX_REQUESTS) throw new TidemarkError('BUSY', `${MAX_REQUESTS} requests are under way`);
    requests++;
    try {
      await withinTime(options, c, next);
    } finally {
      requests--;
    }
  });
  api.use('/v1/*', async (c, next) => {
    const caller = await authenticate(options.verifiers, c.req.header('authorization'), c.get('signal'));
    requirePermission(caller, permissionFor(c.req.method));
    c.set('caller', caller);
    await next();
  });
  api.use('/v1/*', bodyLimit({ maxSize: MAX_COMMAND_BYTES, onError: tooLarge }));
  api.post('/v1/groups/:group/commands', async (c, next) => {
    const type = c.req.header('content-type') ?? '';
    if (!isJson(type)) throw new TidemarkError('MEDIA_TYPE', `content type ${JSON.stringify(type)} is not JSON`);
    await next();
  });
  addHandlers(api, options);
  addOpenRoutes(api, options);
  api.notFound((c) => answerProblem(c, unserved(c.req.method, c.req.path)));
  api.onError((error, c) => answerProblem(c, asProblem(error, options), methodsOf(c.req.path)));
  return api;
}

function addOpenRoutes(api: Api, options: ApiOptions): void {
  api.openapi(healthRoute, (c) => c.json({ status: 'ok' as const, jobsUnderWay: options.runner.underWay }, 200));
  api.openapi(openApiRoute, (c) => c.json(openApiDocument(), 200));
}

async function withinTime({ signal }: ApiOptions, c: ApiContext, next: () => Promise<void>): Promise<void> {
  const deadline = new AbortController();
  const asked = Number(c.req.query('wait') ?? 0);
  const waitMs = asked >= 0 && asked <= MAX_WAIT_SECONDS ? asked * 1000 : 0;
  const limitMs = REQUEST_LIMIT_MS + waitMs;
  const late = (): void =>
    deadline.abort(new TidemarkError('REQUEST_TIMEOUT', `not answered within ${limitMs / 1000} s`));
  const timer = setTimeout(late, limitMs);
  try {
    c.set('signal', AbortSignal.any([signal, deadline.signal]));
    await next();
  } finally {
    clearTimeout(timer);
  }
}

function tooLarge(): never {
  throw new TidemarkError('REQUEST_TOO_LARGE', `the body has more than ${MAX_COMMAND_BYTES} bytes`);
}

function unserved(method: string, path: string): TidemarkError {
  if (methodsOf(path).length > 0)
    return new TidemarkError('METHOD_NOT_ALLOWED', `${method} is not served at this path`);
  return new TidemarkError('ROUTE_NOT_FOUND', `nothing is served at ${JSON.stringify(path.slice(0, 200))}`);
}

function asProblem(error: unknown, { report, signal }: ApiOptions): TidemarkError {
  if (error instanceof TidemarkError) {
    if (error.class === 'bug') report(error);
    return error;
  }
  if (error instanceof HTTPException && error.status < 500) {
    return new TidemarkError('REQUEST_INVALID', error.message === '' ? 'the request is malformed' : error.message);
  }
  if (signal.aborted) return new TidemarkError('INTERRUPTED', 'the server ends');
  report(error);
  return new TidemarkError('UNEXPECTED', 'a defect', { cause: error });
}

function answerProblem(c: Context, error: TidemarkError, allowed: readonly string[] = methodsOf(c.req.path)): Response {
  const problem = problemOf(error);
  const headers = {
    ...problemHeaders(problem),
    ...(error.code === 'METHOD_NOT_ALLOWED' && { allow: allowed.join(', ') }),
  };
  return c.body(JSON.stringify(problem), problem.status as ContentfulStatusCode, headers);
}
