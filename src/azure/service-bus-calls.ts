/** Calls to Service Bus with known bounds, and what their errors mean. */
import { isServiceBusError, ServiceBusClient } from '@azure/service-bus';
import { TidemarkError } from '../errors.ts';
import type { Sleep } from '../retry.ts';
import type { MessagingObserver } from '../telemetry/adapter-observer.ts';
import { redactSecrets } from '../telemetry/redact.ts';
import type { ServiceBusAccess } from './access.ts';
import { countServiceBus } from './count-service-bus.ts';
import { safeError } from './safe-error.ts';

/** Longer than any healthy call; the SDK's own defaults add up to minutes. */
export const CALL_TIMEOUT_MS = 10_000;
/** Closing waits for answers that a dying peer never gives. */
const CLOSE_TIMEOUT_MS = 3000;

/** `client`, which tells `observer`, if there is one, of every call of its senders, receivers and sessions. */
export const observedClient = (client: ServiceBusClient, observer: MessagingObserver | undefined): ServiceBusClient =>
  observer === undefined ? client : countServiceBus(client, observer);

/** A client whose calls fail early: retries with known bounds are made around it, not inside. */
export function serviceBusClient(access: ServiceBusAccess, timeoutInMs: number = CALL_TIMEOUT_MS): ServiceBusClient {
  const options = { retryOptions: { maxRetries: 0, timeoutInMs } };
  try {
    if ('connectionString' in access) return new ServiceBusClient(access.connectionString, options);
    return new ServiceBusClient(access.namespace, access.credential, options);
  } catch (cause) {
    // The string holds a key, so it is not repeated here.
    throw new TidemarkError('MESSAGING_REFUSED', 'the Service Bus connection string or namespace is malformed', {
      cause: safeError(cause),
    });
  }
}

/** One call with its own deadline. @throws TidemarkError MESSAGING_UNAVAILABLE, MESSAGING_REFUSED, MESSAGE_TOO_LARGE, SIGN_IN_FAILED, IDENTITY_UNAVAILABLE */
export async function callServiceBus<T>(
  { entity, timeoutMs }: { readonly entity: string; readonly timeoutMs: number },
  signal: AbortSignal,
  run: (abortSignal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const deadline = AbortSignal.timeout(timeoutMs);
  try {
    return await run(AbortSignal.any([signal, deadline]));
  } catch (cause) {
    signal.throwIfAborted();
    if (!deadline.aborted) throw messagingError(cause, entity);
    throw new TidemarkError('MESSAGING_UNAVAILABLE', `${entity}: no answer within ${timeoutMs} ms`, {
      cause: safeError(cause),
    });
  }
}

const REFUSALS: ReadonlySet<string> = new Set([
  'UnauthorizedAccess',
  'MessagingEntityNotFound',
  'MessagingEntityDisabled',
]);

/** Faults of the SDK's caller stay what they are: retrying cannot help. */
function messagingError(error: unknown, entity: string): unknown {
  if (error instanceof TypeError || error instanceof RangeError || error instanceof TidemarkError) return error;
  const code = isServiceBusError(error) ? error.code : undefined;
  const message = redactSecrets(error instanceof Error ? error.message : String(error));
  if (code === 'MessageSizeExceeded') {
    return new TidemarkError('MESSAGE_TOO_LARGE', `${entity}: ${message}`, { cause: safeError(error) });
  }
  return new TidemarkError(
    code !== undefined && REFUSALS.has(code) ? 'MESSAGING_REFUSED' : 'MESSAGING_UNAVAILABLE',
    `${entity}: ${message}`,
    { cause: safeError(error), details: { entity, ...(code === undefined ? {} : { serviceBusCode: code }) } },
  );
}

/** Waits for `closing`, but not for ever. What fails while closing has no consequence: nothing is sent then. */
export async function withinTime(closing: Promise<void>, sleep: Sleep): Promise<void> {
  const timer = new AbortController();
  await Promise.race([closing.catch(() => undefined), sleep(CLOSE_TIMEOUT_MS, timer.signal).catch(() => undefined)]);
  timer.abort();
}
