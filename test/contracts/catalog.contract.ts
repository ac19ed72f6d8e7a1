import { beforeAll, describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { expectAborts, expectBytes, expectCode, freshName, live } from './support.ts';

const bytes = (text: string): Buffer => Buffer.from(text);

/** What Catalog promises, run on every adapter. */
export function catalogContract(name: string, make: () => Promise<Catalog>): void {
  describe(`${name}: catalog`, () => {
    let catalog: Catalog;
    beforeAll(async () => {
      catalog = await make();
    });
    const created = async (text: string): Promise<{ readonly name: string; readonly etag: string }> => {
      const name = `${freshName('c')}/doc.json`;
      const etag = await catalog.create(name, bytes(text), live);
      expect(etag).toMatch(/^".+"$/);
      return { name, etag: etag ?? '' };
    };

    it('holds nothing at first', async () => {
      const prefix = freshName('none');
      expect(await catalog.read(`${prefix}/x.json`, live)).toBeUndefined();
      expect(await catalog.list(prefix, live)).toEqual([]);
    });

    it('creates once, and changes nothing the second time', async () => {
      const { name, etag } = await created('one');
      expect(await catalog.create(name, bytes('two'), live)).toBeUndefined();
      expect(await catalog.create(name, bytes('one'), live)).toBeUndefined();
      const stored = await catalog.read(name, live);
      expectBytes(stored?.bytes, bytes('one'));
      expect(stored?.etag).toBe(etag);
    });

    it('lets exactly one of several racing creators win, even with the same bytes', async () => {
      const name = `${freshName('c')}/race.json`;
      const etags = await Promise.all(Array.from({ length: 6 }, () => catalog.create(name, bytes('same'), live)));
      const winners = etags.filter((etag) => etag !== undefined);
      expect(winners).toHaveLength(1);
      expect((await catalog.read(name, live))?.etag).toBe(winners[0]);
    });

    it('replaces what has the ETag, and nothing else', async () => {
      const { name, etag } = await created('one');
      const second = await catalog.replace(name, bytes('two'), etag, undefined, live);
      expect(second).not.toBe(etag);
      expect(await catalog.read(name, live)).toEqual({ bytes: bytes('two'), etag: second });
      expect(await catalog.replace(name, bytes('three'), etag, undefined, live)).toBeUndefined();
      expect(await catalog.replace(name, bytes('two'), etag, undefined, live)).toBeUndefined();
      expect(await catalog.read(name, live)).toEqual({ bytes: bytes('two'), etag: second });
    });

    it('gives a new ETag for the same bytes', async () => {
      const { name, etag } = await created('one');
      const second = await catalog.replace(name, bytes('one'), etag, undefined, live);
      expect(second).toBeDefined();
      expect(second).not.toBe(etag);
    });

    it('lets exactly one of several racing writers replace', async () => {
      const { name, etag } = await created('one');
      const etags = await Promise.all(
        Array.from({ length: 6 }, (_, n) => catalog.replace(name, bytes(`by ${n}`), etag, undefined, live)),
      );
      const winner = etags.findIndex((result) => result !== undefined);
      expect(etags.filter((result) => result !== undefined)).toHaveLength(1);
      expect(await catalog.read(name, live)).toEqual({ bytes: bytes(`by ${winner}`), etag: etags[winner] });
    });

    it('does not replace what is gone', async () => {
      const { name, etag } = await created('one');
      await catalog.delete(name, undefined, live);
      expect(await catalog.replace(name, bytes('two'), etag, undefined, live)).toBeUndefined();
      expect(await catalog.read(name, live)).toBeUndefined();
    });

    it('deletes, with and without an ETag; done already counts as done', async () => {
      const { name, etag } = await created('one');
      expect(await catalog.delete(name, '"0x1"', live)).toBe('changed');
      expectBytes((await catalog.read(name, live))?.bytes, bytes('one'));
      expect(await catalog.delete(name, etag, live)).toBe('deleted');
      expect(await catalog.delete(name, etag, live)).toBe('deleted');
      expect(await catalog.delete(name, undefined, live)).toBe('deleted');
      expect(await catalog.read(name, live)).toBeUndefined();
    });

    it('creates again what was deleted', async () => {
      const { name, etag } = await created('one');
      await catalog.delete(name, etag, live);
      const second = await catalog.create(name, bytes('two'), live);
      expect(second).toBeDefined();
      expect(second).not.toBe(etag);
    });

    it('holds a document without a byte, and one of a megabyte', async () => {
      const empty = `${freshName('c')}/empty`;
      expect(await catalog.create(empty, Buffer.alloc(0), live)).toBeDefined();
      expectBytes((await catalog.read(empty, live))?.bytes, Buffer.alloc(0));
      const large = `${freshName('c')}/large`;
      expect(await catalog.create(large, Buffer.alloc(1_000_001, 7), live)).toBeDefined();
      expectBytes((await catalog.read(large, live))?.bytes, Buffer.alloc(1_000_001, 7));
    });

    it('lists the names with a prefix, ascending', async () => {
      const root = freshName('list');
      const names = ['b.json', 'a.json', 'sub/2.json', 'sub/10.json', 'sub.json'].map((leaf) => `${root}/${leaf}`);
      for (const name of names) await catalog.create(name, bytes('x'), live);
      await catalog.create(`${root}x/a.json`, bytes('x'), live);
      expect(await catalog.list(`${root}/`, live)).toEqual([...names].sort());
      expect(await catalog.list(`${root}/sub/`, live)).toEqual([`${root}/sub/10.json`, `${root}/sub/2.json`]);
    });

    it('takes a lease away from whoever holds it; the old one is refused from then on', async () => {
      const { name, etag } = await created('one');
      const first = await catalog.takeLease(name, live);
      await first.renew(live);
      const second = await catalog.replace(name, bytes('first'), etag, first, live);
      expect(second).toBeDefined();
      const taker = await catalog.takeLease(name, live);
      expect(taker.id).not.toBe(first.id);
      await expectCode(first.renew(live), 'OWNERSHIP_LOST');
      await expectCode(catalog.replace(name, bytes('late'), second ?? '', first, live), 'OWNERSHIP_LOST');
      const third = await catalog.replace(name, bytes('taker'), second ?? '', taker, live);
      expect(third).toBeDefined();
      // Both conditions are broken now; the lost lease is what the old owner must learn.
      await expectCode(catalog.replace(name, bytes('late'), second ?? '', first, live), 'OWNERSHIP_LOST');
      await first.release(live); // lost already counts as given back, and takes nothing from the taker
      await taker.renew(live);
      expect(await catalog.read(name, live)).toEqual({ bytes: bytes('taker'), etag: third });
    });

    it('tells a lease holder of a changed ETag', async () => {
      const { name, etag } = await created('one');
      const lease = await catalog.takeLease(name, live);
      const second = await catalog.replace(name, bytes('two'), etag, lease, live);
      expect(await catalog.replace(name, bytes('three'), etag, lease, live)).toBeUndefined();
      expect(await catalog.replace(name, bytes('three'), second ?? '', lease, live)).toBeDefined();
    });

    it('refuses writers without the lease while there is one', async () => {
      const { name, etag } = await created('one');
      const lease = await catalog.takeLease(name, live);
      await expectCode(catalog.replace(name, bytes('two'), etag, undefined, live), 'OWNERSHIP_LOST');
      await expectCode(catalog.delete(name, etag, live), 'OWNERSHIP_LOST');
      await lease.release(live);
      await lease.release(live);
      expect(await catalog.replace(name, bytes('two'), etag, undefined, live)).toBeDefined();
    });

    it('refuses a lease that was given back', async () => {
      const { name, etag } = await created('one');
      const lease = await catalog.takeLease(name, live);
      await lease.release(live);
      await expectCode(lease.renew(live), 'OWNERSHIP_LOST');
      await expectCode(catalog.replace(name, bytes('two'), etag, lease, live), 'OWNERSHIP_LOST');
    });

    it('leaves the ETag alone when a lease is taken, renewed or released, and reads a leased blob', async () => {
      const { name, etag } = await created('one');
      const lease = await catalog.takeLease(name, live);
      await lease.renew(live);
      expect((await catalog.read(name, live))?.etag).toBe(etag);
      await lease.release(live);
      expect((await catalog.read(name, live))?.etag).toBe(etag);
    });

    it('has no lease of what does not exist, nor of what is gone', async () => {
      await expectCode(catalog.takeLease(`${freshName('c')}/none.json`, live), 'BLOB_MISSING');
      const { name, etag } = await created('one');
      const lease = await catalog.takeLease(name, live);
      await lease.release(live);
      await catalog.delete(name, undefined, live);
      await expectCode(lease.renew(live), 'OWNERSHIP_LOST');
      await expectCode(catalog.replace(name, bytes('two'), etag, lease, live), 'OWNERSHIP_LOST');
      await lease.release(live);
    });

    it('stops when it is told to', async () => {
      const { name, etag } = await created('one');
      const lease = await catalog.takeLease(name, live);
      await expectAborts((signal) => catalog.read(name, signal));
      await expectAborts((signal) => catalog.create(`${name}.new`, bytes('x'), signal));
      await expectAborts((signal) => catalog.replace(name, bytes('two'), etag, lease, signal));
      await expectAborts((signal) => catalog.delete(name, etag, signal));
      await expectAborts((signal) => catalog.list(name, signal));
      await expectAborts((signal) => catalog.takeLease(name, signal));
      await expectAborts((signal) => lease.renew(signal));
      await expectAborts((signal) => lease.release(signal));
      await lease.renew(live);
      expect(await catalog.read(name, live)).toEqual({ bytes: bytes('one'), etag });
      expect(await catalog.read(`${name}.new`, live)).toBeUndefined();
    });
  });
}
