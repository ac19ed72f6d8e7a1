/**
 * A refusal as the AMQP peer sees it: condition and description of the link or delivery, status of a request.
 * It belongs to the protocol and never leaves the broker, which is why it is no TidemarkError.
 */
export class Fault extends Error {
  readonly condition: string;
  /** Status code in the answer to a `$management` or `$cbs` request. */
  readonly status: number;

  constructor(condition: string, description: string, status = 400) {
    super(description);
    this.name = 'Fault';
    this.condition = condition;
    this.status = status;
  }
}

/** The AMQP error of `error`, whatever it is. */
export function amqpErrorOf(error: unknown): { condition: string; description: string } {
  if (error instanceof Fault) return { condition: error.condition, description: error.message };
  return { condition: 'amqp:internal-error', description: error instanceof Error ? error.message : String(error) };
}

export const messageLockLost = (): Fault =>
  new Fault(
    'com.microsoft:message-lock-lost',
    'The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.',
    410,
  );

export const sessionLockLost = (sessionId: string): Fault =>
  new Fault(
    'com.microsoft:session-lock-lost',
    `The session lock has expired on the session with id ${sessionId}.`,
    410,
  );

export const notFound = (path: string): Fault =>
  new Fault('amqp:not-found', `The messaging entity '${path}' could not be found.`, 404);

export const messageNotFound = (description: string): Fault =>
  new Fault('com.microsoft:message-not-found', description, 404);

export const notAllowed = (description: string): Fault => new Fault('amqp:not-allowed', description);

export const notSupported = (what: string): Fault =>
  new Fault('amqp:not-implemented', `${what} is not supported by the local broker`, 501);
