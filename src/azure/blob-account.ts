import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';
import { BlobServiceClient, type ContainerClient, type StoragePipelineOptions } from '@azure/storage-blob';
import { TidemarkError } from '../errors.ts';
import { failureKind, isContainerMissing, storageError } from './storage-errors.ts';

/** How long a call may take and how often it is repeated. */
export interface CallTimes {
  /** For the whole call with all its repetitions and the body of the answer, in milliseconds. */
  readonly deadlineMs: number;
  readonly maxTries: number;
  /** Wait before the first repetition; each later wait is three times as long. */
  readonly firstDelayMs: number;
}

/**
 * Four tries within about 1.3 s ride out a dropped connection or a moment of throttling; anything longer is for the caller's own
 * schedule. The deadline exceeds the emulator's longest stall (5 s) and a slow 4 MiB request many times.
 */
export const CALL_TIMES: CallTimes = { deadlineMs: 30_000, maxTries: 4, firstDelayMs: 100 };

/** Sockets per account. Above every sum of requests in flight, so that renewing a lease never queues behind data. */
const MAX_SOCKETS = 64;

export interface Call {
  /** For error messages: `Put Page at 4096 of group/machine/disk.vhd`. */
  readonly action: string;
  /** `unprocessed`: not idempotent, repeated only when storage says that it did nothing. Default `idempotent`. */
  readonly repeat?: 'idempotent' | 'unprocessed';
}

export interface Attempt {
  /** To be passed to every request of the attempt. */
  readonly abortSignal: AbortSignal;
  /** An earlier attempt of this call got no answer and may have been carried out. */
  readonly ambiguous: boolean;
}

/**
 * One storage account: the client, its sockets, and the one way to call it. The SDK's own retries are off: they do not cover 429, and
 * do not tell whether an earlier try may have succeeded, which decides what a refused condition means.
 */
export class BlobAccount {
  readonly #service: BlobServiceClient;
  readonly #agent: HttpAgent;
  readonly #times: CallTimes;

  /** @throws TidemarkError CONNECTION_INVALID */
  constructor(connectionString: string, times: CallTimes = CALL_TIMES) {
    this.#times = times;
    const agentOptions = { keepAlive: true, maxSockets: MAX_SOCKETS };
    try {
      const { url } = BlobServiceClient.fromConnectionString(connectionString);
      this.#agent = url.startsWith('https:') ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions);
      const options: StoragePipelineOptions & { agent: HttpAgent } = {
        agent: this.#agent,
        retryOptions: { maxTries: 1 },
        userAgentOptions: { userAgentPrefix: 'tidemark' },
      };
      this.#service = BlobServiceClient.fromConnectionString(connectionString, options);
    } catch {
      // The SDK's message may quote the string, and with it the key.
      throw new TidemarkError('CONNECTION_INVALID', 'the storage connection string cannot be parsed');
    }
  }

  container(name: string): ContainerClient {
    return this.#service.getContainerClient(name);
  }

  /**
   * Runs one request (or a few that belong together) under the deadline, and repeats it while that makes sense.
   * @throws the signal's reason when the caller aborted
   * @throws TidemarkError STORAGE_TIMEOUT, STORAGE_UNAVAILABLE, OWNERSHIP_LOST, BLOB_MISSING, CONFLICT, ASSERTION
   */
  async call<T>(call: Call, signal: AbortSignal, operation: (attempt: Attempt) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    // By hand instead of AbortSignal.any and AbortSignal.timeout: nothing of a finished call stays behind.
    const controller = new AbortController();
    const abort = (): void => controller.abort(signal.reason);
    const deadline = setTimeout(() => controller.abort(), this.#times.deadlineMs);
    signal.addEventListener('abort', abort);
    try {
      return await this.#attempts(call, controller.signal, operation);
    } catch (error) {
      signal.throwIfAborted();
      if (controller.signal.aborted && !(error instanceof TidemarkError)) {
        const message = `${call.action}: no answer within ${this.#times.deadlineMs} ms`;
        throw new TidemarkError('STORAGE_TIMEOUT', message, { cause: error });
      }
      throw storageError(error, call.action);
    } finally {
      clearTimeout(deadline);
      signal.removeEventListener('abort', abort);
    }
  }

  async #attempts<T>(call: Call, abortSignal: AbortSignal, operation: (attempt: Attempt) => Promise<T>): Promise<T> {
    let ambiguous = false;
    for (let tries = 1; ; tries++) {
      try {
        return await operation({ abortSignal, ambiguous });
      } catch (error) {
        const kind = failureKind(error);
        const repeatable = kind === 'unprocessed' || (kind === 'unknown' && call.repeat !== 'unprocessed');
        if (!repeatable || tries >= this.#times.maxTries || abortSignal.aborted) throw error;
        ambiguous ||= kind === 'unknown';
      }
      await pause(this.#times.firstDelayMs * 3 ** (tries - 1), undefined, { signal: abortSignal });
    }
  }

  /** Ends the idle connections; requests in flight fail. */
  close(): void {
    this.#agent.destroy();
  }
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
    await container.createIfNotExists({ abortSignal });
    return operation();
  }
}
