/** The TLS certificate of the emulator: made once per home, trusted by its clients through a file. */
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

const DAY_MS = 86_400_000;
const LIFETIME_MS = 365 * DAY_MS;
/** A certificate that is about to end is replaced at the next start. */
const RENEW_BEFORE_MS = 30 * DAY_MS;
/** The clocks of client and emulator are the same; this covers a clock that was set back. */
const BACKDATE_MS = DAY_MS;

export const caFileOf = (folder: string): string => join(folder, 'ca.pem');
const keyFileOf = (folder: string): string => join(folder, 'key.pem');

/** The certificate in `folder`; a new one when there is none, or when it ends soon. */
export async function ensureCertificate(folder: string, nowMs: number): Promise<Certificate> {
  return readCertificate(folder, nowMs) ?? makeCertificate(folder, nowMs);
}

function readCertificate(folder: string, nowMs: number): Certificate | undefined {
  if (!existsSync(caFileOf(folder)) || !existsSync(keyFileOf(folder))) return undefined;
  const cert = readFileSync(caFileOf(folder), 'utf8');
  const key = readFileSync(keyFileOf(folder), 'utf8');
  try {
    const { validFrom, validTo } = new X509Certificate(cert);
    const usable = Date.parse(validFrom) <= nowMs && nowMs < Date.parse(validTo) - RENEW_BEFORE_MS;
    return usable ? { cert, key } : undefined;
  } catch {
    return undefined;
  }
}

async function makeCertificate(folder: string, nowMs: number): Promise<Certificate> {
  // Loaded only when it is needed: it costs more than the rest of the start.
  const { generate } = await import('selfsigned');
  const made = await generate([{ name: 'commonName', value: 'Tidemark local ARM emulator' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    notBeforeDate: new Date(nowMs - BACKDATE_MS),
    notAfterDate: new Date(nowMs + LIFETIME_MS),
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', digitalSignature: true, keyCertSign: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  });
  mkdirSync(folder, { recursive: true });
  replaceFile(keyFileOf(folder), made.private, 0o600);
  replaceFile(caFileOf(folder), made.cert, 0o644);
  return { cert: made.cert, key: made.private };
}

/** Writes the file at once and whole. */
export function replaceFile(file: string, content: string, mode = 0o644): void {
  const temporary = `${file}.${process.pid}.tmp`;
  writeFileSync(temporary, content, { mode });
  renameSync(temporary, file);
}
