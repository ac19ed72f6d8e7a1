import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { BlobServiceClient, type ContainerClient, type StoragePipelineOptions } from '@azure/storage-blob';
import { TidemarkError } from '../errors.ts';
import type { Waiting } from '../apply/rate-limit.ts';
import { systemClock } from '../system-clock.ts';
import type { AccountRole, LeaseEvent, StorageObserver } from '../telemetry/adapter-observer.ts';
import type { AccountAccess } from './access.ts';
import { observeRequests } from './observe-requests.ts';
import {
  failureKind,
  isContainerMissing,
  isDenied,
  isThrottling,
  retryAfterMs,
  statusOf,
  storageError,
} from './storage-errors.ts';
import { Throttle } from './throttle.ts';
import { safeError } from './safe-error.ts';

/** How long a call may take and how often it is repeated. */
export interface CallTimes {
  /** For the requests of a call with all their repetitions and the bodies of the answers, in milliseconds; waiting for a turn is not in it. */
  readonly deadlineMs: number;
  /** Not counted: those that the account refused for now. */
  readonly maxTries: number;
  /** Wait before the first repetition; each later wait is three times as long, and somewhere between half and all of that. */
  readonly firstDelayMs: number;
  /** For the whole call while the account refuses it for now. */
  readonly patienceMs: number;
}

/**
 * Four tries within about 1.3 s ride out a dropped connection; anything longer is for the caller's own schedule. The deadline exceeds
 * the emulator's longest stall (5 s) and a slow 4 MiB request many times. The patience is above what Azure asks for when it throttles
 * (some seconds), and bounds what a caller waits for an account that has no end of it.
 */
export const CALL_TIMES: CallTimes = { deadlineMs: 30_000, maxTries: 4, firstDelayMs: 100, patienceMs: 120_000 };

/** Requests in flight per account, and the sockets that urgent ones have besides, so that renewing a lease never queues behind data. */
const MAX_SOCKETS = 64;
const URGENT_SOCKETS = 32;

export interface Call {
  /** For error messages: `Put Page at 4096 of group/machine/disk.vhd`. */
  readonly action: string;
  /** `unprocessed`: not idempotent, repeated only when storage says that it did nothing. Default `idempotent`. */
  readonly repeat?: 'idempotent' | 'unprocessed';
  /** Goes out at once, even while the account is throttled: for leases, without which everything else is in vain. */
  readonly urgent?: boolean;
}

export interface Attempt {
  /** To be passed to every request of the attempt. */
  readonly abortSignal: AbortSignal;
  /** An earlier attempt of this call got no answer and may have been carried out. */
  readonly ambiguous: boolean;
}

export interface BlobAccountOptions {
  readonly times?: CallTimes;
  readonly waiting?: Waiting;
  /** In [0, 1): spreads repetitions. */
  readonly random?: () => number;
  /** Told of every request, every refusal and every lease. */
  readonly observed?: ObservedAccount;
}

export interface ObservedAccount {
  readonly account: AccountRole;
  readonly observer: StorageObserver;
}

/**
 * One storage account: the client, its sockets, and the one way to call it. The SDK's own retries are off: they do not cover 429, and
 * do not tell whether an earlier try may have succeeded, which decides what a refused condition means.
 */
export class BlobAccount {
  readonly #service: BlobServiceClient;
  readonly #agent: HttpAgent;
  readonly #times: CallTimes;
  readonly #waiting: Waiting;
  readonly #random: () => number;
  readonly #throttle: Throttle;
  readonly #observed: ObservedAccount | undefined;

  /** @throws TidemarkError CONNECTION_INVALID */
  constructor(access: AccountAccess, options: BlobAccountOptions = {}) {
    const { times = CALL_TIMES, waiting = systemClock, random = Math.random } = options;
    this.#times = times;
    this.#waiting = waiting;
    this.#random = random;
    this.#observed = options.observed;
    this.#throttle = new Throttle({ concurrency: MAX_SOCKETS, waiting, random });
    const agentOptions = { keepAlive: true, maxSockets: MAX_SOCKETS + URGENT_SOCKETS };
    try {
      const { url } = 'url' in access ? access : BlobServiceClient.fromConnectionString(access.connectionString);
      this.#agent = url.startsWith('https:') ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions);
      const sdkOptions: StoragePipelineOptions & { agent: HttpAgent } = {
        agent: this.#agent,
        retryOptions: { maxTries: 1 },
        userAgentOptions: { userAgentPrefix: 'tidemark' },
      };
      this.#service = openService(access, sdkOptions);
    } catch {
      // The SDK's message may quote the string, and with it the key.
      throw new TidemarkError('CONNECTION_INVALID', 'the storage connection string or account URL cannot be parsed');
    }
    if (options.observed !== undefined) {
      observeRequests(this.#service, options.observed.account, options.observed.observer);
    }
  }

  /** Something happened to the lease of a blob in `container`. */
  noteLease(container: string, event: LeaseEvent): void {
    const { account, observer } = this.#observed ?? {};
    if (account !== undefined) observer?.onLease({ account, container, event });
  }

  container(name: string): ContainerClient {
    return this.#service.getContainerClient(name);
  }

  /**
   * Runs one request (or a few that belong together) under the deadline, and repeats it while that makes sense.
   * @throws the signal's reason when the caller aborted
   * @throws TidemarkError STORAGE_TIMEOUT, STORAGE_UNAVAILABLE, SIGN_IN_FAILED, IDENTITY_UNAVAILABLE, ACCESS_DENIED, OWNERSHIP_LOST, BLOB_MISSING,
   *   CONFLICT, ASSERTION
   */
  async call<T>(call: Call, signal: AbortSignal, operation: (attempt: Attempt) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    // By hand instead of AbortSignal.any and AbortSignal.timeout: nothing of a finished call stays behind.
    const controller = new AbortController();
    const abort = (): void => controller.abort(signal.reason);
    signal.addEventListener('abort', abort);
    const deadline = new Deadline(this.#times.deadlineMs, this.#waiting, () => controller.abort());
    try {
      return await this.#attempts({ call, deadline, abortSignal: controller.signal }, operation);
    } catch (error) {
      signal.throwIfAborted();
      if (controller.signal.aborted && !(error instanceof TidemarkError)) {
        const message = `${call.action}: no answer within ${this.#times.deadlineMs} ms`;
        throw new TidemarkError('STORAGE_TIMEOUT', message, { cause: safeError(error) });
      }
      throw storageError(error, call.action);
    } finally {
      deadline.stop();
      signal.removeEventListener('abort', abort);
    }
  }

  async #attempts<T>(under: Under, operation: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { call, deadline, abortSignal } = under;
    const patientUntilMs = this.#waiting.nowMs() + this.#times.patienceMs;
    const attempt = (ambiguous: boolean) => (): Promise<T> =>
      deadline.during(() => operation({ abortSignal, ambiguous }));
    let ambiguous = false;
    let tries = 0;
    for (;;) {
      try {
        // What is urgent does not wait behind what is not, nor for the end of a pause.
        const run = attempt(ambiguous);
        const result = call.urgent === true ? await run() : await this.#throttle.run(run, abortSignal);
        this.#throttle.answered();
        return result;
      } catch (error) {
        if (abortSignal.aborted) throw error;
        if (isThrottling(error)) {
          const pauseMs = this.#throttle.refused(retryAfterMs(error));
          const { account, observer } = this.#observed ?? {};
          if (account !== undefined) observer?.onThrottled({ account, status: statusOf(error), pauseMs });
          if (this.#waiting.nowMs() + pauseMs > patientUntilMs) throw error;
          if (call.urgent === true) await this.#waiting.sleep(pauseMs, abortSignal);
          continue;
        }
        this.#throttle.answered();
        const kind = failureKind(error);
        const repeatable = kind === 'unprocessed' || (kind === 'unknown' && call.repeat !== 'unprocessed');
        if (!repeatable || ++tries >= this.#times.maxTries) throw error;
        ambiguous ||= kind === 'unknown';
      }
      const delayMs = this.#times.firstDelayMs * 3 ** (tries - 1);
      await this.#waiting.sleep(delayMs * (0.5 + this.#random() / 2), abortSignal);
    }
  }

  /** Ends the idle connections; requests in flight fail. */
  close(): void {
    this.#agent.destroy();
  }
}

function openService(access: AccountAccess, options: StoragePipelineOptions): BlobServiceClient {
  if ('connectionString' in access) return BlobServiceClient.fromConnectionString(access.connectionString, options);
  return new BlobServiceClient(access.url, access.credential, { ...options, audience: access.audience });
}

/** Runs `operation`, and once more after creating the container when that is what was missing. */
export async function inContainer<T>(
  container: ContainerClient,
  abortSignal: AbortSignal,
  operation: () => Promise<T>,
): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    if (!isContainerMissing(error)) throw error;
    await create(container, abortSignal);
    return operation();
  }
}

/** An identity that may only work inside of containers never comes here, as long as somebody else has made them. */
async function create(container: ContainerClient, abortSignal: AbortSignal): Promise<void> {
  try {
    await container.createIfNotExists({ abortSignal });
  } catch (error) {
    if (isDenied(error)) throw storageError(error, `Create the container ${container.containerName}, which is missing`);
    throw error;
  }
}

interface Under {
  readonly call: Call;
  readonly deadline: Deadline;
  readonly abortSignal: AbortSignal;
}

/** A time limit that runs only while requests are under way. */
class Deadline {
  readonly #waiting: Waiting;
  readonly #expire: () => void;
  #leftMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(limitMs: number, waiting: Waiting, expire: () => void) {
    this.#leftMs = limitMs;
    this.#waiting = waiting;
    this.#expire = expire;
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    const fromMs = this.#waiting.nowMs();
    this.#timer = setTimeout(this.#expire, this.#leftMs);
    try {
      return await work();
    } finally {
      this.stop();
      this.#leftMs = Math.max(0, this.#leftMs - (this.#waiting.nowMs() - fromMs));
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
