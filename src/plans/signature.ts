/** Pure. How a webhook's receiver can tell that a call is ours, whole, and not an old one. */
import { createHmac } from 'node:crypto';

export const SIGNATURE_HEADERS = {
  key: 'idempotency-key',
  timestamp: 'tidemark-timestamp',
  signature: 'tidemark-signature',
} as const;

/** `v1=` and HMAC-SHA-256, in hex, of the timestamp (seconds since 1970), a dot, and the body as sent. */
export function signatureOf(secret: string, timestampSeconds: number, body: string): string {
  return `v1=${createHmac('sha256', secret).update(`${timestampSeconds}.${body}`).digest('hex')}`;
}
