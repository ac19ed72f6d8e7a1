import type { Catalog } from '../../src/catalog/catalog.ts';
import type { ProtectRequest } from '../../src/catalog/groups.ts';
import { TidemarkError } from '../../src/errors.ts';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { MIB } from '../../src/model/sizes.ts';
import { usFromIso } from '../../src/model/time.ts';

export const NOW_US = usFromIso('2026-11-23T04:30:00Z');
export const live = (): AbortSignal => new AbortController().signal;
export const newCatalog = (): Catalog => createMemoryStorage().catalog;

/** `code: message` of the error that a call ends with. */
export async function failure(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof TidemarkError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'no error';
}

/** Every blob with its text, to compare states. */
export async function contents(catalog: Catalog): Promise<Readonly<Record<string, string>>> {
  const names = await catalog.list('', live());
  const blobs = await Promise.all(names.map((name) => catalog.read(name, live())));
  return Object.fromEntries(names.map((name, index) => [name, blobs[index]?.bytes.toString() ?? '']));
}

export const request = (changes: Partial<ProtectRequest> = {}): ProtectRequest => ({
  group: 'shop',
  policy: 'gold',
  machines: [{ machine: 'db', disks: [{ disk: 'disk0', sizeBytes: 64 * MIB }] }],
  nowUs: NOW_US,
  ...changes,
});

type Step = 'read' | 'create' | 'replace' | 'delete' | 'list';

/** A catalog in which somebody else acts: `act` runs once, before or after the first call of `step` on a name that matches. */
export function interrupted(
  catalog: Catalog,
  { step, name, when, act }: { step: Step; name: string; when: 'before' | 'after'; act: () => Promise<unknown> },
): Catalog {
  let done = false;
  const around = async <T>(is: Step, blob: string, call: () => Promise<T>): Promise<T> => {
    if (done || is !== step || !blob.startsWith(name)) return call();
    done = true;
    if (when === 'before') await act();
    const result = await call();
    if (when === 'after') await act();
    return result;
  };
  return {
    read: (blob, signal) => around('read', blob, () => catalog.read(blob, signal)),
    create: (blob, bytes, signal) => around('create', blob, () => catalog.create(blob, bytes, signal)),
    replace: (blob, bytes, etag, lease, signal) =>
      around('replace', blob, () => catalog.replace(blob, bytes, etag, lease, signal)),
    delete: (blob, etag, signal) => around('delete', blob, () => catalog.delete(blob, etag, signal)),
    list: (prefix, signal) => around('list', prefix, () => catalog.list(prefix, signal)),
    takeLease: (blob, signal) => catalog.takeLease(blob, signal),
  };
}
