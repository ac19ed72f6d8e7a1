/** Pure. What an answer of Azure Resource Manager, or its absence, means. Nothing secret of it gets into a message or a cause. */
import { TidemarkError } from '../errors.ts';
import { redactSecrets } from '../telemetry/redact.ts';

/** What the SDK puts before the code and the message of an operation that ended as `Failed`. */
const FAILED_OPERATION = /^The long-running operation has failed(?:\. ([^.]*)\. (.*))?$/s;
/** An error text of Azure is a few sentences. */
const MAX_TEXT = 1000;

interface AnswerError {
  readonly statusCode?: unknown;
  readonly code?: unknown;
}

/** HTTP status of a refusal, 0 when no answer came. */
export const armStatus = (error: unknown): number => Number((error as AnswerError | undefined)?.statusCode ?? 0) || 0;

const nameOf = (error: unknown): string => (error instanceof Error ? error.name : '');
const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The operation itself ended as failed, or was cancelled; asking again changes nothing. */
export const isFailedOperation = (error: unknown): boolean =>
  armStatus(error) === 0 && (FAILED_OPERATION.test(textOf(error)) || textOf(error) === 'Operation was canceled');

/** The request may have been carried out all the same, now or a little later. */
export function isAmbiguous(error: unknown): boolean {
  if (error instanceof TidemarkError) return false;
  const status = armStatus(error);
  return status === 0 || status === 408 || (status >= 500 && status !== 503);
}

/** Without secrets and without queries of URLs (a shared access signature is one); cut to a bounded length. */
export function redact(text: string): string {
  const clean = redactSecrets(text.replaceAll(/(https?:\/\/[^\s"'<>?]*)\?[^\s"'<>]*/gi, '$1?…'));
  return clean.length > MAX_TEXT ? `${clean.slice(0, MAX_TEXT)}…` : clean;
}

/**
 * The one place where answers of Azure Compute become errors of the catalogue.
 * @param action what was asked for, without secrets
 */
export function computeError(error: unknown, action: string): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const { status, code, text } = partsOf(error);
  const said = [status === 0 ? '' : String(status), code, text].filter((part) => part !== '').join(' ');
  const options = { cause: safeCause(error), details: { status, code } };
  const message = `${action}: ${said}`;
  if (isFailedOperation(error)) return new TidemarkError('COMPUTE_REFUSED', message, options);
  const retry = status === 0 || status === 408 || status === 429 || status >= 500;
  return new TidemarkError(retry ? 'COMPUTE_UNAVAILABLE' : 'COMPUTE_REFUSED', message, options);
}

function partsOf(error: unknown): { readonly status: number; readonly code: string; readonly text: string } {
  const failed = FAILED_OPERATION.exec(textOf(error));
  if (failed !== null) {
    const [whole, code = '', text = whole] = failed;
    return { status: 0, code: redact(code), text: redact(text) };
  }
  const code = (error as AnswerError | undefined)?.code;
  const text = armStatus(error) === 0 && typeof code === 'string' ? '' : redact(textOf(error));
  return { status: armStatus(error), code: typeof code === 'string' ? redact(code) : '', text };
}

/** The SDK's errors carry the request, with its token and its URLs; only name, text and origin go on. */
export function safeCause(error: unknown): Error {
  const cause = new Error(redact(textOf(error)));
  cause.name = redact(nameOf(error) || 'Error');
  if (error instanceof Error && error.stack !== undefined) cause.stack = redact(error.stack);
  return cause;
}
