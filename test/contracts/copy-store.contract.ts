import { beforeAll, describe, expect, it } from 'vitest';
import { pointReader, type CopyName, type CopyStore, type PointDisk } from '../../src/copies/copy-store.ts';
import type { DiskKey } from '../../src/model/names.ts';
import { KIB, MIB } from '../../src/model/sizes.ts';
import type { SeedDisk, SeedStore } from '../../src/seed/seed-store.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';
import { expectAborts, expectBytes, expectCode, freshName, live } from './support.ts';

const SIZE = 12 * MIB;

/** No two sectors alike, and quick to make. */
function pattern(seed: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes, 1 + (seed % 255));
  for (let at = 0; at < lengthBytes; at += 512) bytes.writeUInt32LE(at / 512 + seed, at);
  return bytes;
}

export interface CopyContractPorts {
  readonly seeds: SeedStore;
  readonly copies: CopyStore;
}

export interface CopyContractOptions {
  /** False for copies that the emulator makes by itself: they share their ranges with the source, and nothing but bytes is promised. */
  readonly isIndependent?: boolean;
  /** False leaves out what is the same code however a copy is made: opening, listing, removing. */
  readonly isWhole?: boolean;
}

/** What CopyStore promises, run on every adapter. */
export function copyStoreContract(
  name: string,
  make: () => Promise<CopyContractPorts>,
  { isIndependent = true, isWhole = true }: CopyContractOptions = {},
): void {
  describe(`${name}: copy store`, () => {
    let ports: CopyContractPorts;
    beforeAll(async () => {
      ports = await make();
    });

    const repeated = (rule: string, test: () => Promise<void>): void => {
      if (isWhole) it(rule, test);
    };

    /** A seed disk with data at its beginning and its end, and a hole of more than one put in between. */
    const sourced = async (): Promise<{ key: DiskKey; disk: SeedDisk; source: PointDisk; image: Buffer }> => {
      const key = { group: freshName('g'), machine: 'm', disk: 'd' };
      const disk = await ports.seeds.open(key, SIZE, vhdFooter(key, SIZE), live);
      const image = Buffer.alloc(SIZE);
      for (const [offset, length] of [
        [0, 4 * MIB],
        [4 * MIB, MIB + 512],
        [SIZE - 64 * KIB, 64 * KIB],
      ] as const) {
        const data = pattern(offset + 1, length);
        await disk.putPages(offset, data, live);
        data.copy(image, offset);
      }
      const snapshot = await disk.snapshot({}, live);
      return { key, disk, source: { ...key, sizeBytes: SIZE, snapshot, copy: null }, image };
    };
    const nameFor = ({ group }: DiskKey, point = 'p'): CopyName => `point-disks/${group}/m/d/${point}.vhd`;
    /** The copy as it is now, the footer included. */
    const contentOf = async (copy: CopyName): Promise<Buffer> => {
      const disk = await ports.copies.open(copy, SIZE, live);
      const snapshot = await disk.snapshot({}, live);
      const bytes = await disk.read(snapshot, 0, SIZE + 512, live);
      await disk.deleteSnapshot(snapshot, live);
      await disk.close(live);
      return bytes;
    };

    it('copies data, holes and footer, and says how far it is', async () => {
      const { key, source, image } = await sourced();
      const told: [number, number][] = [];
      await ports.copies.copy(source, nameFor(key), { signal: live, onProgress: (...all) => told.push(all) });
      expectBytes(await contentOf(nameFor(key)), Buffer.concat([image, vhdFooter(key, SIZE)]));
      const totalBytes = 5 * MIB + 512 + 64 * KIB;
      expect(told.at(-1)).toEqual([totalBytes, totalBytes]);
      expect(told.map(([done]) => done)).toEqual(told.map(([done]) => done).toSorted((a, b) => a - b));
    });

    it('copies what the snapshot holds, and not what came after it', async () => {
      const { key, disk, source, image } = await sourced();
      await disk.putPages(0, pattern(77, MIB), live);
      await disk.clearPages(4 * MIB, MIB, live);
      await ports.copies.copy(source, nameFor(key), { signal: live });
      expectBytes((await contentOf(nameFor(key))).subarray(0, SIZE), image);
    });

    it('counts a whole copy of the same source as done, and leaves what was written to it', async () => {
      const { key, source } = await sourced();
      await ports.copies.copy(source, nameFor(key), { signal: live });
      const copy = await ports.copies.open(nameFor(key), SIZE, live);
      await copy.putPages(0, pattern(3, 512), live);
      await ports.copies.copy(source, nameFor(key), { signal: live });
      await copy.renew(live); // nobody was thrown out
      expectBytes((await contentOf(nameFor(key))).subarray(0, 512), pattern(3, 512));
    });

    it('begins anew after an interruption: nothing of the first attempt is a copy', async () => {
      const { key, source, image } = await sourced();
      const stop = new AbortController();
      const interrupted = ports.copies.copy(source, nameFor(key), {
        signal: stop.signal,
        onProgress: () => stop.abort(new Error('interrupted')),
      });
      await expect(interrupted).rejects.toThrow('interrupted');
      await expectCode(ports.copies.open(nameFor(key), SIZE, live), 'BLOB_MISSING');
      await ports.copies.copy(source, nameFor(key), { signal: live });
      expectBytes((await contentOf(nameFor(key))).subarray(0, SIZE), image);
    });

    it('replaces a copy of another source, once the caller confirms that it may', async () => {
      const { key, disk, source, image } = await sourced();
      await ports.copies.copy(source, nameFor(key), { signal: live });
      await disk.clearPages(0, SIZE, live);
      await disk.putPages(6 * MIB, pattern(8, 512), live);
      const other = { ...source, snapshot: await disk.snapshot({}, live) };
      const refusal = new Error('not ours');
      const refused = ports.copies.copy(other, nameFor(key), { signal: live, confirm: () => Promise.reject(refusal) });
      await expect(refused).rejects.toBe(refusal);
      expectBytes((await contentOf(nameFor(key))).subarray(0, SIZE), image);
      await ports.copies.copy(other, nameFor(key), { signal: live, confirm: async () => undefined });
      const expected = Buffer.alloc(SIZE);
      pattern(8, 512).copy(expected, 6 * MIB);
      expectBytes((await contentOf(nameFor(key))).subarray(0, SIZE), expected);
    });

    it('says when the source is missing, and leaves no copy', async () => {
      const { key, source } = await sourced();
      const missing = { ...source, snapshot: '2001-01-01T00:00:00.0000000Z' };
      await expectCode(ports.copies.copy(missing, nameFor(key), { signal: live }), 'SNAPSHOT_MISSING');
      await expectCode(ports.copies.open(nameFor(key), SIZE, live), 'BLOB_MISSING');
      expect(await ports.copies.list(`point-disks/${key.group}/`, live)).toEqual([]);
    });

    repeated('opens no copy of another size, and fences whoever had it open', async () => {
      const { key, source } = await sourced();
      await ports.copies.copy(source, nameFor(key), { signal: live });
      await expectCode(ports.copies.open(nameFor(key), SIZE + MIB, live), 'SEED_MISMATCH');
      const old = await ports.copies.open(nameFor(key), SIZE, live);
      const taker = await ports.copies.open(nameFor(key), SIZE, live);
      await expectCode(old.putPages(0, pattern(1, 512), live), 'OWNERSHIP_LOST');
      await expectCode(old.snapshot({}, live), 'OWNERSHIP_LOST');
      await taker.putPages(0, pattern(2, 512), live);
    });

    repeated(
      'lists the copies below a prefix, ascending, and removes one with its snapshots whoever holds it',
      async () => {
        const { key, source } = await sourced();
        const prefix = `point-disks/${key.group}/`;
        const names = ['p2', 'p1'].map((point) => nameFor(key, point));
        for (const copy of names) await ports.copies.copy(source, copy, { signal: live });
        expect(await ports.copies.list(prefix, live)).toEqual(names.toSorted());
        expect(await ports.copies.list(`failover/${key.group}/`, live)).toEqual([]);
        const held = await ports.copies.open(nameFor(key, 'p1'), SIZE, live);
        const snapshot = await held.snapshot({}, live);
        const refusal = new Error('not ours');
        await expect(ports.copies.remove(nameFor(key, 'p1'), live, () => Promise.reject(refusal))).rejects.toBe(
          refusal,
        );
        expect(await ports.copies.list(prefix, live)).toHaveLength(2);
        for (let time = 0; time < 2; time++) await ports.copies.remove(nameFor(key, 'p1'), live);
        expect(await ports.copies.list(prefix, live)).toEqual([nameFor(key, 'p2')]);
        await expectCode(ports.copies.reader(nameFor(key, 'p1')).read(snapshot, 0, 512, live), 'SNAPSHOT_MISSING');
        await expectCode(held.renew(live), 'OWNERSHIP_LOST');
      },
    );

    repeated('removes nothing once somebody else has opened the copy', async () => {
      const { key, source } = await sourced();
      await ports.copies.copy(source, nameFor(key), { signal: live });
      const takeOver = async (): Promise<void> => void (await ports.copies.open(nameFor(key), SIZE, live));
      await expectCode(ports.copies.remove(nameFor(key), live, takeOver), 'OWNERSHIP_LOST');
      expect(await ports.copies.list(`point-disks/${key.group}/`, live)).toEqual([nameFor(key)]);
    });

    it('gives a URL that ends with the name and holds no secret', () => {
      const url = ports.copies.url('failover/job/m/d.vhd');
      expect(url.endsWith('/failover/job/m/d.vhd')).toBe(true);
      expect(url).not.toContain('?');
    });

    it('stops when it is told to', async () => {
      const { key, source } = await sourced();
      await expectAborts((signal) => ports.copies.copy(source, nameFor(key), { signal }));
      await ports.copies.copy(source, nameFor(key), { signal: live });
      await expectAborts((signal) => ports.copies.open(nameFor(key), SIZE, signal));
      await expectAborts((signal) => ports.copies.list('failover/x/', signal));
      await expectAborts((signal) => ports.copies.remove(nameFor(key), signal));
    });

    // Where copies share their ranges with the source there is nothing to isolate; such a store is used nowhere but here.
    if (!isIndependent) return;

    it('writing the copy changes neither the seed nor its snapshot', async () => {
      const { key, disk, source, image } = await sourced();
      await ports.copies.copy(source, nameFor(key), { signal: live });
      const copy = await ports.copies.open(nameFor(key), SIZE, live);
      const written = Buffer.from(image);
      for (const [offset, length] of [
        [0, 512],
        [MIB, 256 * KIB],
        [8 * MIB, 4096],
        [SIZE - 512, 512],
      ] as const) {
        const data = pattern(offset + 2, length);
        await copy.putPages(offset, data, live);
        data.copy(written, offset);
      }
      await copy.clearPages(2 * MIB, MIB, live);
      written.fill(0, 2 * MIB, 3 * MIB);
      expectBytes(await ports.seeds.reader(key).read(source.snapshot, 0, SIZE, live), image);
      expectBytes(await disk.read(await disk.snapshot({}, live), 0, SIZE, live), image);
      expectBytes((await contentOf(nameFor(key))).subarray(0, SIZE), written);
    });

    it('writing the seed, or deleting the snapshot, does not change the copy', async () => {
      const { key, disk, source, image } = await sourced();
      await ports.copies.copy(source, nameFor(key), { signal: live });
      await disk.putPages(0, pattern(5, 4 * MIB), live);
      await disk.clearPages(4 * MIB, 8 * MIB, live);
      await disk.deleteSnapshot(source.snapshot, live);
      expectBytes((await contentOf(nameFor(key))).subarray(0, SIZE), image);
      await ports.seeds.remove(key, async () => undefined, live);
      expectBytes((await contentOf(nameFor(key))).subarray(0, SIZE), image);
    });

    it('a snapshot of a copy is read, and copied in turn', async () => {
      const { key, source, image } = await sourced();
      await ports.copies.copy(source, nameFor(key), { signal: live });
      const copy = await ports.copies.open(nameFor(key), SIZE, live);
      await copy.putPages(MIB, pattern(9, 4096), live);
      const snapshot = await copy.snapshot({ point: 'p' }, live);
      await copy.putPages(MIB, pattern(10, 4096), live);
      const expected = Buffer.from(image);
      pattern(9, 4096).copy(expected, MIB);
      const disk: PointDisk = { ...source, snapshot, copy: nameFor(key) };
      expectBytes(await pointReader(ports, disk).read(snapshot, 0, SIZE, live), expected);
      expect(await ports.copies.reader(nameFor(key)).listSnapshots(live)).toEqual([
        { snapshot, metadata: { point: 'p' } },
      ]);
      await ports.copies.copy(disk, nameFor(key, 'second'), { signal: live });
      expectBytes((await contentOf(nameFor(key, 'second'))).subarray(0, SIZE), expected);
    });
  });
}
