/** Pure. Errors as HTTP answers: problem details (RFC 9457), and the status of each code. */
import { ERROR_CATALOGUE, TidemarkError, type ErrorClass, type ErrorCode } from '../errors.ts';
import { redactSecrets } from '../telemetry/redact.ts';

export const PROBLEM_TYPE = 'application/problem+json';
/** What a client is asked to wait before it repeats what may succeed later. */
export const RETRY_AFTER_SECONDS = 5;

/** Where a code has no status of its own. `operator`: what the request is about stands in its way. */
export const STATUS_OF_CLASS: Readonly<Record<ErrorClass, number>> = {
  retry: 503,
  resync: 409,
  operator: 409,
  bug: 500,
};

/** What the request itself is at fault for, what does not exist, and what only the server's operator can change. */
export const STATUS_OF_CODE: Readonly<Partial<Record<ErrorCode, number>>> = {
  USAGE: 400,
  NAME_INVALID: 400,
  REQUEST_INVALID: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  POLICY_NOT_FOUND: 404,
  GROUP_NOT_FOUND: 404,
  POINT_NOT_FOUND: 404,
  DISK_NOT_FOUND: 404,
  JOB_NOT_FOUND: 404,
  PLAN_RUN_NOT_FOUND: 404,
  ROUTE_NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  CONFLICT: 409,
  REQUEST_TOO_LARGE: 413,
  MEDIA_TYPE: 415,
  COMMAND_INVALID: 422,
  POLICY_INVALID: 422,
  GROUP_INVALID: 422,
  PIN_INVALID: 422,
  TARGET_INVALID: 422,
  POINT_UNREACHABLE: 422,
  DOCUMENT_INVALID: 500,
  CONFIG_MISSING: 500,
  CONFIG_INVALID: 500,
  CONNECTION_INVALID: 500,
  MESSAGING_REFUSED: 500,
  SIGN_IN_FAILED: 500,
  ACCESS_DENIED: 500,
};

export const statusOf = (code: ErrorCode): number =>
  STATUS_OF_CODE[code] ?? STATUS_OF_CLASS[ERROR_CATALOGUE[code].class];

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly hint: string;
}

/** A defect is described to the server's operator, not to its callers. */
const DEFECT = 'something went wrong that should not; the server has reported it where it runs';

export function problemOf({ code, message, hint, class: kind }: TidemarkError): Problem {
  const words = code.toLowerCase().replaceAll('_', ' ');
  return {
    type: `urn:tidemark:error:${code}`,
    title: words.charAt(0).toUpperCase() + words.slice(1),
    status: statusOf(code),
    detail: kind === 'bug' ? DEFECT : redactSecrets(message),
    code,
    hint,
  };
}

/** Headers of the answer, besides those that all have. */
export function problemHeaders({ code, status }: Problem): Readonly<Record<string, string>> {
  return {
    'content-type': PROBLEM_TYPE,
    ...(status === 503 && { 'retry-after': String(RETRY_AFTER_SECONDS) }),
    ...(code === 'UNAUTHENTICATED' && { 'www-authenticate': 'Bearer realm="tidemark"' }),
  };
}
