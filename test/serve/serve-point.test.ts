/** Serving a point of storage in memory: the pin, failures, and the end. */
import { describe, expect, it } from 'vitest';
import { getGroup, livePins, pinPoint, protectGroup, releasePin } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { TidemarkError } from '../../src/errors.ts';
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { catalogName } from '../../src/model/names.ts';
import type { Manifest } from '../../src/points/manifest.ts';
import { vhdFooter } from '../../src/seed/vhd-footer.ts';
import { holdPoint, PIN_MS, RENEW_AFTER_MS } from '../../src/serve/held-point.ts';
import { type ServeOptions, servePoint } from '../../src/serve/serve-point.ts';
import { expectBytes, expectCode, live, pattern } from '../contracts/support.ts';
import { NbdClient } from '../support/nbd-client.ts';

const MIB = 1024 * 1024;
const SIZE = 2 * MIB;
const POINT = '20261120T040000.000000Z-crash';
const START_US = Date.UTC(2026, 10, 20) * 1000;
const KEY = { group: 'g', machine: 'm', disk: 'd' };

/** A clock whose sleepers wait for `advance`. */
function newClock() {
  let nowMs = 0;
  let sleepers: { readonly atMs: number; readonly wake: () => void }[] = [];
  return {
    nowUs: () => START_US + nowMs * 1000,
    nowMs: () => nowMs,
    sleep: (ms: number, signal: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        sleepers.push({ atMs: nowMs + ms, wake: resolve });
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      }),
    /** Lets what follows from each awakening happen, which takes only turns of the event loop with storage in memory. */
    async advance(ms: number) {
      nowMs += ms;
      const due = sleepers.filter(({ atMs }) => atMs <= nowMs);
      sleepers = sleepers.filter(({ atMs }) => atMs > nowMs);
      for (const { wake } of due) wake();
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

/** A group with one point of one disk: data in the second half. */
async function prepare(): Promise<{ storage: MemoryStorage; image: Buffer; manifest: Manifest }> {
  const storage = createMemoryStorage();
  await setPolicy(storage.catalog, 'p', {}, live);
  const machines = [{ machine: 'm', disks: [{ disk: 'd', sizeBytes: SIZE }] }];
  await protectGroup(storage.catalog, { group: 'g', policy: 'p', machines, nowUs: START_US }, live);
  const seed = await storage.seeds.open(KEY, SIZE, vhdFooter(KEY, SIZE), live);
  const image = Buffer.alloc(SIZE);
  pattern(1, MIB).copy(image, MIB);
  await seed.putPages(MIB, image.subarray(MIB), live);
  const snapshot = await seed.snapshot({ point: POINT }, live);
  const manifest: Manifest = {
    version: 1,
    point: POINT,
    group: 'g',
    kind: 'crash',
    cutUs: START_US,
    cut: '2026-11-20T00:00:00.000000Z',
    mark: null,
    created: '2026-11-20T00:00:00.000000Z',
    previousPoint: null,
    disks: [
      {
        machine: 'm',
        disk: 'd',
        sizeBytes: SIZE,
        snapshot,
        copy: null,
        changedBytes: MIB,
        epoch: 1,
        sequence: 1,
        record: 0,
        logDigest: '',
      },
    ],
    changesSha256: '',
    verified: null,
  };
  await storage.catalog.create(catalogName.manifest('g', POINT), Buffer.from(JSON.stringify(manifest)), live);
  return { storage, image, manifest };
}

const owners = async ({ catalog }: MemoryStorage, nowUs: number): Promise<string[]> =>
  livePins(await getGroup(catalog, 'g', live), nowUs).map(({ owner }) => owner);

async function serve(storage: MemoryStorage, options: Partial<ServeOptions> = {}) {
  const failures: unknown[] = [];
  const served = await servePoint({
    ...storage,
    clock: newClock(),
    group: 'g',
    point: POINT,
    disk: 'd',
    host: '127.0.0.1',
    port: 0,
    cacheBytes: MIB,
    owner: 'serve:here:1',
    onFailure: (error) => failures.push(error),
    signal: live,
    ...options,
  });
  return { served, failures };
}

describe('a served point', () => {
  it('has the bytes of the snapshot, whatever becomes of the seed disk and of the changes', async () => {
    const { storage, image } = await prepare();
    const seed = await storage.seeds.open(KEY, SIZE, vhdFooter(KEY, SIZE), live);
    await seed.putPages(MIB, Buffer.alloc(512, 0xff), live);
    const [plain, writable] = [await serve(storage), await serve(storage, { scratch: {}, owner: 'serve:here:2' })];
    const [reader, writer] = [new NbdClient(plain.served.port), new NbdClient(writable.served.port)];
    await reader.open();
    await writer.open({ name: writable.served.exportName });
    const payload = pattern(9, SIZE);
    expect(await writer.simple({ command: 1, length: SIZE, payload })).toBe(0);
    expectBytes(await writer.read(0, SIZE), payload);
    expectBytes(await reader.read(0, SIZE), image);
    expect(await reader.status(0, SIZE)).toEqual([
      [MIB, 3],
      [MIB, 0],
    ]);
    expect(await owners(storage, START_US)).toEqual(['serve:here:1', 'serve:here:2']);
    await plain.served.close();
    expect(await owners(storage, START_US)).toEqual(['serve:here:2']);
    await writable.served.close();
    expect(await owners(storage, START_US)).toEqual([]);
    await Promise.all([reader.close(), writer.close()]);
  });

  it('tells clients of failures that pass, and goes on; others end it', async () => {
    const { storage, image, manifest } = await prepare();
    let failing: Error | undefined = new TidemarkError('STORAGE_TIMEOUT', 'slow');
    const inner = storage.seeds.reader(KEY);
    const seeds = {
      reader: () => ({
        listSnapshots: inner.listSnapshots.bind(inner),
        ranges: inner.ranges.bind(inner),
        read: async (...args: Parameters<typeof inner.read>) => {
          if (failing !== undefined) throw failing;
          return inner.read(...args);
        },
      }),
    };
    const { served, failures } = await serve(storage, { seeds });
    const client = new NbdClient(served.port);
    await client.open();
    await expect(client.read(MIB, 512)).rejects.toThrow('error 5');
    expect(failures).toEqual([failing]);
    expect(served.failed.aborted).toBe(false);
    failing = undefined;
    expectBytes(await client.read(MIB, 512), image.subarray(MIB, MIB + 512));
    const seed = await storage.seeds.open(KEY, SIZE, vhdFooter(KEY, SIZE), live);
    await seed.deleteSnapshot(manifest.disks[0]?.snapshot ?? '', live);
    await expect(client.read(MIB + 300_000, 512)).rejects.toThrow('error 5');
    expect(served.failed.reason).toMatchObject({ code: 'SNAPSHOT_MISSING' });
    await client.close();
    await served.close();
  });

  it('leaves nothing behind when it cannot be served', async () => {
    const { storage, manifest } = await prepare();
    const { served } = await serve(storage, { owner: 'other' });
    await expectCode(serve(storage, { port: served.port }), 'SERVE_PORT_TAKEN');
    await expectCode(serve(storage, { point: 'x' }), 'POINT_NOT_FOUND');
    await expectCode(serve(storage, { disk: 'x' }), 'DISK_NOT_FOUND');
    await expectCode(serve(storage, { scratch: { file: '/' } }), 'SCRATCH_UNUSABLE');
    expect(await owners(storage, START_US)).toEqual(['other']);
    await served.close();
    const seed = await storage.seeds.open(KEY, SIZE, vhdFooter(KEY, SIZE), live);
    await seed.deleteSnapshot(manifest.disks[0]?.snapshot ?? '', live);
    await expectCode(serve(storage), 'SNAPSHOT_MISSING');
    expect(await owners(storage, START_US)).toEqual([]);
  });
});

describe('a held point', () => {
  const hold = ({ catalog }: MemoryStorage, clock: ReturnType<typeof newClock>) =>
    holdPoint({ catalog, clock, group: 'g', point: POINT, owner: 'me', reason: 'test', signal: live });

  it('stays pinned as long as it is held, an hour at the most after that', async () => {
    const { storage } = await prepare();
    const clock = newClock();
    const held = await hold(storage, clock);
    for (let round = 0; round < 10; round++) {
      await clock.advance(RENEW_AFTER_MS);
      expect(await owners(storage, clock.nowUs() + PIN_MS * 1000 - 1)).toEqual(['me']);
      expect(await owners(storage, clock.nowUs() + PIN_MS * 1000)).toEqual([]);
    }
    await held.release();
    expect(held.lost.aborted).toBe(false);
    expect(await owners(storage, clock.nowUs())).toEqual([]);
  });

  it('outlives a catalog that is away for a while, and ends before its pin does', async () => {
    const { storage } = await prepare();
    const clock = newClock();
    let away = false;
    const { catalog } = storage;
    const read = catalog.read.bind(catalog);
    catalog.read = async (name, signal) => {
      if (away) throw new TidemarkError('STORAGE_UNAVAILABLE', 'away');
      return read(name, signal);
    };
    const held = await hold(storage, clock);
    away = true;
    await clock.advance(RENEW_AFTER_MS);
    for (let minute = 0; minute < 30; minute++) await clock.advance(60_000);
    away = false;
    await clock.advance(60_000);
    expect(await owners(storage, clock.nowUs() + PIN_MS * 1000 - 1)).toEqual(['me']);
    away = true;
    await clock.advance(RENEW_AFTER_MS);
    for (let minute = 0; minute < 60 && !held.lost.aborted; minute++) await clock.advance(60_000);
    expect(held.lost.reason).toMatchObject({ code: 'STORAGE_UNAVAILABLE' });
    away = false;
    expect(await owners(storage, clock.nowUs())).toEqual(['me']);
    await held.release();
  });

  it('is lost at once when the point may no longer be pinned', async () => {
    const { storage } = await prepare();
    const clock = newClock();
    const held = await hold(storage, clock);
    await storage.catalog.delete(catalogName.group('g'), undefined, live);
    await clock.advance(RENEW_AFTER_MS);
    expect(held.lost.reason).toMatchObject({ code: 'GROUP_NOT_FOUND' });
  });
});

describe('giving a pin back', () => {
  it('takes off the pin of one owner and no other, twice if need be', async () => {
    const { storage } = await prepare();
    const request = { group: 'g', point: POINT, reason: 'r', expiresAtUs: null, nowUs: START_US };
    for (const owner of ['one', 'two']) await pinPoint(storage.catalog, { ...request, owner }, live);
    await pinPoint(storage.catalog, { ...request, owner: 'one', point: 'another' }, live);
    for (let round = 0; round < 2; round++) {
      await releasePin(storage.catalog, { group: 'g', point: POINT, owner: 'one' }, live);
      const { pins } = await getGroup(storage.catalog, 'g', live);
      expect(pins.map(({ owner, point }) => `${owner} ${point}`)).toEqual([`two ${POINT}`, 'one another']);
    }
  });
});
