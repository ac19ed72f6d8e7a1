import { expect } from 'vitest';
import { type ErrorCode, TidemarkError } from '../../src/errors.ts';

/** A signal that never aborts. */
export const live = new AbortController().signal;

let names = 0;
/** A name that no other test of this process and no earlier run used. */
export const freshName = (role: string): string => `${role}-${process.pid}-${Date.now().toString(36)}-${++names}`;

/** Fails unless `promise` rejects with a TidemarkError of that code. */
export async function expectCode(promise: Promise<unknown>, code: ErrorCode): Promise<TidemarkError> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(TidemarkError);
  const failure = error as TidemarkError;
  expect(`${failure.code}: ${failure.message}`).toMatch(new RegExp(`^${code}: `));
  return failure;
}

/** Fails unless the call, given an aborted signal, rejects with that signal's own reason. */
export async function expectAborts(call: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
  const reason = new Error('stop now');
  await expect(call(AbortSignal.abort(reason))).rejects.toBe(reason);
}

/** Bytes that differ with the seed and along the buffer. */
export function pattern(seed: number, lengthBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(lengthBytes);
  let state = (seed * 2_654_435_761 + 1) >>> 0;
  for (let index = 0; index < lengthBytes; index++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

/** As `toEqual` for buffers, without printing megabytes. */
export function expectBytes(actual: Buffer | undefined, expected: Buffer): void {
  expect(actual?.length).toBe(expected.length);
  const firstDifference =
    actual?.equals(expected) === true ? -1 : expected.findIndex((byte, at) => byte !== actual?.[at]);
  expect(firstDifference).toBe(-1);
}
