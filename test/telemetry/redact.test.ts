import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { REDACTED, redactSecrets } from '../../src/telemetry/redact.ts';

const letters = (alphabet: string, min: number, max: number) =>
  fc.string({ unit: fc.constantFrom(...alphabet.split('')), minLength: min, maxLength: max });
const ALPHANUMERIC = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const base64 = fc.uint8Array({ minLength: 16, maxLength: 64 }).map((bytes) => Buffer.from(bytes).toString('base64'));
const base64url = fc
  .uint8Array({ minLength: 16, maxLength: 64 })
  .map((bytes) => Buffer.from(bytes).toString('base64url'));
const hex = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const password = letters(`${ALPHANUMERIC}!$*+-._~%`, 8, 24);

/** How a secret appears in text: what is around it, and how it is written there. */
const SHAPES: readonly [string, fc.Arbitrary<string>, (secret: string) => string][] = [
  [
    'SAS in a URL',
    base64,
    (s) => `https://a.blob.core.windows.net/c/b?sv=2025-01-05&sr=b&sig=${encodeURIComponent(s)}&se=2026`,
  ],
  ['SAS, not encoded', base64, (s) => `?sv=2025&sig=${s}`],
  [
    'SAS within a URL',
    base64,
    (s) => `copySource=${encodeURIComponent(`https://a/c/b?sig=${encodeURIComponent(s)}&se=1`)}`,
  ],
  [
    'SAS within a URL within a URL',
    base64,
    (s) => encodeURIComponent(`u=${encodeURIComponent(`https://a/b?x=1&sig=${encodeURIComponent(s)}`)}`),
  ],
  ['SAS as JSON', base64, (s) => JSON.stringify({ accessSAS: `https://md.blob/x?sv=1&sig=${encodeURIComponent(s)}` })],
  [
    'connection string',
    base64,
    (s) => `DefaultEndpointsProtocol=https;AccountName=a;AccountKey=${s};EndpointSuffix=core.windows.net`,
  ],
  [
    'connection string with a SAS',
    base64,
    (s) => `BlobEndpoint=https://a/;SharedAccessSignature=sv=1&sig=${encodeURIComponent(s)}&se=2`,
  ],
  [
    'Service Bus',
    base64,
    (s) => `Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=RootManage;SharedAccessKey=${s}`,
  ],
  [
    'Service Bus token',
    base64,
    (s) => `SharedAccessSignature sr=sb%3A%2F%2Fn&sig=${encodeURIComponent(s)}&se=1795406400&skn=Root`,
  ],
  ['bearer token', base64url, (s) => `authorization: Bearer ${s}9`],
  ['bearer token as JSON', base64url, (s) => JSON.stringify({ headers: { authorization: `Bearer ${s}9` } })],
  ['JSON web token', base64url, (s) => `got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.${s} back`],
  ['shared key', base64, (s) => `Authorization: SharedKey devaccount:${s}`],
  ['basic', base64, (s) => `Authorization: Basic ${s}`],
  ['user information', password, (s) => `cannot reach amqps://user:${s}@host.test:5671/queue`],
  ['log key', hex, (s) => `TIDEMARK_LOG_KEY=${s}`],
  ['log key as JSON', hex, (s) => JSON.stringify({ logKey: s, group: 'shop' })],
  ['log key in JSON in JSON', hex, (s) => JSON.stringify(JSON.stringify({ logKey: s }))],
  ['client secret', base64url, (s) => `client_id=x&client_secret=${s}&grant_type=client_credentials`],
  ['access token', base64url, (s) => `{"access_token": "${s}"}`],
  ['function key', base64, (s) => `POST https://f.azurewebsites.net/api/hook?code=${encodeURIComponent(s)}`],
  ['function key header', base64url, (s) => `x-functions-key: ${s}`],
  ['quoted signature', base64, (s) => `The MAC signature found in the HTTP request '${s}' is not the same`],
];

/** Text as it surrounds secrets: no part of it may end what the secret's own end is. */
const around = fc.constantFrom(
  '',
  ' ',
  'error: ',
  '"',
  "'",
  '(',
  '\n',
  '{"msg":"',
  'group shop, disk web/disk0: ',
  'é ',
);
const after = fc.constantFrom('', ' ', '"', "'", ')', '\n', ' at 4096 of group shop', '"}', ', next');

describe('redaction', () => {
  it.each(SHAPES)('leaves nothing of a secret: %s', (_, secrets, shape) => {
    fc.assert(
      fc.property(secrets, around, after, (secret, before, behind) => {
        const text = `${before}${shape(secret)}${behind}`;
        const clean = redactSecrets(text);
        expect(clean).toContain(REDACTED);
        for (const form of [secret, encodeURIComponent(secret), encodeURIComponent(encodeURIComponent(secret))]) {
          expect(clean).not.toContain(form);
          expect(clean).not.toContain(form.slice(0, 12)); // nor its begin or its end
          expect(clean).not.toContain(form.slice(-12));
        }
        expect(clean.startsWith(before)).toBe(true);
        expect(clean.endsWith(behind)).toBe(true);
        expect(redactSecrets(clean)).toBe(clean);
      }),
      { numRuns: 60 },
    );
  });

  it.each([
    'Put Page at 4096 of shop/web/disk0.vhd: 403 AuthenticationFailed',
    'error[STORAGE_UNAVAILABLE]: Get the properties of a: ECONNREFUSED',
    'Endpoint=sb://host/;SharedAccessKeyName=RootManageSharedAccessKey',
    'https://account.blob.core.windows.net/seed-disks/shop/web/disk0.vhd?comp=page&snapshot=2026-11-23T04:00:00.0000000Z',
    'mail to somebody@example.test about https://example.test/a@b',
    `sha256 ${'ab'.repeat(32)}`,
    'signal: SIGTERM, sign=1, design=2, code=LOG_MAGIC, the bearer of this, Basic tier, a token: none was sent yet',
    '{"level":"info","time":"2026-11-23T04:00:00.000Z","group":"shop","code":"STORAGE_TIMEOUT","key":"k"}',
    'at Object.<anonymous> (file:///srv/tidemark/src/azure/blob-account.ts:12:3)',
    'PASSWORD rules: see docs',
  ])('leaves other text as it is: %s', (text) => {
    expect(redactSecrets(text)).toBe(text);
  });

  it('leaves any text without a name, a scheme or a token as it is', () => {
    const plain = letters(`${ALPHANUMERIC} \n-_/.,`, 0, 200).filter((text) => !/bearer|basic|shared|eyJ/i.test(text));
    fc.assert(
      fc.property(plain, (text) => {
        expect(redactSecrets(text)).toBe(text);
      }),
    );
  });

  it('keeps JSON whole', () => {
    const document = fc.dictionary(
      fc.constantFrom('sig', 'AccountKey', 'authorization', 'url', 'password', 'note'),
      fc.oneof(
        base64,
        password,
        fc.string(),
        base64.map((s) => `Bearer ${s}`),
        base64.map((s) => `https://u:p@h/?sig=${s}`),
      ),
    );
    fc.assert(fc.property(document, (value) => void JSON.parse(redactSecrets(JSON.stringify(value)))));
    fc.assert(
      fc.property(
        document,
        (value) => void JSON.parse(redactSecrets(JSON.stringify({ inner: JSON.stringify(value) }))),
      ),
    );
  });
});
