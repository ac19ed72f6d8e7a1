import { describe, expect, it } from 'vitest';
import { problemHeaders, problemOf, statusOf, STATUS_OF_CODE } from '../../src/api/problem.ts';
import { problemSchema } from '../../src/api/schemas.ts';
import { ERROR_CATALOGUE, TidemarkError, type ErrorCode } from '../../src/errors.ts';

const codes = Object.keys(ERROR_CATALOGUE) as ErrorCode[];

/** What the shape of a code says about its status, whatever the table says. */
function expectedOf(code: ErrorCode): readonly number[] {
  const kind = ERROR_CATALOGUE[code].class;
  if (kind === 'bug') return [500];
  if (kind === 'retry') return code === 'CONFLICT' ? [409] : [503];
  if (/^TRACE_|^LOG_/.test(code)) return [409];
  if (code.endsWith('_NOT_FOUND')) return [404];
  return [400, 401, 403, 405, 409, 413, 415, 422, 500];
}

describe('the status of an error', () => {
  it.each(codes)('%s fits its class and name', (code) => {
    expect(expectedOf(code)).toContain(statusOf(code));
  });

  it('is what the documentation promises', () => {
    const promised = {
      USAGE: 400,
      UNAUTHENTICATED: 401,
      FORBIDDEN: 403,
      GROUP_NOT_FOUND: 404,
      JOB_NOT_FOUND: 404,
      METHOD_NOT_ALLOWED: 405,
      FAILOVER_STATE: 409,
      IDEMPOTENCY_CONFLICT: 409,
      CONFLICT: 409,
      GROUP_PINNED: 409,
      REQUEST_TOO_LARGE: 413,
      MEDIA_TYPE: 415,
      COMMAND_INVALID: 422,
      ASSERTION: 500,
      UNEXPECTED: 500,
      BUSY: 503,
      STORAGE_UNAVAILABLE: 503,
      INTERRUPTED: 503,
    } as const satisfies Partial<Record<ErrorCode, number>>;
    for (const [code, status] of Object.entries(promised)) expect(statusOf(code as ErrorCode), code).toBe(status);
  });

  it('has no exception that the class would give as well', () => {
    const needless = codes.filter(
      (code) => code !== 'CONFLICT' && STATUS_OF_CODE[code] === 409 && ERROR_CATALOGUE[code].class === 'operator',
    );
    expect(needless).toEqual([]);
  });
});

describe('a problem', () => {
  it.each(codes)('%s matches the schema of the document', (code) => {
    const problem = problemOf(new TidemarkError(code, 'what happened'));
    expect(problemSchema.parse(problem)).toEqual(problem);
    expect(problem.hint).toBe(ERROR_CATALOGUE[code].hint);
    expect(problemHeaders(problem)['retry-after'] !== undefined).toBe(problem.status === 503);
    expect(problem.detail === 'what happened').toBe(ERROR_CATALOGUE[code].class !== 'bug');
  });
});
