/**
 * The Functions host's side of the Node library: functions are collected as its worker does, and invoked through the library's own
 * invocation model, with data and metadata in the form of its protocol. Messages come from the real broker and are settled as the host's
 * Service Bus extension settles them.
 */
import { registerHooks } from 'node:module';
import { ServiceBusClient, type ServiceBusReceivedMessage } from '@azure/service-bus';

/** A value of the protocol. */
type Typed =
  | { readonly string: string }
  | { readonly json: string }
  | { readonly int: number }
  | { readonly collectionString: { readonly string: readonly string[] } }
  | { readonly http: object };

export interface RegisteredFunction {
  readonly name: string;
  readonly bindings: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

type Callback = (...args: unknown[]) => unknown;

interface InvocationModel {
  getArguments(): Promise<{ context: object; inputs: unknown[] }>;
  invokeFunction(context: object, inputs: unknown[], handler: Callback): Promise<unknown>;
  getResponse(context: object, result: unknown): Promise<{ returnValue?: { http?: HttpReturn } }>;
}

interface HttpReturn {
  readonly statusCode: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: { readonly bytes?: Uint8Array; readonly string?: string };
}

interface Core {
  model?: { getInvocationModel(context: object): InvocationModel };
  readonly functions: Map<string, { readonly metadata: RegisteredFunction; readonly callback: Callback }>;
}

const core: Core = { functions: new Map() };
Object.assign(globalThis, {
  tidemarkFunctionsCore: {
    version: '4',
    setProgrammingModel: (model: Core['model'] & object) => void (core.model = model),
    registerFunction: (metadata: RegisteredFunction, callback: Callback) =>
      void core.functions.set(metadata.name, { metadata, callback }),
    registerHook: () => ({ dispose: () => undefined }),
    log: () => undefined,
  },
});
const CORE = { url: 'test:functions-core', format: 'commonjs', shortCircuit: true } as const;
registerHooks({
  resolve: (specifier, context, next) => (specifier === '@azure/functions-core' ? CORE : next(specifier, context)),
  load: (url, context, next) =>
    url === CORE.url ? { ...CORE, source: 'module.exports = globalThis.tidemarkFunctionsCore' } : next(url, context),
});

/** In the order of their registration. */
export const registeredFunctions = (): readonly RegisteredFunction[] =>
  [...core.functions.values()].map(({ metadata }) => metadata);

async function invoke(name: string, data: Typed, triggerMetadata: Readonly<Record<string, Typed>> = {}) {
  const found = core.functions.get(name);
  if (found === undefined || core.model === undefined) throw new Error(`no function ${name} is registered`);
  const { metadata, callback } = found;
  const trigger = Object.values(metadata.bindings).find(({ direction }) => direction === 'in');
  const request = { triggerMetadata, inputData: [{ name: trigger?.['name'], data }] };
  const model = core.model.getInvocationModel({ invocationId: '1', request, metadata, log: () => undefined });
  const { context, inputs } = await model.getArguments();
  return model.getResponse(context, await model.invokeFunction(context, inputs, callback));
}

export async function invokeTimer(name: string): Promise<void> {
  await invoke(name, { json: JSON.stringify({ Schedule: {}, ScheduleStatus: null, IsPastDue: false }) });
}

export async function invokeBatch(name: string, bodies: readonly unknown[]): Promise<void> {
  await invoke(name, { collectionString: { string: bodies.map((body) => JSON.stringify(body)) } });
}

export async function invokeHttp(name: string, request: Readonly<Record<string, unknown>>) {
  const { returnValue } = await invoke(name, { http: request });
  if (returnValue?.http === undefined) throw new Error('the function returned no HTTP response');
  const { statusCode, headers, body } = returnValue.http;
  return { status: Number(statusCode), headers, text: Buffer.from(body.bytes ?? body.string ?? '').toString() };
}

export interface Taken {
  readonly id: string;
  /** What the function threw; the message was given back then. */
  readonly error?: unknown;
}

/** One message of the next session that has any, as the extension takes, gives and settles it. */
export async function takeMessage(connectionString: string, name: string): Promise<Taken> {
  const client = new ServiceBusClient(connectionString, { retryOptions: { maxRetries: 0, timeoutInMs: 20_000 } });
  try {
    const receiver = await client.acceptNextSession('commands', { skipParsingBodyAsJson: true });
    const [message] = await receiver.receiveMessages(1, { maxWaitTimeInMs: 20_000 });
    if (message === undefined) throw new Error('no message came');
    const id = String(message.messageId);
    try {
      await invoke(name, { string: String(message.body) }, metadataOf(message));
      await receiver.completeMessage(message);
      return { id };
    } catch (error) {
      await receiver.abandonMessage(message);
      return { id, error };
    }
  } finally {
    await client.close();
  }
}

function metadataOf(message: ServiceBusReceivedMessage): Record<string, Typed> {
  const texts = {
    MessageId: message.messageId,
    SessionId: message.sessionId,
    Subject: message.subject,
    ContentType: message.contentType,
    ReplyTo: message.replyTo,
    ReplyToSessionId: message.replyToSessionId,
    CorrelationId: message.correlationId,
  };
  const given = Object.entries(texts).filter(([, value]) => value !== undefined);
  return {
    ...Object.fromEntries(given.map(([key, value]) => [key, { string: String(value) }])),
    EnqueuedTime: { json: JSON.stringify(message.enqueuedTimeUtc) },
    SequenceNumber: { int: Number(message.sequenceNumber) },
    DeliveryCount: { int: (message.deliveryCount ?? 0) + 1 },
    ApplicationProperties: { json: JSON.stringify(message.applicationProperties ?? {}) },
  };
}
