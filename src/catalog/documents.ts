/**
 * JSON documents in the catalog: read with their schema, written under their ETag. Each has a `version` field, so that a newer
 * Tidemark's document is refused instead of misread.
 */
import type { z } from 'zod';
import { assert, TidemarkError } from '../errors.ts';
import { mapAll } from '../map-all.ts';
import { MIB } from '../model/sizes.ts';
import type { Catalog, Lease } from './catalog.ts';

/** A document is read and written whole: far above the largest group (1,024 disks), far below what would hurt. */
export const MAX_DOCUMENT_BYTES = 4 * MIB;
/** Each conflict means that another writer got through; this many in a row is no coincidence. */
export const MAX_UPDATE_ATTEMPTS = 16;
/** Documents of a listing read at once. */
const READS_IN_FLIGHT = 8;

export interface Versioned {
  readonly version: 1;
}

export interface StoredDocument<T> {
  readonly value: T;
  readonly etag: string;
}

export interface DocumentReplacement<T> {
  readonly name: string;
  readonly schema: z.ZodType<T>;
  readonly value: T;
  /** The ETag that the document had when it was read. */
  readonly etag: string;
  /** The lease on the blob, for documents that an owner holds. */
  readonly lease?: Lease | undefined;
}

/**
 * @returns the document and its ETag, or undefined when there is none.
 * @throws TidemarkError DOCUMENT_INVALID with the blob's name and the field when it is no such document.
 */
export async function readDocument<T extends Versioned>(
  catalog: Catalog,
  name: string,
  schema: z.ZodType<T>,
  signal: AbortSignal,
): Promise<StoredDocument<T> | undefined> {
  const blob = await catalog.read(name, signal);
  return blob === undefined ? undefined : { value: decode(name, blob.bytes, schema), etag: blob.etag };
}

/** What stands between the prefix and `.json` in the names of documents, in rising order. */
export async function documentNames(catalog: Catalog, prefix: string, signal: AbortSignal): Promise<readonly string[]> {
  const names = await catalog.list(prefix, signal);
  return names.filter((name) => name.endsWith('.json')).map((name) => name.slice(prefix.length, -'.json'.length));
}

/** All documents `PREFIX….json`, by name; one that is deleted meanwhile is left out. @throws TidemarkError DOCUMENT_INVALID */
export async function readDocuments<T extends Versioned>(
  catalog: Catalog,
  prefix: string,
  schema: z.ZodType<T>,
  signal: AbortSignal,
): Promise<readonly T[]> {
  const names = await documentNames(catalog, prefix, signal);
  const documents = await mapAll(names, READS_IN_FLIGHT, signal, (name, either) =>
    readDocument(catalog, `${prefix}${name}.json`, schema, either),
  );
  return documents.filter((document) => document !== undefined).map(({ value }) => value);
}

/**
 * @returns the new document's ETag, or undefined when one of that name exists; that one stays as it is.
 * @throws TidemarkError DOCUMENT_TOO_LARGE; ASSERTION when the value does not match its schema.
 */
export async function createDocument<T extends Versioned>(
  catalog: Catalog,
  name: string,
  schema: z.ZodType<T>,
  value: T,
  signal: AbortSignal,
): Promise<string | undefined> {
  return catalog.create(name, encode(name, schema, value), signal);
}

/**
 * @returns the document's new ETag.
 * @throws TidemarkError CONFLICT when the document has another ETag or is gone; OWNERSHIP_LOST when its lease is lost;
 * DOCUMENT_TOO_LARGE; ASSERTION when the value does not match its schema. Nothing is changed then.
 */
export async function replaceDocument<T extends Versioned>(
  catalog: Catalog,
  replacement: DocumentReplacement<T>,
  signal: AbortSignal,
): Promise<string> {
  const { name, schema, value, etag, lease } = replacement;
  const replaced = await catalog.replace(name, encode(name, schema, value), etag, lease, signal);
  if (replaced === undefined) throw new TidemarkError('CONFLICT', `${name} was changed or deleted by somebody else`);
  return replaced;
}

/**
 * Reads, changes and writes until no other writer came between. `change` gets the current document and returns the new one, or
 * undefined to leave it alone; what it throws passes through. It may run several times, also on its own result (when an answer was
 * lost on the way), so it must be idempotent.
 *
 * @returns the document as it is now, or undefined when there is none.
 * @throws TidemarkError CONFLICT after 16 attempts; DOCUMENT_INVALID; DOCUMENT_TOO_LARGE; ASSERTION
 */
export async function updateDocument<T extends Versioned>(
  catalog: Catalog,
  name: string,
  schema: z.ZodType<T>,
  change: (current: T) => T | undefined,
  signal: AbortSignal,
): Promise<T | undefined> {
  const changeExisting = (current: T | undefined): T | undefined =>
    current === undefined ? undefined : change(current);
  return writeChanged(catalog, { name, schema, change: changeExisting }, signal);
}

/**
 * {@link updateDocument} for a document that may not exist yet: `change` then gets undefined.
 *
 * @throws TidemarkError as {@link updateDocument}
 */
export async function upsertDocument<T extends Versioned>(
  catalog: Catalog,
  name: string,
  schema: z.ZodType<T>,
  change: (current: T | undefined) => T,
  signal: AbortSignal,
): Promise<T> {
  const written = await writeChanged(catalog, { name, schema, change }, signal);
  assert(written !== undefined, `${name} was written`);
  return written;
}

interface DocumentChange<T> {
  readonly name: string;
  readonly schema: z.ZodType<T>;
  readonly change: (current: T | undefined) => T | undefined;
}

async function writeChanged<T extends Versioned>(
  catalog: Catalog,
  { name, schema, change }: DocumentChange<T>,
  signal: AbortSignal,
): Promise<T | undefined> {
  for (let attempt = 1; attempt <= MAX_UPDATE_ATTEMPTS; attempt++) {
    const current = await readDocument(catalog, name, schema, signal);
    const value = change(current?.value);
    if (value === undefined) return current?.value;
    const bytes = encode(name, schema, value);
    const etag =
      current === undefined
        ? await catalog.create(name, bytes, signal)
        : await catalog.replace(name, bytes, current.etag, undefined, signal);
    if (etag !== undefined) return value;
  }
  throw new TidemarkError('CONFLICT', `${name} changed during each of ${MAX_UPDATE_ATTEMPTS} attempts to write it`);
}

function encode<T extends Versioned>(name: string, schema: z.ZodType<T>, value: T): Buffer {
  const checked = schema.safeParse(value);
  assert(checked.success, `${name} would not match its schema: ${checked.success ? '' : issuesText(checked.error)}`);
  const bytes = Buffer.from(`${JSON.stringify(value)}\n`);
  if (bytes.length > MAX_DOCUMENT_BYTES) {
    const message = `${name} would have ${bytes.length} bytes; a document has at most ${MAX_DOCUMENT_BYTES}`;
    throw new TidemarkError('DOCUMENT_TOO_LARGE', message, { details: { blob: name, bytes: bytes.length } });
  }
  return bytes;
}

function decode<T extends Versioned>(name: string, bytes: Buffer, schema: z.ZodType<T>): T {
  const invalid = (what: string, cause?: unknown): TidemarkError =>
    new TidemarkError('DOCUMENT_INVALID', `${name}: ${what}`, { cause, details: { blob: name } });
  if (bytes.length > MAX_DOCUMENT_BYTES) {
    throw invalid(`has ${bytes.length} bytes; a document has at most ${MAX_DOCUMENT_BYTES}`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid('is no JSON text', error);
  }
  const result = schema.safeParse(parsed);
  if (!result.success) throw invalid(issuesText(result.error));
  return result.data;
}

/** Issues shown of one document; the first says enough. */
const MAX_ISSUES = 3;

/** `machines[0].disks[2].epoch: Invalid input: expected number`, a few of them. */
function issuesText(error: z.ZodError): string {
  const texts = error.issues.slice(0, MAX_ISSUES).map((issue) => `${pathText(issue.path)}: ${issue.message}`);
  const more = error.issues.length - texts.length;
  return more > 0 ? `${texts.join('; ')}; and ${more} more` : texts.join('; ');
}

function pathText(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'document';
  return path.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`)).join('');
}
