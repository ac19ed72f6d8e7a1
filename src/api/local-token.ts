/** The local token's file: read, or made where there is none. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TidemarkError } from '../errors.ts';

const TOKEN = /^[A-Za-z0-9._~+/-]{32,512}=*$/;
const TOKEN_BYTES = 32;
const OWNER_ONLY = 0o600;

/** In the home folder of the local stack. */
export const localTokenFile = (home: string): string => join(resolve(home), 'api.token');

/** @throws TidemarkError CONFIG_INVALID; the message never has what is in the file */
export function readToken(file: string): string {
  let token: string;
  try {
    token = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new TidemarkError('CONFIG_INVALID', `cannot read the token file ${file}`, { cause });
  }
  if (TOKEN.test(token)) return token;
  throw new TidemarkError('CONFIG_INVALID', `${file}: a token has 32 to 512 letters, digits and any of ._~+/-`);
}

/** The token in `file`, made when there is none; only the file's owner may read it. @throws TidemarkError CONFIG_INVALID */
export function ensureToken(file: string): string {
  try {
    mkdirSync(resolve(file, '..'), { recursive: true });
    writeFileSync(file, `${randomBytes(TOKEN_BYTES).toString('base64url')}\n`, { flag: 'wx', mode: OWNER_ONLY });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new TidemarkError('CONFIG_INVALID', `cannot write the token file ${file}`, { cause });
    }
    chmodSync(file, OWNER_ONLY);
  }
  return readToken(file);
}
