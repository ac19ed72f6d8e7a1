/** Claims-based security: the `$cbs` node, where the SDK puts a token for each link. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Message } from 'rhea';
import { Fault } from './fault.ts';

const invalid = (): Fault =>
  new Fault('amqp:unauthorized-access', 'InvalidSignature: The token has an invalid signature.', 401);

/**
 * Checks a put-token request. Without a key, and for tokens that are no shared access signature (the broker cannot verify a JWT),
 * every token is taken.
 * @throws Fault amqp:unauthorized-access
 */
export function checkToken(request: Message, sasKey: string | undefined, nowMs: number): void {
  if (sasKey === undefined) return;
  if (request.application_properties?.['type'] !== 'servicebus.windows.net:sastoken') return;
  const fields = tokenFields(String(request.body));
  const expirySeconds = Number(fields.get('se'));
  // The signature covers the fields as they were sent, still URL-encoded.
  const expected = createHmac('sha256', sasKey)
    .update(`${fields.get('sr')}\n${fields.get('se')}`)
    .digest();
  const given = Buffer.from(decodeURIComponent(fields.get('sig') ?? ''), 'base64');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw invalid();
  if (!(expirySeconds * 1000 >= nowMs)) throw invalid();
}

/** `SharedAccessSignature sr=…&sig=…&se=…&skn=…`, values left encoded. */
function tokenFields(token: string): Map<string, string> {
  const pairs = token.replace(/^SharedAccessSignature /, '').split('&');
  return new Map(pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
}
