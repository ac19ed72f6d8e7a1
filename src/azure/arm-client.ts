/** The client of Azure Compute: endpoint, scope and identity, and one policy for retries and waits of every request. */
import { setTimeout as pause } from 'node:timers/promises';
import { ComputeManagementClient, type ComputeManagementClientOptionalParams } from '@azure/arm-compute';
import { backoffMs } from '../monitoring/retry.ts';

export type ArmCredential = ConstructorParameters<typeof ComputeManagementClient>[0];
export type ArmHttpClient = NonNullable<ComputeManagementClientOptionalParams['httpClient']>;
type Policy = NonNullable<ComputeManagementClientOptionalParams['additionalPolicies']>[number]['policy'];
type Response = Awaited<ReturnType<Policy['sendRequest']>>;

export interface ComputeTimes {
  /** For one request and its answer. */
  readonly tryMs: number;
  /** Of one request, the first one included. */
  readonly attempts: number;
  /** Before the first repetition, doubled each time; half of it is chance. */
  readonly firstDelayMs: number;
  /** The longest wait before a repetition; a Retry-After beyond it is left to the caller's own schedule. */
  readonly maxDelayMs: number;
  /** Between two looks at an operation when Azure does not say. */
  readonly pollMs: number;
  /** The longest wait between two looks, whatever Azure says. */
  readonly maxPollMs: number;
  /** For one operation from its beginning, or from its resumption. */
  readonly operationMs: number;
}

/** Five attempts within about 15 s; importing terabytes takes Azure hours at the most. */
export const COMPUTE_TIMES: ComputeTimes = {
  tryMs: 60_000,
  attempts: 5,
  firstDelayMs: 1000,
  maxDelayMs: 60_000,
  pollMs: 5000,
  maxPollMs: 60_000,
  operationMs: 4 * 3_600_000,
};

export interface ArmClientOptions {
  /** `https://management.azure.com` or that of another cloud; tokens are asked for its `/.default`. */
  readonly endpoint: string;
  readonly subscriptionId: string;
  readonly credential: ArmCredential;
  /** PEM of the certificate to trust besides the system's: that of the local emulator. */
  readonly ca?: string;
  /** Sends the requests; the SDK's own by default. */
  readonly httpClient?: ArmHttpClient;
  readonly times: ComputeTimes;
  /** In [0, 1). */
  readonly random: () => number;
}

/** The SDK's own retries are off: they have no limit in time, and repeat a PUT whose answer was lost without a look at its work. */
export function openArmClient(options: ArmClientOptions): ComputeManagementClient {
  const { endpoint, ca, httpClient } = options;
  return new ComputeManagementClient(options.credential, options.subscriptionId, {
    endpoint,
    credentials: { scopes: [`${endpoint}/.default`] },
    retryOptions: { maxRetries: 0 },
    userAgentOptions: { userAgentPrefix: 'tidemark' },
    additionalPolicies: [{ policy: requestPolicy(options), position: 'perCall' }],
    ...(ca !== undefined && { tlsOptions: { ca } }),
    ...(httpClient !== undefined && { httpClient }),
  });
}

/**
 * Repeats what was not carried out (429, 503) and reads without an answer. A change without an answer is left to the caller, who looks at
 * the resource first.
 */
function requestPolicy({ times, random }: ArmClientOptions): Policy {
  return {
    name: 'tidemarkRequests',
    async sendRequest(request, next) {
      const outer = request.abortSignal;
      const isRead = request.method === 'GET';
      for (let attempt = 1; ; attempt++) {
        const last = attempt >= times.attempts;
        let response: Response | undefined;
        try {
          response = await withinTime(times.tryMs, outer, (signal) => {
            request.abortSignal = signal;
            return next(request);
          });
        } catch (error) {
          if (last || !isRead || outer?.aborted === true || !isTransport(error)) throw error;
        } finally {
          if (outer === undefined) delete request.abortSignal;
          else request.abortSignal = outer;
        }
        const waitMs = delayMs(response, { times, attempt, random });
        if (response !== undefined && (last || waitMs > times.maxDelayMs || !isRepeatable(response, isRead))) {
          return withBoundedPolls(response, times);
        }
        await pauseUnlessAborted(Math.min(waitMs, times.maxDelayMs), outer);
      }
    },
  };
}

/** Failures of the connection, not of the credential or the code. */
const isTransport = (error: unknown): boolean =>
  error instanceof Error && ['RestError', 'AbortError'].includes(error.name);

const isRepeatable = ({ status }: Response, isRead: boolean): boolean =>
  status === 429 || status === 503 || (isRead && (status === 408 || status >= 500));

function delayMs(
  response: Response | undefined,
  { times, attempt, random }: Pick<ArmClientOptions, 'times' | 'random'> & { readonly attempt: number },
): number {
  const own = backoffMs({ ...times, random, sleep: async () => undefined }, attempt);
  return Math.max(own, retryAfterMs(response) ?? 0);
}

/** Retry-After is a number of seconds or a date (RFC 9110, 10.2.3). */
function retryAfterMs(response: Response | undefined): number | undefined {
  const text = response?.headers.get('retry-after')?.trim();
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) && ms > 0 ? ms : undefined;
}

/** The SDK's pollers wait as long as this header says. */
function withBoundedPolls(response: Response, { pollMs, maxPollMs }: ComputeTimes): Response {
  const wantedMs = retryAfterMs(response);
  if (wantedMs === undefined || wantedMs <= maxPollMs) return response;
  const seconds = Math.floor(maxPollMs / 1000);
  // Below one second only the poller's own interval is left.
  if (seconds >= 1 && maxPollMs >= pollMs) response.headers.set('retry-after', String(seconds));
  else response.headers.delete('retry-after');
  return response;
}

type OuterSignal = Parameters<Policy['sendRequest']>[0]['abortSignal'];

/** `run` under a deadline of its own. Nothing of it stays behind. */
async function withinTime<T>(ms: number, outer: OuterSignal, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const timer = setTimeout(abort, ms);
  outer?.addEventListener('abort', abort);
  if (outer?.aborted === true) abort();
  try {
    return await run(controller.signal);
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener('abort', abort);
  }
}

function pauseUnlessAborted(ms: number, outer: OuterSignal): Promise<void> {
  return withinTime(ms + 1000, outer, (signal) => pause(ms, undefined, { signal }));
}
