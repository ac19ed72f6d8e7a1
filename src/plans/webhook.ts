/** Calls a webhook: signed, bounded in time, size and number of tries. Redirects are refused: what is signed is for one place. */
import { TidemarkError } from '../errors.ts';
import { backoffMs } from '../retry.ts';
import type { Clock } from '../worker/ports.ts';
import { urlProblem } from './plan-file.ts';
import { signatureOf, SIGNATURE_HEADERS } from './signature.ts';

/** Of an answer, read; the rest is not waited for. */
export const MAX_ANSWER_BYTES = 64 * 1024;
/** Of an answer, kept. */
const MAX_KEPT_CHARS = 500;
/** The longest pause that a server's Retry-After is followed for. */
export const MAX_RETRY_AFTER_MS = 120_000;
export const WEBHOOK_RETRY = { firstDelayMs: 1000, maxDelayMs: 30_000 } as const;
/** Answers that another try may better: timeout, too early, too many requests. */
const PASSING = new Set([408, 425, 429]);

export interface WebhookCall {
  readonly url: string;
  readonly secret: string;
  /** JSON text, the same at each try. */
  readonly body: string;
  /** The same whenever this step of this run is tried again. */
  readonly idempotencyKey: string;
  readonly timeoutMs: number;
  readonly attempts: number;
}

export interface WebhookPorts {
  readonly clock: Clock;
  random(): number;
}

type Outcome =
  | { readonly ok: true; readonly answer: string }
  | { readonly ok: false; readonly what: string; readonly again: boolean; readonly waitMs?: number };

/** @throws TidemarkError PLAN_STEP_FAILED with the last try's outcome; the signal's reason */
export async function callWebhook(ports: WebhookPorts, call: WebhookCall, signal: AbortSignal): Promise<string> {
  const problem = urlProblem(call.url);
  if (problem !== undefined) throw new TidemarkError('PLAN_STEP_FAILED', `the webhook's address ${problem}`);
  const policy = {
    ...WEBHOOK_RETRY,
    attempts: call.attempts,
    sleep: (ms: number, either: AbortSignal) => ports.clock.sleep(ms, either),
    random: () => ports.random(),
  };
  for (let attempt = 1; ; attempt++) {
    const outcome = await post(ports, call, signal);
    if (outcome.ok) return outcome.answer;
    if (!outcome.again || attempt >= call.attempts) {
      const tries = attempt === 1 ? 'once' : `${attempt} times`;
      throw new TidemarkError('PLAN_STEP_FAILED', `webhook ${placeOf(call.url)}, tried ${tries}: ${outcome.what}`);
    }
    await ports.clock.sleep(outcome.waitMs ?? backoffMs(policy, attempt), signal);
  }
}

/** Without the query, which may hold secrets. */
const placeOf = (url: string): string => `${new URL(url).origin}${new URL(url).pathname}`;

async function post(ports: WebhookPorts, call: WebhookCall, signal: AbortSignal): Promise<Outcome> {
  const late = AbortSignal.timeout(call.timeoutMs);
  const timestamp = Math.floor(ports.clock.nowUs() / 1_000_000);
  try {
    const response = await fetch(call.url, {
      method: 'POST',
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        'user-agent': 'tidemark',
        [SIGNATURE_HEADERS.key]: call.idempotencyKey,
        [SIGNATURE_HEADERS.timestamp]: String(timestamp),
        [SIGNATURE_HEADERS.signature]: signatureOf(call.secret, timestamp, call.body),
      },
      body: call.body,
      signal: AbortSignal.any([signal, late]),
    });
    const text = await startOf(response);
    return judge(response, text, ports.clock.nowUs() / 1000);
  } catch (error) {
    signal.throwIfAborted();
    if (late.aborted) return { ok: false, what: `no answer within ${call.timeoutMs / 1000} s`, again: true };
    return { ok: false, what: causeOf(error), again: true };
  }
}

/** Network errors of fetch say what happened in their cause. */
function causeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
  return code ?? (cause instanceof Error ? cause.name : 'no connection');
}

async function startOf({ body }: Response): Promise<string> {
  if (body === null) return '';
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    chunks.push(chunk.subarray(0, MAX_ANSWER_BYTES - bytes));
    bytes += chunk.length;
    if (bytes >= MAX_ANSWER_BYTES) break; // leaving the loop cancels the rest
  }
  return Buffer.concat(chunks).toString('utf8').slice(0, MAX_KEPT_CHARS).toWellFormed();
}

function judge({ status, headers }: Response, text: string, nowMs: number): Outcome {
  if (status >= 200 && status < 300) return { ok: true, answer: text === '' ? `${status}` : `${status} ${text}` };
  if (status >= 300 && status < 400)
    return { ok: false, what: `answered ${status}: redirects are refused`, again: false };
  const waitMs = retryAfterMs(headers.get('retry-after'), nowMs);
  const again = PASSING.has(status) || status >= 500;
  return { ok: false, what: `answered ${status}`, again, ...(waitMs !== undefined && { waitMs }) };
}

/** Seconds, or a date; at most {@link MAX_RETRY_AFTER_MS}. Undefined when there is none that can be read. */
export function retryAfterMs(header: string | null, nowMs: number): number | undefined {
  if (header === null) return undefined;
  const wanted = /^\d{1,9}$/.test(header) ? Number(header) * 1000 : Date.parse(header) - nowMs;
  return Number.isNaN(wanted) ? undefined : Math.min(Math.max(0, wanted), MAX_RETRY_AFTER_MS);
}
