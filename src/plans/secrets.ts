/** Secrets of actions: where a plan says they are. They are passed on and never stored. */
import { open } from 'node:fs/promises';
import { TidemarkError } from '../errors.ts';
import type { SecretSource } from './plan-file.ts';

const MAX_SECRET_BYTES = 4096;

/** White space at the ends of a file is not part of the secret. @throws TidemarkError PLAN_SECRET_MISSING, which names the place only */
export async function readSecret(
  environment: Readonly<Record<string, string | undefined>>,
  source: SecretSource,
): Promise<string> {
  const where = 'env' in source ? `variable ${source.env}` : `file ${source.file}`;
  const value = 'env' in source ? environment[source.env] : await readFileStart(source.file);
  if (value === undefined || value === '') throw new TidemarkError('PLAN_SECRET_MISSING', `${where} holds no secret`);
  if (Buffer.byteLength(value) > MAX_SECRET_BYTES) {
    throw new TidemarkError('PLAN_SECRET_MISSING', `${where} holds more than ${MAX_SECRET_BYTES} bytes`);
  }
  return value;
}

async function readFileStart(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, 'r');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_SECRET_BYTES + 1), 0, MAX_SECRET_BYTES + 1, 0);
    return buffer.toString('utf8', 0, bytesRead).trim();
  } catch {
    return undefined; // its cause may quote the path only, which the caller names
  }
}
