/**
 * Pure. Takes secrets out of text that leaves the process: messages, stacks, log lines, spans.
 *
 * It knows shapes, not secrets: what follows the names below, what a header or a URL carries. A key that stands alone, without its name,
 * looks like any other number and stays; so nothing may print a key by itself.
 */

/** Stands where a secret was. */
export const REDACTED = '…';

/**
 * Names whose value is a secret, in connection strings, queries, headers and JSON, whatever their case. `sig` is the signature of a shared
 * access signature, `code` the key of a function in its URL.
 */
const SECRET_NAMES = [
  'sig',
  'AccountKey',
  'SharedAccessKey',
  'EntityKey',
  'InstrumentationKey',
  'TIDEMARK_LOG_KEY',
  'logKey',
  'client[_-]?secret',
  'client[_-]?assertion',
  'password',
  'passwd',
  'pwd',
  '(?:access|refresh|id|api|identity)[_-]?token',
  'api[_-]?key',
  'x-functions-key',
  'x-ms-encryption-key',
  'ocp-apim-subscription-key',
  'x-identity-header',
  'set-cookie',
  'cookie',
];

/** What a value consists of: it ends at white space, quotes, and what separates it from the next part. */
const VALUE = String.raw`[^\s"'\x60&;,<>(){}[\]\\|…]+`;
/** Between a name and its value: `=`, `: `, `":"`, also escaped as within a JSON text or a URL. */
const GAP = String.raw`(?:\\*["'])?\s*(?:=|:|%(?:25)*3D)\s*(?:\\*["'])?`;

/** A name begins here: not within a word, but behind an escaped `?` or `&`, in a URL within a URL. */
const BEGIN = String.raw`(?:(?<![A-Za-z0-9])|(?<=%(?:25)*(?:3F|26)))`;

const NAMED = new RegExp(String.raw`${BEGIN}((?:${SECRET_NAMES.join('|')})${GAP})${VALUE}`, 'gi');
/** `code` is a common word: a secret only in a query. */
const FUNCTION_KEY = new RegExp(String.raw`([?&]code=)${VALUE}`, 'gi');
/** All of it: its parts say what may be done, and the signature is one of them. */
const ACCESS_SIGNATURE = new RegExp(String.raw`(SharedAccessSignature=)[^\s"'\x60;,<>(){}[\]\\…]+`, 'gi');
/** Of headers: `Bearer eyJ…`, `SharedKey account:signature`, `Basic dXNlcjpwYXNz`. */
const BEARER = /\b(Bearer|Basic)(\s+)(?=[\w.~+/-]*[\d.+/_=-]|\S{16})[\w.~+/-]+=*/gi;
const SHARED_KEY = /\b(SharedKey(?:Lite)?\s+[\w-]+:)[A-Za-z0-9+/]+=*/g;
/** A JSON web token wherever it stands. */
const TOKEN = /\beyJ[\w-]{5,}(?:\.[\w-]*){0,4}/g;
/** `scheme://user:password@host` */
const USER_INFO = /\b([a-z][a-z0-9+.-]*:\/\/)[^\s/"'`<>@?#\\…]+@/gi;
/** The answer to a request that was signed with a wrong key quotes its signature. */
const QUOTED_SIGNATURE = /(signature found in the HTTP request )'[^']*'/gi;

/** `text` without the secrets that it is known to hold; the rest is unchanged. Redacting again changes nothing. */
export function redactSecrets(text: string): string {
  return text
    .replaceAll(USER_INFO, `$1${REDACTED}@`)
    .replaceAll(ACCESS_SIGNATURE, `$1${REDACTED}`)
    .replaceAll(SHARED_KEY, `$1${REDACTED}`)
    .replaceAll(BEARER, `$1$2${REDACTED}`)
    .replaceAll(TOKEN, REDACTED)
    .replaceAll(NAMED, `$1${REDACTED}`)
    .replaceAll(FUNCTION_KEY, `$1${REDACTED}`)
    .replaceAll(QUOTED_SIGNATURE, `$1'${REDACTED}'`);
}
