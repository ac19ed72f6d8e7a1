import { createHmac, createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { authenticate, requirePermission, type Caller } from '../../src/api/auth.ts';
import { entraVerifier } from '../../src/api/entra-token.ts';
import { KEY_AGE, REFRESH_MS, signingKeys } from '../../src/api/signing-keys.ts';
import { parseConfiguration } from '../../src/config.ts';
import { TidemarkError } from '../../src/errors.ts';

const live = new AbortController().signal;
const TENANT = '11111111-2222-3333-4444-555555555555';
const ISSUER = `https://login.microsoftonline.com/${TENANT}/v2.0`;
const AUDIENCE = '99999999-0000-0000-0000-000000000000';
const NOW = 1_800_000_000;

const newKey = (bits = 2048) => generateKeyPairSync('rsa', { modulusLength: bits });
const first = newKey();
const second = newKey();
const weak = newKey(1024);
const jwk = (kid: string, { publicKey }: { publicKey: KeyObject }, more: object = {}) => ({
  ...publicKey.export({ format: 'jwk' }),
  kid,
  use: 'sig',
  ...more,
});

const published = {
  keys: [jwk('k1', first)] as object[],
  fetches: 0,
  status: 200,
  text: undefined as string | undefined,
};
const authority = createServer((_request, response) => {
  published.fetches++;
  response.writeHead(published.status, { 'content-type': 'application/json' });
  response.end(published.text ?? JSON.stringify({ keys: published.keys }));
});
let url = '';
let nowMs = 0;

beforeAll(async () => {
  await new Promise<void>((resolve) => authority.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(authority.address() as AddressInfo).port}/discovery/v2.0/keys`;
});
afterAll(() => {
  authority.closeAllConnections();
  authority.close();
});
beforeEach(() => {
  Object.assign(published, { keys: [jwk('k1', first)], fetches: 0, status: 200, text: undefined });
  nowMs = 1_000_000;
});

const verifier = () =>
  entraVerifier({
    issuer: ISSUER,
    tenantId: TENANT,
    audience: AUDIENCE,
    keys: signingKeys(url, () => nowMs),
    nowSeconds: () => NOW,
  });

const GOOD = {
  iss: ISSUER,
  aud: AUDIENCE,
  tid: TENANT,
  ver: '2.0',
  nbf: NOW - 60,
  exp: NOW + 3600,
  sub: 'subject',
  oid: 'object-id',
  preferred_username: 'ada@example.com',
  roles: ['Tidemark.Command'],
};

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

interface Signing {
  readonly header?: object;
  readonly key?: KeyObject;
  readonly sign?: (input: string) => string;
}

function token(claims: object = {}, { header = {}, key = first.privateKey, sign }: Signing = {}): string {
  const input = `${encode({ alg: 'RS256', typ: 'JWT', kid: 'k1', ...header })}.${encode({ ...GOOD, ...claims })}`;
  const rs256 = (text: string): string => createSign('RSA-SHA256').update(text).sign(key, 'base64url');
  return `${input}.${(sign ?? rs256)(input)}`;
}

const call = (text: string, of = verifier()): Promise<Caller> => authenticate([of], `Bearer ${text}`, live);

async function codeOf(attempt: Promise<unknown>): Promise<string> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return error instanceof TidemarkError ? error.code : `no error but ${String(error)}`;
}

describe('a token of Entra ID', () => {
  it('names its caller, and what they may do', async () => {
    const caller = await call(token());
    expect(caller).toEqual({ name: 'ada@example.com, object-id', may: new Set(['read', 'command']) });
    const reader = await call(token({ roles: undefined, scp: 'openid Tidemark.Read' }));
    requirePermission(reader, 'read');
    expect(() => requirePermission(reader, 'command')).toThrow(expect.objectContaining({ code: 'FORBIDDEN' }) as Error);
    const nobody = await call(token({ roles: ['__proto__', 'toString', 'tidemark.read'] }));
    expect(nobody.may).toEqual(new Set());
    expect((await call(token({ preferred_username: 'a\nb' }))).name).toBe('a b, object-id');
  });

  it.each([
    ['of another tenant', { tid: 'other' }],
    ['of another issuer', { iss: `https://login.microsoftonline.us/${TENANT}/v2.0` }],
    ['for another service', { aud: 'api://other' }],
    ['for several services', { aud: [AUDIENCE] }],
    ['expired', { exp: NOW - 121 }],
    ['not valid yet', { nbf: NOW + 121 }],
    ['without an end', { exp: undefined }],
    ['with an end that is text', { exp: String(NOW + 3600) }],
    ['of version 1.0', { ver: '1.0' }],
    ['without a subject', { sub: '' }],
  ])('is refused %s', async (_what, claims) => {
    expect(await codeOf(call(token(claims)))).toBe('UNAUTHENTICATED');
  });

  it('has two minutes of patience with clocks', async () => {
    await call(token({ exp: NOW - 119 }));
    await call(token({ nbf: NOW + 119 }));
  });

  it.each<[string, () => string]>([
    ['that is not signed', () => token({}, { header: { alg: 'none' }, sign: () => '' })],
    ['that says none and is signed', () => token({}, { header: { alg: 'none' } })],
    [
      'signed with the public key as a secret',
      () => {
        const secret = first.publicKey.export({ type: 'spki', format: 'pem' });
        const sign = (input: string): string => createHmac('sha256', secret).update(input).digest('base64url');
        return token({}, { header: { alg: 'HS256' }, sign });
      },
    ],
    ['signed by somebody else', () => token({}, { key: second.privateKey })],
    ['whose claims were changed', () => token().replace(/\.[^.]+\./, `.${encode({ ...GOOD, roles: ['x'] })}.`)],
    ['with another padding', () => `${token()}=`],
    ['with a critical extension', () => token({}, { header: { crit: ['exp'] } })],
    ['that brings its own key', () => token({}, { key: second.privateKey, header: { jwk: jwk('k1', second) } })],
    ['that names no key', () => token({}, { header: { kid: undefined } })],
    ['of four parts', () => `${token()}.x`],
    ['of garbage', () => 'a.b.c'],
  ])('is refused %s', async (_what, make) => {
    expect(await codeOf(call(make()))).toBe('UNAUTHENTICATED');
  });

  it('is refused with any bit of its signature flipped', async () => {
    const good = token();
    const of = verifier();
    const [head = '', claims = '', signature = ''] = good.split('.');
    const bytes = Buffer.from(signature, 'base64url');
    for (let bit = 0; bit < bytes.length * 8; bit += 31) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(await codeOf(call(`${head}.${claims}.${flipped.toString('base64url')}`, of))).toBe('UNAUTHENTICATED');
    }
    await call(good, of);
  });

  it('is never in the error that refuses it', async () => {
    const bad = token({ exp: 1 });
    const error = await call(bad).catch((reason: unknown) => reason);
    for (let at: unknown = error; at instanceof Error; at = at.cause) {
      for (const part of bad.split('.')) expect(`${at.message}${at.stack ?? ''}`).not.toContain(part);
    }
  });
});

describe('signing keys', () => {
  it('are read once, and again for a key that is not known, once a minute at most', async () => {
    const of = verifier();
    await Promise.all([call(token(), of), call(token(), of)]);
    expect(published.fetches).toBe(1);
    const newer = token({}, { header: { kid: 'k2' }, key: second.privateKey });
    published.keys.push(jwk('k2', second));
    expect(await codeOf(call(newer, of))).toBe('UNAUTHENTICATED');
    expect(published.fetches).toBe(1);
    nowMs += REFRESH_MS;
    await call(newer, of);
    for (let i = 0; i < 5; i++) await codeOf(call(token({}, { header: { kid: `invented-${i}` } }), of));
    expect(published.fetches).toBe(2);
  });

  it('that were withdrawn are not believed for long', async () => {
    const of = verifier();
    await call(token(), of);
    published.keys = [jwk('k2', second)];
    nowMs += KEY_AGE.staleMs + 1;
    expect(await codeOf(call(token(), of))).toBe('UNAUTHENTICATED');
  });

  it('outlast an authority that does not answer, and not for ever', async () => {
    const of = verifier();
    await call(token(), of);
    published.status = 500;
    nowMs += KEY_AGE.staleMs + 1;
    await call(token(), of);
    nowMs += KEY_AGE.mostMs;
    expect(await codeOf(call(token(), of))).toBe('IDENTITY_UNAVAILABLE');
    published.status = 200;
    nowMs += REFRESH_MS;
    await call(token(), of);
  });

  it('that are weak, of another kind, or too many, are not used', async () => {
    published.keys = [
      jwk('k1', weak),
      jwk('k1', first, { use: 'enc' }),
      jwk('k1', first, { alg: 'PS256' }),
      { kty: 'oct', kid: 'k1', k: 'AAAA' },
      { kty: 'EC', kid: 'k1' },
    ];
    expect(await codeOf(call(token({}, { key: weak.privateKey })))).toBe('UNAUTHENTICATED');
    published.text = JSON.stringify({ keys: Array.from({ length: 65 }, () => jwk('k1', first)) });
    expect(await codeOf(call(token()))).toBe('IDENTITY_UNAVAILABLE');
    published.text = `{"keys":[${' '.repeat(300_000)}]}`;
    expect(await codeOf(call(token()))).toBe('IDENTITY_UNAVAILABLE');
  });
});

describe('the settings', () => {
  const connections = {
    TIDEMARK_CACHE_CONNECTION_STRING: 'UseDevelopmentStorage=true',
    TIDEMARK_REPLICA_CONNECTION_STRING: 'UseDevelopmentStorage=true',
    TIDEMARK_SERVICE_BUS_CONNECTION_STRING: 'Endpoint=sb://a;UseDevelopmentEmulator=true',
    TIDEMARK_API_TENANT_ID: TENANT,
    TIDEMARK_API_AUDIENCE: AUDIENCE,
  };

  it.each([
    ['AzureCloud', 'https://login.microsoftonline.com'],
    ['AzureUSGovernment', 'https://login.microsoftonline.us'],
    ['AzureChinaCloud', 'https://login.partner.microsoftonline.cn'],
  ])('name the issuer of %s', (cloud, host) => {
    const { api } = parseConfiguration({ ...connections, TIDEMARK_CLOUD: cloud });
    expect(api.entra).toEqual({
      tenantId: TENANT,
      audience: AUDIENCE,
      issuer: `${host}/${TENANT}/v2.0`,
      keysUrl: `${host}/${TENANT}/discovery/v2.0/keys`,
    });
  });

  it('come together', () => {
    expect(() => parseConfiguration({ ...connections, TIDEMARK_API_AUDIENCE: '' })).toThrow('TIDEMARK_API_AUDIENCE');
    expect(() => parseConfiguration({ ...connections, TIDEMARK_API_TENANT_ID: '' })).toThrow('TIDEMARK_API_TENANT_ID');
  });
});
