import { beforeAll, describe, expect, it } from 'vitest';
import type { TidemarkError } from '../../src/errors.ts';
import type { DiskKey } from '../../src/model/names.ts';
import { KIB, MIB, TIB } from '../../src/model/sizes.ts';
import type { SeedDisk, SeedReader, SeedStore } from '../../src/seed/seed-store.ts';
import { expectAborts, expectBytes, expectCode, freshName, live, pattern } from './support.ts';

const SIZE = 8 * MIB;
const FOOTER = pattern(99, 512);

/** What SeedStore, SeedReader and SeedDisk promise, run on every adapter. */
export function seedStoreContract(name: string, make: () => Promise<SeedStore>): void {
  describe(`${name}: seed store`, () => {
    let seeds: SeedStore;
    beforeAll(async () => {
      seeds = await make();
    });
    const newKey = (): DiskKey => ({ group: freshName('g'), machine: 'm', disk: 'd' });
    const opened = async (): Promise<{ key: DiskKey; disk: SeedDisk; reader: SeedReader }> => {
      const key = newKey();
      return { key, disk: await seeds.open(key, SIZE, FOOTER, live), reader: seeds.reader(key) };
    };
    const content = async (disk: SeedDisk, offsetBytes = 0, lengthBytes = SIZE): Promise<Buffer> =>
      disk.read(await disk.snapshot({}, live), offsetBytes, lengthBytes, live);

    it('creates a disk of zeroes that ends with the footer', async () => {
      const { disk } = await opened();
      expectBytes(await content(disk, 0, SIZE + 512), Buffer.concat([Buffer.alloc(SIZE), FOOTER]));
    });

    it('opens what exists with its content and snapshots', async () => {
      const { key, disk } = await opened();
      await disk.putPages(4096, pattern(1, 8192), live);
      const snapshot = await disk.snapshot({ point: 'p1' }, live);
      const again = await seeds.open(key, SIZE, FOOTER, live);
      expectBytes(await content(again, 4096, 8192), pattern(1, 8192));
      expect(await again.listSnapshots(live)).toContainEqual({ snapshot, metadata: { point: 'p1' } });
    });

    it('writes the footer again when it is another', async () => {
      const { key, disk } = await opened();
      await disk.putPages(SIZE - 512, pattern(2, 512), live);
      const other = pattern(100, 512);
      const again = await seeds.open(key, SIZE, other, live);
      expectBytes(await content(again, SIZE - 512, 1024), Buffer.concat([pattern(2, 512), other]));
    });

    it('refuses another size, and leaves the owner alone', async () => {
      const { key, disk } = await opened();
      await expectCode(seeds.open(key, SIZE + MIB, FOOTER, live), 'SEED_MISMATCH');
      await expectCode(seeds.open(key, SIZE - MIB, FOOTER, live), 'SEED_MISMATCH');
      await disk.putPages(0, pattern(1, 512), live);
    });

    it('opens one disk several times at once; one owner is left, and every other is refused', async () => {
      const key = newKey();
      const results = await Promise.allSettled([1, 2, 3].map(() => seeds.open(key, SIZE, FOOTER, live)));
      const disks = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      const writes = await Promise.allSettled(disks.map((disk) => disk.putPages(0, pattern(1, 512), live)));
      expect(writes.filter((write) => write.status === 'fulfilled')).toHaveLength(1);
    });

    it('puts, overwrites and clears, to the byte', async () => {
      const { disk } = await opened();
      const expected = Buffer.alloc(SIZE);
      const put = async (offsetBytes: number, data: Buffer): Promise<void> => {
        await disk.putPages(offsetBytes, data, live);
        data.copy(expected, offsetBytes);
      };
      const clear = async (offsetBytes: number, lengthBytes: number): Promise<void> => {
        await disk.clearPages(offsetBytes, lengthBytes, live);
        expected.fill(0, offsetBytes, offsetBytes + lengthBytes);
      };
      await put(0, pattern(1, 4 * MIB));
      await put(3 * MIB + 512, pattern(2, 64 * KIB + 512));
      await put(SIZE - 512, pattern(3, 512));
      await clear(1 * MIB - 512, 1024);
      await clear(2 * MIB, 128 * KIB);
      await put(2 * MIB + 1024, pattern(4, 512));
      await clear(5 * MIB, 2 * MIB); // never written
      await put(3 * MIB, pattern(5, 2048));
      expectBytes(await content(disk), expected);
    });

    it('accepts writes of other ranges at the same time', async () => {
      const { disk } = await opened();
      const parts = Array.from({ length: 8 }, (_, n) => pattern(n, MIB));
      await Promise.all(parts.map((part, n) => disk.putPages(n * MIB, part, live)));
      expectBytes(await content(disk), Buffer.concat(parts));
    });

    it('gives the same bytes when a write or a clear is repeated', async () => {
      const { disk } = await opened();
      for (let time = 0; time < 2; time++) {
        await disk.putPages(0, pattern(1, 8192), live);
        await disk.clearPages(4096, 512, live);
      }
      const expected = pattern(1, 8192).fill(0, 4096, 4608);
      expectBytes(await content(disk, 0, 8192), expected);
    });

    it('clears a whole disk in one call, and keeps the footer', async () => {
      const { disk } = await opened();
      await disk.putPages(0, pattern(1, 4 * MIB), live);
      await disk.clearPages(0, SIZE, live);
      expectBytes(await content(disk, 0, SIZE + 512), Buffer.concat([Buffer.alloc(SIZE), FOOTER]));
    });

    it('refuses what is not made of whole sectors inside the disk', async () => {
      const { disk } = await opened();
      const puts: [number, number][] = [[1, 512], [0, 511], [0, 0], [-512, 512], [SIZE, 512], [SIZE - 512, 1024], [0.5, 512]]; // prettier-ignore
      for (const [offset, length] of puts) {
        await expectCode(disk.putPages(offset, Buffer.alloc(length), live), 'ASSERTION');
        await expectCode(disk.clearPages(offset, length, live), 'ASSERTION');
      }
      await expectCode(disk.putPages(0, Buffer.alloc(4 * MIB + 512), live), 'ASSERTION');
      await expectCode(seeds.open(newKey(), SIZE + 1, FOOTER, live), 'ASSERTION');
      await expectCode(seeds.open(newKey(), SIZE, FOOTER.subarray(1), live), 'ASSERTION');
      expectBytes(await content(disk, 0, SIZE + 512), Buffer.concat([Buffer.alloc(SIZE), FOOTER]));
    });

    it('keeps a snapshot as it was, whatever is written afterwards', async () => {
      const { disk, reader } = await opened();
      await disk.putPages(0, pattern(1, 256 * KIB), live);
      const first = await disk.snapshot({ point: 'first' }, live);
      await disk.putPages(512, pattern(2, 1024), live);
      await disk.clearPages(64 * KIB, 64 * KIB, live);
      await disk.putPages(300 * KIB, pattern(3, 512), live);
      const second = await disk.snapshot({ point: 'second' }, live);
      await disk.clearPages(0, SIZE, live);
      await disk.putPages(0, pattern(4, 512), live);

      const before = Buffer.concat([pattern(1, 256 * KIB), Buffer.alloc(64 * KIB)]);
      const after = Buffer.from(before);
      pattern(2, 1024).copy(after, 512);
      after.fill(0, 64 * KIB, 128 * KIB);
      pattern(3, 512).copy(after, 300 * KIB);
      expectBytes(await reader.read(first, 0, 320 * KIB, live), before);
      expectBytes(await reader.read(second, 0, 320 * KIB, live), after);
      expect(await reader.ranges(first, SIZE, live)).toEqual([{ offsetBytes: 0, lengthBytes: 256 * KIB }]);
    });

    it('names no two snapshots alike, however fast they come, and lists them oldest first', async () => {
      const { disk, reader } = await opened();
      const ids: string[] = [];
      for (let n = 0; n < 12; n++) {
        await disk.putPages(0, pattern(n, 512), live);
        ids.push(await disk.snapshot({ n: String(n) }, live));
      }
      const atOnce = await Promise.all(Array.from({ length: 12 }, () => disk.snapshot({ n: 'same' }, live)));
      ids.push(...atOnce);
      expect(new Set(ids).size).toBe(24);
      const listed = await reader.listSnapshots(live);
      expect(listed.map((info) => info.snapshot)).toEqual(ids.toSorted());
      expect(listed.slice(0, 12).map((info) => info.metadata['n'])).toEqual([...Array(12).keys()].map(String));
      for (let n = 0; n < 12; n++) expectBytes(await reader.read(ids[n] ?? '', 0, 512, live), pattern(n, 512));
    });

    it('names no two snapshots alike across a takeover', async () => {
      const key = newKey();
      const ids: string[] = [];
      for (let n = 0; n < 5; n++) ids.push(await (await seeds.open(key, SIZE, FOOTER, live)).snapshot({}, live));
      expect(new Set(ids).size).toBe(5);
      expect((await seeds.reader(key).listSnapshots(live)).map((info) => info.snapshot)).toEqual(ids.toSorted());
    });

    it('returns the metadata as given', async () => {
      const { disk, reader } = await opened();
      const metadata = { point: '20261123T043000.000000Z-crash', cut_us: '1795408200000000', digest: 'a+/=9 "x"; y' };
      const snapshot = await disk.snapshot(metadata, live);
      expect(await reader.listSnapshots(live)).toEqual([{ snapshot, metadata }]);
    });

    it('refuses metadata that would come back changed', async () => {
      const { disk, reader } = await opened();
      const bad = [
        { Point: 'x' },
        { 'a-b': 'x' },
        { a: '' },
        { a: ' x' },
        { a: 'é' },
        { a: 'x\ny' },
        { a: 'x'.repeat(9000) },
      ];
      for (const metadata of bad) await expectCode(disk.snapshot({ ...metadata }, live), 'ASSERTION');
      expect(await reader.listSnapshots(live)).toEqual([]);
    });

    it('lists no snapshots of disks whose names begin alike', async () => {
      const { key, reader } = await opened();
      const longer = await seeds.open({ ...key, disk: 'd.vhd.2' }, SIZE, FOOTER, live);
      await longer.snapshot({ of: 'longer' }, live);
      expect(await reader.listSnapshots(live)).toEqual([]);
      expect(await seeds.reader(newKey()).listSnapshots(live)).toEqual([]);
    });

    it('deletes one snapshot and no other, and counts deleted as done', async () => {
      const { disk, reader } = await opened();
      await disk.putPages(0, pattern(1, 512), live);
      const first = await disk.snapshot({}, live);
      const second = await disk.snapshot({}, live);
      await disk.deleteSnapshot(first, live);
      await disk.deleteSnapshot(first, live);
      await expectCode(disk.deleteSnapshot('', live), 'ASSERTION');
      expect((await reader.listSnapshots(live)).map((info) => info.snapshot)).toEqual([second]);
      await expectCode(reader.read(first, 0, 512, live), 'SNAPSHOT_MISSING');
      expectBytes(await reader.read(second, 0, 512, live), pattern(1, 512));
      expectBytes(await content(disk, 0, 512), pattern(1, 512));
    });

    it('says when a snapshot is missing', async () => {
      const { disk } = await opened();
      const none = '2001-01-01T00:00:00.0000000Z';
      for (const reader of [disk, seeds.reader(newKey())]) {
        await expectCode(reader.read(none, 0, 512, live), 'SNAPSHOT_MISSING');
        await expectCode(reader.ranges(none, SIZE, live), 'SNAPSHOT_MISSING');
      }
    });

    it('reads any range of a snapshot, zeroes where nothing was written', async () => {
      const { disk, reader } = await opened();
      await disk.putPages(5 * MIB, pattern(1, 4096), live);
      const snapshot = await disk.snapshot({}, live);
      const expected = Buffer.alloc(SIZE);
      pattern(1, 4096).copy(expected, 5 * MIB);
      expectBytes(await reader.read(snapshot, 0, SIZE, live), expected);
      expectBytes(
        await reader.read(snapshot, 5 * MIB - 100, 300, live),
        expected.subarray(5 * MIB - 100, 5 * MIB + 200),
      );
      expectBytes(await reader.read(snapshot, 6 * MIB, 512, live), Buffer.alloc(512));
      expectBytes(await reader.read(snapshot, 0, 0, live), Buffer.alloc(0));
      await expectCode(reader.read(snapshot, SIZE + 512, 512, live), 'ASSERTION');
    });

    it('gives the written ranges: ascending, neighbours merged, without what was cleared and without the footer', async () => {
      const { disk, reader } = await opened();
      const empty = await disk.snapshot({}, live);
      for (const offset of [65_536, 4096, 0, 512, 1024, 1 * MIB])
        await disk.putPages(offset, pattern(offset, 512), live);
      await disk.putPages(66_048, pattern(7, 8192), live);
      await disk.clearPages(67_072, 512, live);
      await disk.putPages(SIZE - 1024, pattern(8, 1024), live);
      const snapshot = await disk.snapshot({}, live);
      const range = (offsetBytes: number, lengthBytes: number): object => ({ offsetBytes, lengthBytes });
      expect(await reader.ranges(empty, SIZE, live)).toEqual([]);
      expect(await reader.ranges(snapshot, SIZE, live)).toEqual([
        range(0, 1536),
        range(4096, 512),
        range(65_536, 1536),
        range(67_584, 6656),
        range(1 * MIB, 512),
        range(SIZE - 1024, 1024),
      ]);
    });

    it('fences the old owner: put, clear, snapshot and renew', async () => {
      const { key, disk: old } = await opened();
      await old.putPages(0, pattern(1, 1024), live);
      const taker = await seeds.open(key, SIZE, FOOTER, live);
      await expectCode(old.putPages(0, pattern(2, 512), live), 'OWNERSHIP_LOST');
      await expectCode(old.clearPages(0, 512, live), 'OWNERSHIP_LOST');
      await expectCode(old.snapshot({}, live), 'OWNERSHIP_LOST');
      await expectCode(old.renew(live), 'OWNERSHIP_LOST');
      await old.close(live); // takes nothing from the taker
      await taker.renew(live);
      expect(await taker.listSnapshots(live)).toEqual([]);
      expectBytes(await content(taker, 0, 1024), pattern(1, 1024));
      await taker.putPages(0, pattern(3, 512), live);
    });

    it('refuses to write after the lease was given back', async () => {
      const { disk } = await opened();
      await disk.close(live);
      await disk.close(live);
      await expectCode(disk.putPages(0, pattern(1, 512), live), 'OWNERSHIP_LOST');
      await expectCode(disk.clearPages(0, 512, live), 'OWNERSHIP_LOST');
      await expectCode(disk.snapshot({}, live), 'OWNERSHIP_LOST');
      await expectCode(disk.renew(live), 'OWNERSHIP_LOST');
    });

    it('reads and lists without a lease while somebody else writes', async () => {
      const { disk, reader } = await opened();
      await disk.putPages(0, pattern(1, 512), live);
      const snapshot = await disk.snapshot({}, live);
      expectBytes(await reader.read(snapshot, 0, 512, live), pattern(1, 512));
      await disk.renew(live);
      await disk.putPages(0, pattern(2, 512), live);
    });

    it('lists the disks of a group and of no other', async () => {
      const group = freshName('g');
      expect(await seeds.list(group, live)).toEqual([]);
      const keys: DiskKey[] = [
        { group, machine: 'm', disk: 'd' },
        { group, machine: 'm', disk: 'd.2' },
        { group, machine: 'm-2', disk: 'd' },
      ];
      for (const key of [...keys, { ...newKey(), group: `${group}x` }, { ...newKey(), group: group.slice(0, -1) }])
        await (await seeds.open(key, SIZE, FOOTER, live)).snapshot({}, live);
      const listed = await seeds.list(group, live);
      const label = ({ machine, disk }: DiskKey): string => `${machine}/${disk}`;
      expect(new Set(listed.map(({ group: of }) => of))).toEqual(new Set([group]));
      expect(listed.map(label).toSorted()).toEqual(keys.map(label).toSorted());
    });

    const confirmed = async (): Promise<void> => undefined;

    it('removes a disk with its snapshots, whoever holds it; another size may follow', async () => {
      const { key, disk, reader } = await opened();
      await disk.putPages(0, pattern(1, 512), live);
      const snapshots = [await disk.snapshot({}, live), await disk.snapshot({}, live)];
      const other = await seeds.open({ ...key, disk: 'd2' }, SIZE, FOOTER, live);
      const kept = await other.snapshot({}, live);
      await seeds.remove(key, confirmed, live);
      expect(await seeds.list(key.group, live)).toEqual([{ ...key, disk: 'd2' }]);
      expect(await reader.listSnapshots(live)).toEqual([]);
      for (const snapshot of snapshots) await expectCode(reader.read(snapshot, 0, 512, live), 'SNAPSHOT_MISSING');
      expect((await other.listSnapshots(live)).map(({ snapshot }) => snapshot)).toEqual([kept]);
      const refused: unknown = await disk.putPages(0, pattern(2, 512), live).catch((error: unknown) => error);
      expect(['BLOB_MISSING', 'OWNERSHIP_LOST']).toContain((refused as TidemarkError).code);
      await expectCode(disk.renew(live), 'OWNERSHIP_LOST');

      const again = await seeds.open(key, 2 * SIZE, FOOTER, live);
      await expectCode(disk.putPages(0, pattern(2, 512), live), 'OWNERSHIP_LOST');
      expectBytes(await content(again, 0, 2 * SIZE + 512), Buffer.concat([Buffer.alloc(2 * SIZE), FOOTER]));
    });

    it('counts a removed disk as done, and confirms nothing then', async () => {
      const { key } = await opened();
      let confirmations = 0;
      const count = async (): Promise<void> => void confirmations++;
      await seeds.remove(key, count, live);
      await seeds.remove(key, count, live);
      await seeds.remove({ ...key, group: freshName('g') }, count, live);
      expect(confirmations).toBe(1);
    });

    it('removes nothing when the caller does not confirm', async () => {
      const { key, disk, reader } = await opened();
      await disk.putPages(0, pattern(1, 512), live);
      const snapshot = await disk.snapshot({}, live);
      const refusal = new Error('not ours any more');
      await expect(seeds.remove(key, () => Promise.reject(refusal), live)).rejects.toBe(refusal);
      expect((await reader.listSnapshots(live)).map((info) => info.snapshot)).toEqual([snapshot]);
      await expectCode(disk.putPages(0, pattern(2, 512), live), 'OWNERSHIP_LOST');
      const again = await seeds.open(key, SIZE, FOOTER, live);
      expectBytes(await content(again, 0, 512), pattern(1, 512));
    });

    it('removes nothing once another owner has opened the disk, or made it anew', async () => {
      const { key, disk } = await opened();
      await disk.snapshot({}, live);
      let taker: SeedDisk | undefined;
      const takeOver = async (): Promise<void> => {
        taker = await seeds.open(key, SIZE, FOOTER, live);
        await taker.putPages(0, pattern(3, 512), live);
      };
      await expectCode(seeds.remove(key, takeOver, live), 'OWNERSHIP_LOST');
      await taker?.renew(live);
      expect(await seeds.reader(key).listSnapshots(live)).toHaveLength(1);
      const makeAnew = async (): Promise<void> => {
        await seeds.remove(key, confirmed, live);
        await takeOver();
      };
      await expectCode(seeds.remove(key, makeAnew, live), 'OWNERSHIP_LOST');
      await taker?.renew(live);
      expect(await seeds.list(key.group, live)).toEqual([key]);
    });

    it('removes nothing once the lease that it took was given back', async () => {
      const { key } = await opened();
      const openAndClose = async (): Promise<void> => (await seeds.open(key, SIZE, FOOTER, live)).close(live);
      await expectCode(seeds.remove(key, openAndClose, live), 'OWNERSHIP_LOST');
      expect(await seeds.list(key.group, live)).toEqual([key]);
    });

    it('holds a disk of 8 TiB, written at both ends', async () => {
      const key = newKey();
      const size = 8 * TIB - MIB;
      const disk = await seeds.open(key, size, FOOTER, live);
      await disk.putPages(0, pattern(1, 512), live);
      await disk.putPages(size - 512, pattern(2, 512), live);
      const snapshot = await disk.snapshot({}, live);
      expectBytes(
        await disk.read(snapshot, size - 1024, 1024, live),
        Buffer.concat([Buffer.alloc(512), pattern(2, 512)]),
      );
      expect(await disk.ranges(snapshot, size, live)).toEqual([
        { offsetBytes: 0, lengthBytes: 512 },
        { offsetBytes: size - 512, lengthBytes: 512 },
      ]);
    });

    it('stops when it is told to', async () => {
      const { key, disk, reader } = await opened();
      const snapshot = await disk.snapshot({}, live);
      await expectAborts((signal) => seeds.open(key, SIZE, FOOTER, signal));
      await expectAborts((signal) => disk.putPages(0, pattern(1, 512), signal));
      await expectAborts((signal) => disk.clearPages(0, 512, signal));
      await expectAborts((signal) => disk.snapshot({}, signal));
      await expectAborts((signal) => disk.deleteSnapshot(snapshot, signal));
      await expectAborts((signal) => disk.renew(signal));
      await expectAborts((signal) => disk.close(signal));
      await expectAborts((signal) => seeds.list(key.group, signal));
      await expectAborts((signal) => seeds.remove(key, confirmed, signal));
      await expectAborts((signal) => reader.listSnapshots(signal));
      await expectAborts((signal) => reader.read(snapshot, 0, 512, signal));
      await expectAborts((signal) => reader.ranges(snapshot, SIZE, signal));
      await disk.renew(live);
      expect(await reader.listSnapshots(live)).toHaveLength(1);
      expectBytes(await content(disk, 0, 512), Buffer.alloc(512));
    });
  });
}
