/** Azure's long-running operations: begun, noted, waited for, and resumed by a later process. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ComputeManagementClient, restorePoller } from '@azure/arm-compute';
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import type { Resumable } from '../failover/compute.ts';
import type { ComputeTimes } from './arm-client.ts';
import { armStatus, computeError, isFailedOperation } from './arm-errors.ts';

/** As much of the SDK's pollers as is used. Never returned from an async function: it is thenable, and would be waited for. */
interface Poller {
  submitted(): Promise<void>;
  serialize(): Promise<string>;
  pollUntilDone(options: { readonly abortSignal: AbortSignal }): Promise<unknown>;
}

export interface StartOptions {
  readonly abortSignal: AbortSignal;
  readonly updateIntervalInMs: number;
}

/** What is done to which resource: `create disks/NAME`. */
export interface OperationLabel {
  readonly verb: 'create' | 'delete' | 'grant' | 'revoke' | 'update';
  /** `disks/NAME` */
  readonly resource: string;
}

export interface OperationContext extends OperationLabel {
  /** Undefined: an operation that is begun anew after a restart. */
  readonly resumable?: Resumable | undefined;
  readonly signal: AbortSignal;
}

/** `error`: the SDK's own, so that the caller can tell whether the request may have been carried out all the same. */
export type RunOutcome =
  | { readonly accepted: true; readonly result: unknown }
  | { readonly accepted: false; readonly error: unknown };

/** The URL of an operation says nothing to whoever has no token for it. */
const tokenSchema = z.object({
  version: z.literal(1),
  verb: z.string(),
  resource: z.string(),
  /** The poller as the SDK writes it; null once its operation has failed, so that the next call begins anew. */
  poller: z.string().nullable(),
});

const pollerSchema = z.object({
  state: z.object({
    config: z.object({
      operationLocation: z.url().optional(),
      resourceLocation: z.url().optional(),
      initialRequestUrl: z.url(),
    }),
  }),
});

export const actionOf = ({ verb, resource }: OperationLabel): string => `${verb} ${resource}`;

export class ArmOperations {
  readonly #client: ComputeManagementClient;
  readonly #endpoint: string;
  readonly #times: ComputeTimes;

  constructor(client: ComputeManagementClient, endpoint: string, times: ComputeTimes) {
    this.#client = client;
    this.#endpoint = endpoint;
    this.#times = times;
  }

  /**
   * Begins an operation and waits for its end.
   * @throws TidemarkError COMPUTE_UNAVAILABLE, COMPUTE_REFUSED once Azure has accepted the request; the signal's reason
   */
  async run(context: OperationContext, start: (options: StartOptions) => Poller): Promise<RunOutcome> {
    return this.#bounded(context, async (abortSignal): Promise<RunOutcome> => {
      const poller = start({ abortSignal, updateIntervalInMs: this.#times.pollMs });
      try {
        await poller.submitted();
      } catch (error) {
        if (abortSignal.aborted) throw error;
        return { accepted: false, error };
      }
      const { resumable } = context;
      if (resumable !== undefined) await resumable.persist(tokenOf(context, await poller.serialize()));
      return { accepted: true, result: await this.#wait(context, poller, abortSignal) };
    });
  }

  /**
   * Waits for the end of the operation that an earlier process began.
   * @returns false when there is none, or nobody knows it any more: only the resource itself can tell
   * @throws TidemarkError COMPUTE_UNAVAILABLE, COMPUTE_REFUSED; the signal's reason
   */
  async resume(context: OperationContext): Promise<boolean> {
    const serialized = this.#pollerIn(context);
    if (serialized === undefined) return false;
    const { pollMs } = this.#times;
    return this.#bounded(context, async (abortSignal) => {
      try {
        const { disks } = this.#client;
        const poller = restorePoller(this.#client, serialized, disks.createOrUpdate, { updateIntervalInMs: pollMs });
        await this.#wait(context, poller, abortSignal);
        return true;
      } catch (error) {
        if (error instanceof TidemarkError && error.details['status'] === 404) return false;
        throw error;
      }
    });
  }

  /** @returns undefined unless the token is of this operation, and all its URLs are of this endpoint: they are sent a bearer token */
  #pollerIn({ resumable, verb, resource }: OperationContext): string | undefined {
    const token = tokenSchema.safeParse(parseJson(resumable?.token ?? '')).data;
    if (token === undefined || token.poller === null || token.verb !== verb || token.resource !== resource)
      return undefined;
    const config = pollerSchema.safeParse(parseJson(token.poller)).data?.state.config;
    if (config === undefined) return undefined;
    const { origin } = new URL(this.#endpoint);
    const urls = Object.values(config).filter((url) => url !== undefined);
    return urls.every((url) => new URL(url).origin === origin) ? token.poller : undefined;
  }

  async #wait(context: OperationContext, poller: Poller, abortSignal: AbortSignal): Promise<unknown> {
    try {
      return await poller.pollUntilDone({ abortSignal });
    } catch (error) {
      if (abortSignal.aborted) throw error;
      if (isFailedOperation(error)) await context.resumable?.persist(tokenOf(context, null));
      throw computeError(error, actionOf(context));
    }
  }

  /** Ends with the caller's signal, or when the operation takes too long. */
  async #bounded<T>(context: OperationContext, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal } = context;
    signal.throwIfAborted();
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    const timer = setTimeout(abort, this.#times.operationMs);
    signal.addEventListener('abort', abort);
    try {
      return await run(controller.signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!controller.signal.aborted) throw error;
      const message = `${actionOf(context)}: not done within ${this.#times.operationMs} ms`;
      throw new TidemarkError('COMPUTE_UNAVAILABLE', message);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    }
  }
}

const tokenOf = ({ verb, resource }: OperationLabel, poller: string | null): string =>
  JSON.stringify({ version: 1, verb, resource, poller });

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @throws the signal's reason when it aborts */
export async function pauseFor(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/** `read`, or undefined when Azure says that there is nothing. */
export async function unlessMissing<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read;
  } catch (error) {
    if (armStatus(error) === 404) return undefined;
    throw error;
  }
}
