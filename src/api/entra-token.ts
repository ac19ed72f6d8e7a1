/** Access tokens of Entra ID (version 2.0): JWTs signed with RS256 by one tenant, for this service. */
import { verify as verifySignature } from 'node:crypto';
import { z } from 'zod';
import { TidemarkError } from '../errors.ts';
import type { Caller, Permission, Verifier } from './auth.ts';
import type { SigningKeys } from './signing-keys.ts';

/** App roles (`roles`, for services and people) and scopes (`scp`, for programs that act for people) have the same names. */
export const PERMISSIONS: Readonly<Record<string, readonly Permission[]>> = {
  'Tidemark.Read': ['read'],
  'Tidemark.Command': ['read', 'command'],
};
/** Between the clocks of Entra ID and this host. */
const SKEW_SECONDS = 120;
const MAX_NAME_CHARS = 150;

export interface EntraOptions {
  /** `https://login.microsoftonline.com/TENANT/v2.0`, or its like in another cloud. */
  readonly issuer: string;
  readonly tenantId: string;
  /** Client id of this service's registration. */
  readonly audience: string;
  readonly keys: SigningKeys;
  /** Wall clock. */
  readonly nowSeconds: () => number;
}

const headerSchema = z.object({
  alg: z.literal('RS256'),
  kid: z.string().min(1).max(256),
  typ: z.enum(['JWT', 'at+jwt']).optional(),
  crit: z.undefined().optional(),
});

const text = z.string().min(1).max(500);

const claimsSchema = z.object({
  iss: text,
  aud: text,
  tid: text,
  ver: z.literal('2.0'),
  exp: z.number(),
  nbf: z.number(),
  sub: text,
  oid: text.optional(),
  azp: text.optional(),
  preferred_username: text.optional(),
  roles: z.array(text).max(200).default([]),
  scp: z.string().max(5000).default(''),
});

type Claims = z.infer<typeof claimsSchema>;

const refused = (why: string): TidemarkError => new TidemarkError('UNAUTHENTICATED', `the bearer token ${why}`);

export function entraVerifier(options: EntraOptions): Verifier {
  return {
    async verify(token, signal) {
      const [header = '', payload = '', signature = '', ...rest] = token.split('.');
      if (signature === '' || rest.length > 0) return undefined; // no JWT
      const { kid } = parse(headerSchema, header, 'is not signed with RS256 and a key that it names');
      const key = await options.keys.find(kid, signal);
      if (key === undefined) throw refused('is signed with a key that its tenant does not have');
      const signed = Buffer.from(`${header}.${payload}`, 'ascii');
      if (!verifySignature('RSA-SHA256', signed, key, decode(signature))) throw refused('has a wrong signature');
      return callerOf(checked(options, parse(claimsSchema, payload, 'lacks claims of an access token, version 2.0')));
    },
  };
}

function checked({ issuer, tenantId, audience, nowSeconds }: EntraOptions, claims: Claims): Claims {
  if (claims.iss !== issuer || claims.tid.toLowerCase() !== tenantId.toLowerCase()) {
    throw refused('is not of the tenant of this service');
  }
  if (claims.aud !== audience) throw refused('is for another service');
  const now = nowSeconds();
  if (claims.exp <= now - SKEW_SECONDS) throw refused('has expired');
  if (claims.nbf > now + SKEW_SECONDS) throw refused('is not valid yet');
  return claims;
}

/** Named by what people know, and by what never changes. */
function callerOf({
  sub,
  oid = sub,
  azp = 'an application',
  preferred_username: user = azp,
  roles,
  scp,
}: Claims): Caller {
  const granted = [...roles, ...scp.split(' ')];
  const may = granted.flatMap((name) => (Object.hasOwn(PERMISSIONS, name) ? (PERMISSIONS[name] ?? []) : []));
  const name = `${user}, ${oid}`.replaceAll(/\p{Cc}/gu, ' ').slice(0, MAX_NAME_CHARS);
  return { name, may: new Set(may) };
}

function parse<T>(schema: z.ZodType<T>, part: string, otherwise: string): T {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(decode(part)));
  } catch {
    throw refused('is no JWT'); // without a cause, which may quote it
  }
  const result = schema.safeParse(json);
  if (!result.success) throw refused(otherwise);
  return result.data;
}

/** Canonical base64url only, so that a token has one form. */
function decode(part: string): Buffer {
  const bytes = Buffer.from(part, 'base64url');
  if (bytes.toString('base64url') !== part) throw refused('is no JWT');
  return bytes;
}
