/** Claims-based security: the `$cbs` node, where the SDK puts a token for each link. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Message } from 'rhea';
import { Fault } from './fault.ts';

const invalid = (): Fault =>
  new Fault('amqp:unauthorized-access', 'InvalidSignature: The token has an invalid signature.', 401);

/** The application that tokens of Entra ID for Service Bus are for. */
const AUDIENCE = /^https:\/\/servicebus\.azure\.net\/?$/;

/**
 * Checks a put-token request. Without a key every token is taken. Of a token of Entra ID only audience and times are looked at: there is
 * nobody to ask for the keys that sign it.
 * @throws Fault amqp:unauthorized-access
 */
export function checkToken(request: Message, sasKey: string | undefined, nowMs: number): void {
  if (sasKey === undefined) return;
  const type: unknown = request.application_properties?.['type'];
  if (type === 'jwt') return checkClaims(String(request.body), nowMs);
  if (type !== 'servicebus.windows.net:sastoken') return;
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

function checkClaims(token: string, nowMs: number): void {
  const { aud, exp, nbf } = claimsOf(token);
  if (typeof aud === 'string' && AUDIENCE.test(aud) && Number(nbf) * 1000 <= nowMs && nowMs < Number(exp) * 1000)
    return;
  throw new Fault(
    'amqp:unauthorized-access',
    'InvalidToken: The token has another audience, or is not valid now.',
    401,
  );
}

/** What a JWT says in its second part. @throws Fault */
function claimsOf(token: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>;
  } catch {
    throw new Fault('amqp:unauthorized-access', 'InvalidToken: The token is malformed.', 401);
  }
}

/** `SharedAccessSignature sr=…&sig=…&se=…&skn=…`, values left encoded. */
function tokenFields(token: string): Map<string, string> {
  const pairs = token.replace(/^SharedAccessSignature /, '').split('&');
  return new Map(pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
}
