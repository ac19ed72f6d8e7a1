/**
 * A refusal as the ARM client sees it: an HTTP status and `{error: {code, message}}`. It belongs to the protocol and never leaves the
 * emulator, which is why it is no TidemarkError. Codes and messages follow Azure Compute's own.
 */
export class ArmError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.name = 'ArmError';
    this.status = status;
    this.code = code;
  }
}

export const badRequest = (code: string, message: string): ArmError => new ArmError(400, code, message);

export const conflict = (code: string, message: string): ArmError => new ArmError(409, code, message);

export const resourceNotFound = (id: string): ArmError =>
  new ArmError(404, 'ResourceNotFound', `The resource '${id}' was not found.`);

/** What a failure of the emulator itself, or of the storage behind it, looks like. */
export const asArmError = (error: unknown): ArmError =>
  error instanceof ArmError
    ? error
    : new ArmError(500, 'InternalServerError', error instanceof Error ? error.message : String(error));
