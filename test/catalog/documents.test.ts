import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { Catalog } from '../../src/catalog/catalog.ts';
import {
  createDocument,
  MAX_DOCUMENT_BYTES,
  MAX_UPDATE_ATTEMPTS,
  readDocument,
  readDocuments,
  replaceDocument,
  updateDocument,
  upsertDocument,
} from '../../src/catalog/documents.ts';
import { contents, failure, interrupted, live, newCatalog } from './support.ts';

const NAME = 'notes/one.json';
const schema = z.strictObject({
  version: z.literal(1),
  text: z.string(),
  lines: z.array(z.strictObject({ count: z.number().int() })).optional(),
});
type Note = z.infer<typeof schema>;
const note = (text: string): Note => ({ version: 1, text });
const put = (catalog: Catalog, text: string, name = NAME) => catalog.create(name, Buffer.from(text), live());

describe('readDocument', () => {
  it('is undefined when there is none', async () => {
    expect(await readDocument(newCatalog(), NAME, schema, live())).toBeUndefined();
  });

  it.each([
    ['{"version":1', 'is no JSON text'],
    ['', 'is no JSON text'],
    ['\u0000', 'is no JSON text'],
    ['null', 'document: '],
    ['{"version":2,"text":"a"}', 'version: '],
    ['{"text":"a"}', 'version: '],
    ['{"version":1,"text":5}', 'text: '],
    ['{"version":1,"text":"a","more":1}', 'document: Unrecognized key'],
    ['{"version":1,"text":"a","lines":[{"count":1},{"count":0.5}]}', 'lines[1].count: '],
  ])('refuses %j with the blob and the field', async (text, message) => {
    const catalog = newCatalog();
    await put(catalog, text);
    expect(await failure(readDocument(catalog, NAME, schema, live()))).toContain(
      `DOCUMENT_INVALID: ${NAME}: ${message}`,
    );
  });

  it('refuses bytes that are no UTF-8', async () => {
    const catalog = newCatalog();
    await catalog.create(
      NAME,
      Buffer.concat([Buffer.from('{"version":1,"text":"'), Buffer.from([0xff]), Buffer.from('"}')]),
      live(),
    );
    expect(await failure(readDocument(catalog, NAME, schema, live()))).toBe(
      `DOCUMENT_INVALID: ${NAME}: is no JSON text`,
    );
  });

  it('refuses a document above the limit without parsing it', async () => {
    const catalog = newCatalog();
    await put(catalog, JSON.stringify(note('x'.repeat(MAX_DOCUMENT_BYTES))));
    expect(await failure(readDocument(catalog, NAME, schema, live()))).toContain('a document has at most 4194304');
  });

  it('reads all documents of a prefix by name, and only those', async () => {
    const catalog = newCatalog();
    for (const name of ['b', 'a', 'c']) await put(catalog, JSON.stringify(note(name)), `notes/${name}.json`);
    await put(catalog, 'other', 'notes/a.changes');
    await put(catalog, JSON.stringify(note('no')), 'other/d.json');
    expect((await readDocuments(catalog, 'notes/', schema, live())).map(({ text }) => text)).toEqual(['a', 'b', 'c']);
  });
});

describe('createDocument and replaceDocument', () => {
  it('write JSON text that is read back, under the ETag they return', async () => {
    const catalog = newCatalog();
    const first = await createDocument(catalog, NAME, schema, note('a'), live());
    expect(await contents(catalog)).toEqual({ [NAME]: '{"version":1,"text":"a"}\n' });
    const second = await replaceDocument(catalog, { name: NAME, schema, value: note('b'), etag: first ?? '' }, live());
    expect(second).not.toBe(first);
    expect(await readDocument(catalog, NAME, schema, live())).toEqual({ value: note('b'), etag: second });
  });

  it('leave an existing, a changed and a missing document alone', async () => {
    const catalog = newCatalog();
    const etag = (await createDocument(catalog, NAME, schema, note('a'), live())) ?? '';
    expect(await createDocument(catalog, NAME, schema, note('b'), live())).toBeUndefined();
    await replaceDocument(catalog, { name: NAME, schema, value: note('c'), etag }, live());
    const stale = replaceDocument(catalog, { name: NAME, schema, value: note('d'), etag }, live());
    expect(await failure(stale)).toContain('CONFLICT: notes/one.json');
    expect(await contents(catalog)).toEqual({ [NAME]: '{"version":1,"text":"c"}\n' });
    const gone = replaceDocument(catalog, { name: 'notes/gone.json', schema, value: note('d'), etag }, live());
    expect(await failure(gone)).toContain('CONFLICT: notes/gone.json');
  });

  it('write a leased document only with the lease', async () => {
    const catalog = newCatalog();
    const etag = (await createDocument(catalog, NAME, schema, note('a'), live())) ?? '';
    const lease = await catalog.takeLease(NAME, live());
    const without = replaceDocument(catalog, { name: NAME, schema, value: note('b'), etag }, live());
    expect(await failure(without)).toContain('OWNERSHIP_LOST');
    await replaceDocument(catalog, { name: NAME, schema, value: note('c'), etag, lease }, live());
    expect(await contents(catalog)).toEqual({ [NAME]: '{"version":1,"text":"c"}\n' });
  });

  it('refuse a value that does not match its schema, and one above the limit', async () => {
    const catalog = newCatalog();
    const wrong = { version: 1, text: 5 } as unknown as Note;
    expect(await failure(createDocument(catalog, NAME, schema, wrong, live()))).toContain(
      'ASSERTION: notes/one.json would not match its schema: text: ',
    );
    const large = note('x'.repeat(MAX_DOCUMENT_BYTES));
    expect(await failure(createDocument(catalog, NAME, schema, large, live()))).toContain(
      'DOCUMENT_TOO_LARGE: notes/one.json',
    );
    expect(await contents(catalog)).toEqual({});
  });
});

describe('updateDocument', () => {
  const append = (letter: string) => (current: Note) => note(current.text + letter);

  it('changes nothing when there is no document, or nothing to change', async () => {
    const catalog = newCatalog();
    expect(await updateDocument(catalog, NAME, schema, append('b'), live())).toBeUndefined();
    expect(await contents(catalog)).toEqual({});
    const etag = await createDocument(catalog, NAME, schema, note('a'), live());
    expect(await updateDocument(catalog, NAME, schema, () => undefined, live())).toEqual(note('a'));
    expect((await readDocument(catalog, NAME, schema, live()))?.etag).toBe(etag);
  });

  it('keeps both changes when another writer comes between', async () => {
    const catalog = newCatalog();
    await createDocument(catalog, NAME, schema, note('a'), live());
    const act = () => updateDocument(catalog, NAME, schema, append('b'), live());
    const raced = interrupted(catalog, { step: 'replace', name: NAME, when: 'before', act });
    expect(await updateDocument(raced, NAME, schema, append('c'), live())).toEqual(note('abc'));
    expect(await contents(catalog)).toEqual({ [NAME]: '{"version":1,"text":"abc"}\n' });
  });

  it('loses none of many changes at once', async () => {
    const catalog = newCatalog();
    await createDocument(catalog, NAME, schema, note(''), live());
    const letters = 'abcdefgh'.split('');
    await Promise.all(letters.map((letter) => updateDocument(catalog, NAME, schema, append(letter), live())));
    const { value } = (await readDocument(catalog, NAME, schema, live())) ?? { value: note('') };
    expect(value.text.split('').toSorted()).toEqual(letters);
  });

  it('gives up when every attempt meets another writer', async () => {
    const catalog = newCatalog();
    await createDocument(catalog, NAME, schema, note(''), live());
    let others = 0;
    const busy: Catalog = {
      ...interrupted(catalog, { step: 'list', name: 'never', when: 'before', act: async () => undefined }),
      replace: async (name, bytes, etag, lease, signal) => {
        others++;
        await updateDocument(catalog, NAME, schema, append('x'), live());
        return catalog.replace(name, bytes, etag, lease, signal);
      },
    };
    expect(await failure(updateDocument(busy, NAME, schema, append('c'), live()))).toContain(
      'CONFLICT: notes/one.json',
    );
    expect(others).toBe(MAX_UPDATE_ATTEMPTS);
  });

  it('stops when it is told to', async () => {
    const catalog = newCatalog();
    await createDocument(catalog, NAME, schema, note('a'), live());
    const stopped = updateDocument(catalog, NAME, schema, append('b'), AbortSignal.abort(new Error('stop')));
    await expect(stopped).rejects.toThrow('stop');
    expect(await contents(catalog)).toEqual({ [NAME]: '{"version":1,"text":"a"}\n' });
  });

  it('upserts on top of a document that somebody else created first', async () => {
    const catalog = newCatalog();
    const act = () => createDocument(catalog, NAME, schema, note('a'), live());
    const raced = interrupted(catalog, { step: 'create', name: NAME, when: 'before', act });
    const change = (current: Note | undefined) => note(`${current?.text ?? ''}b`);
    expect(await upsertDocument(raced, NAME, schema, change, live())).toEqual(note('ab'));
  });
});
