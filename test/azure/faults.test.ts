import { BlobServiceClient } from '@azure/storage-blob';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Waiting } from '../../src/apply/rate-limit.ts';
import { connect, type Storage } from '../../src/azure/connect.ts';
import { TidemarkError } from '../../src/errors.ts';
import type { DiskKey, LogStream } from '../../src/model/names.ts';
import { MIB } from '../../src/model/sizes.ts';
import type { SeedDisk } from '../../src/seed/seed-store.ts';
import { expectBytes, expectCode, freshName, live, pattern } from '../contracts/support.ts';
import { useAccounts } from './accounts.ts';
import { type Fault, FaultyProxy, type SeenRequest } from './faulty-proxy.ts';

const accounts = useAccounts();
let proxy: FaultyProxy;
/** Through the proxy, with short times. */
let storage: Storage;
/** Past the proxy: another owner. */
let other: Storage;

/** A clock that does not make anybody wait: who sleeps makes its time pass. */
let nowMs = 0;
const hasty: Waiting = {
  nowMs: () => nowMs,
  sleep: async (ms) => {
    nowMs += ms;
  },
};

const PATIENCE_MS = 20_000;

const through = (port: number | undefined, deadlineMs: number, waiting: Waiting = hasty): Storage =>
  connect({
    cache: accounts().access('cache', port),
    replica: accounts().access('replica', port),
    times: { deadlineMs, maxTries: 4, firstDelayMs: 1, patienceMs: PATIENCE_MS },
    waiting,
  });

beforeAll(async () => {
  proxy = await FaultyProxy.start(accounts().port);
  storage = through(proxy.port, 10_000);
  other = through(undefined, 10_000);
  await document('makes the container, so that the tests count only their own requests');
});
afterEach(() => proxy.reset());
afterAll(async () => {
  storage.close();
  other.close();
  await proxy.close();
});

const put = (seen: SeenRequest): boolean => seen.method === 'PUT';
const withComp =
  (comp: string) =>
  (seen: SeenRequest): boolean =>
    new URLSearchParams(seen.url.split('?')[1]).get('comp') === comp;
const count = (matches: (seen: SeenRequest) => boolean): number => proxy.seen.filter(matches).length;

const SIZE = 8 * MIB;
const FOOTER = pattern(9, 512);
const newStream = (): LogStream => ({ group: freshName('g'), machine: 'm', disk: 'd', epoch: 1 });
const newKey = (): DiskKey => ({ group: freshName('g'), machine: 'm', disk: 'd' });
const openSeed = async (key = newKey()): Promise<SeedDisk> => storage.seeds.open(key, SIZE, FOOTER, live);
const document = async (text: string): Promise<{ name: string; etag: string }> => {
  const name = `${freshName('c')}/doc.json`;
  return { name, etag: (await other.catalog.create(name, Buffer.from(text), live)) ?? '' };
};

describe('an answer that got lost', () => {
  it('of a creation that was made: the creation is known as our own', async () => {
    const name = `${freshName('c')}/doc.json`;
    proxy.inject(put, 'lose-answer');
    const etag = await storage.catalog.create(name, Buffer.from('one'), live);
    expect(count(put)).toBe(2);
    expect(await other.catalog.read(name, live)).toEqual({ bytes: Buffer.from('one'), etag });
  });

  it('of a creation that was not made, while another owner wrote the same bytes: not our own', async () => {
    const name = `${freshName('c')}/doc.json`;
    let otherEtag: string | undefined;
    proxy.rule = async (seen): Promise<Fault> => {
      if (!put(seen) || otherEtag !== undefined) return 'pass';
      otherEtag = await other.catalog.create(name, Buffer.from('one'), live);
      return 'lose-request';
    };
    expect(await storage.catalog.create(name, Buffer.from('one'), live)).toBeUndefined();
    expect((await other.catalog.read(name, live))?.etag).toBe(otherEtag);
  });

  it('of a replacement that was made: returns its ETag, with and without a lease', async () => {
    const { name, etag } = await document('one');
    proxy.inject(put, 'lose-answer');
    const second = await storage.catalog.replace(name, Buffer.from('two'), etag, undefined, live);
    expect(await other.catalog.read(name, live)).toEqual({ bytes: Buffer.from('two'), etag: second });
    const lease = await storage.catalog.takeLease(name, live);
    proxy.inject(put, 'lose-answer', 'lose-answer');
    const third = await storage.catalog.replace(name, Buffer.from('three'), second ?? '', lease, live);
    expect(await other.catalog.read(name, live)).toEqual({ bytes: Buffer.from('three'), etag: third });
  });

  it('of a replacement that another owner replaced again: counts as changed', async () => {
    const { name, etag } = await document('one');
    proxy.inject(put, 'lose-answer');
    proxy.beforeAnswer = async (_, headers) => {
      proxy.beforeAnswer = () => {};
      await other.catalog.replace(name, Buffer.from('theirs'), String(headers['etag']), undefined, live);
    };
    expect(await storage.catalog.replace(name, Buffer.from('ours'), etag, undefined, live)).toBeUndefined();
    expectBytes((await other.catalog.read(name, live))?.bytes, Buffer.from('theirs'));
  });

  it('of a commit that was made: committed; when another stager was first: exists', async () => {
    const stream = newStream();
    const first = await storage.logUpload.stage(stream, 1, pattern(1, 5 * MIB), live);
    proxy.inject(withComp('blocklist'), 'lose-answer');
    expect(await first.commit(live)).toBe('committed');
    expectBytes(await other.logStore.read(stream, 1, SIZE, live), pattern(1, 5 * MIB));

    const second = await storage.logUpload.stage(stream, 2, pattern(2, 1000), live);
    proxy.rule = async (seen): Promise<Fault> => {
      if (!withComp('blocklist')(seen) || count(withComp('blocklist')) > 2) return 'pass';
      if (!seen.url.includes('000000000002')) return 'pass';
      const theirs = await other.logUpload.stage(stream, 2, pattern(2, 1000), live);
      await theirs.commit(live);
      return 'lose-request';
    };
    proxy.seen.length = 0;
    expect(await second.commit(live)).toBe('exists');
  });

  it('of a deletion: done is done', async () => {
    const { name, etag } = await document('one');
    proxy.inject((seen) => seen.method === 'DELETE', 'lose-answer');
    expect(await storage.catalog.delete(name, etag, live)).toBe('deleted');
    expect(await other.catalog.read(name, live)).toBeUndefined();
  });

  it('of a lease that was taken: the lease holds', async () => {
    const { name, etag } = await document('one');
    proxy.inject((seen) => seen.headers['x-ms-lease-action'] === 'acquire', 'lose-answer');
    const lease = await storage.catalog.takeLease(name, live);
    await lease.renew(live);
    expect(await storage.catalog.replace(name, Buffer.from('two'), etag, lease, live)).toBeDefined();
    proxy.inject((seen) => seen.headers['x-ms-lease-action'] === 'release', 'lose-answer');
    await lease.release(live);
    await expectCode(lease.renew(live), 'OWNERSHIP_LOST');
  });

  it('of a page write: an error, since it may land late; the next lease keeps it out', async () => {
    const disk = await openSeed();
    proxy.seen.length = 0;
    proxy.inject(withComp('page'), 'lose-answer');
    await expectCode(disk.putPages(512, pattern(1, 1024), live), 'STORAGE_UNAVAILABLE');
    proxy.inject(withComp('page'), 'lose-answer');
    await expectCode(disk.clearPages(512, 512, live), 'STORAGE_UNAVAILABLE');
    expect(count(withComp('page'))).toBe(2);
  });

  it('of a snapshot: an error instead of a second snapshot', async () => {
    const disk = await openSeed();
    proxy.inject(withComp('snapshot'), 'lose-answer');
    await expectCode(disk.snapshot({ point: 'p' }, live), 'STORAGE_UNAVAILABLE');
    expect((await disk.listSnapshots(live)).map((info) => info.metadata)).toEqual([{ point: 'p' }]);
    await disk.snapshot({ point: 'q' }, live);
    expect(await disk.listSnapshots(live)).toHaveLength(2);
  });

  it('of the creation of a seed, and before its footer: the next opening repairs it', async () => {
    const key = newKey();
    proxy.rule = (seen) => (withComp('page')(seen) ? 'lose-request' : 'pass');
    await expectCode(openSeed(key), 'STORAGE_UNAVAILABLE');
    proxy.inject((seen) => seen.headers['x-ms-blob-type'] === 'PageBlob', 'lose-answer');
    const disk = await openSeed(key);
    expectBytes(await disk.read(await disk.snapshot({}, live), SIZE, 512, live), FOOTER);
    const second = newKey();
    proxy.inject((seen) => seen.headers['x-ms-blob-type'] === 'PageBlob', 'lose-answer');
    await (await openSeed(second)).renew(live);
  });
});

describe('a lease that others want too', () => {
  const isAcquire = (seen: SeenRequest): boolean => seen.headers['x-ms-lease-action'] === 'acquire';

  it('is taken from the one who was faster', async () => {
    const { name, etag } = await document('one');
    proxy.rule = async (seen): Promise<Fault> => {
      if (isAcquire(seen) && count(isAcquire) === 1) await other.catalog.takeLease(name, live);
      return 'pass';
    };
    const lease = await storage.catalog.takeLease(name, live);
    expect(count(isAcquire)).toBe(2);
    expect(await storage.catalog.replace(name, Buffer.from('two'), etag, lease, live)).toBeDefined();
  });

  it('is left to them after five rounds', async () => {
    const { name } = await document('one');
    proxy.rule = async (seen): Promise<Fault> => {
      if (isAcquire(seen)) await other.catalog.takeLease(name, live);
      return 'pass';
    };
    await expectCode(storage.catalog.takeLease(name, live), 'OWNERSHIP_LOST');
    expect(count(isAcquire)).toBe(5);
  });
});

describe('a refusal', () => {
  it('for now (429, 503) is repeated as long as patience lasts', async () => {
    const disk = await openSeed();
    proxy.seen.length = 0;
    proxy.inject(withComp('page'), ...Array.from({ length: 6 }, (_, i) => ({ status: i % 2 === 0 ? 503 : 429 })));
    await disk.putPages(0, pattern(1, 512), live);
    expect(count(withComp('page'))).toBe(7);
    proxy.seen.length = 0;
    const startMs = nowMs;
    proxy.rule = (seen) => (withComp('page')(seen) ? { status: 503 } : 'pass');
    const error = await expectCode(disk.putPages(0, pattern(2, 512), live), 'STORAGE_UNAVAILABLE');
    expect(error.details['status']).toBe(503);
    // The last pause, of 5 s at the most, goes on for others when the call has given up.
    expect(nowMs - startMs).toBeLessThanOrEqual(PATIENCE_MS + 5000);
    expect(count(withComp('page'))).toBeLessThan(15);
  });

  it('is not asked again before the time that it names, and the caller learns of a time beyond its patience', async () => {
    const disk = await openSeed();
    for (const [headers, leastMs] of [
      [{ 'retry-after': '3' }, 3000],
      [{ 'retry-after-ms': '1234' }, 1234],
      [{ date: 'Wed, 25 Nov 2026 10:00:00 GMT', 'retry-after': 'Wed, 25 Nov 2026 10:00:02 GMT' }, 2000],
    ] as const) {
      const startMs = nowMs;
      proxy.inject(withComp('page'), { status: 503, headers });
      await disk.putPages(0, pattern(1, 512), live);
      expect(nowMs - startMs).toBeGreaterThanOrEqual(leastMs);
    }
    proxy.seen.length = 0;
    proxy.inject(withComp('page'), { status: 429, headers: { 'retry-after': '60' } });
    const error = await expectCode(disk.putPages(0, pattern(1, 512), live), 'STORAGE_UNAVAILABLE');
    expect(error.details['retryAfterMs']).toBe(60_000);
    expect(count(withComp('page'))).toBe(1);
  });

  it('does not hold up the renewal of a lease', async () => {
    const paused = Promise.withResolvers<void>();
    const over = Promise.withResolvers<void>();
    let atMs = 0;
    const sleep = (): Promise<void> => {
      paused.resolve();
      return over.promise;
    };
    const throttled = through(proxy.port, 10_000, { nowMs: () => atMs, sleep });
    const disk = await throttled.seeds.open(newKey(), SIZE, FOOTER, live);
    proxy.seen.length = 0;
    proxy.inject(withComp('page'), { status: 503, headers: { 'retry-after': '4' } });
    const put = disk.putPages(0, pattern(1, 512), live);
    await paused.promise;
    await disk.renew(live);
    expect(count(withComp('page'))).toBe(1);
    atMs = 4000;
    over.resolve();
    await put;
    expect(count(withComp('page'))).toBe(2);
    throttled.close();
  });

  it('for now of a snapshot is repeated when storage did nothing, and not when that is unknown', async () => {
    const disk = await openSeed();
    proxy.inject(withComp('snapshot'), { status: 503 }, { status: 429 });
    await disk.snapshot({}, live);
    proxy.inject(withComp('snapshot'), { status: 500 });
    await expectCode(disk.snapshot({}, live), 'STORAGE_UNAVAILABLE');
    expect(await disk.listSnapshots(live)).toHaveLength(1);
  });

  it('for good is not repeated', async () => {
    const disk = await openSeed();
    proxy.seen.length = 0;
    const headers = { 'x-ms-error-code': 'InvalidHeaderValue' };
    proxy.inject(withComp('page'), { status: 400, headers });
    await expectCode(disk.putPages(0, pattern(1, 512), live), 'ASSERTION');
    expect(count(withComp('page'))).toBe(1);
  });

  it('of the key says so without telling it, and that a person is needed', async () => {
    const wrong = accounts()
      .connectionString('replica')
      .replace(/AccountKey=[^;]+/, 'AccountKey=d3Jvbmc=');
    const denied = connect({ cache: { connectionString: wrong }, replica: { connectionString: wrong } });
    const error = await expectCode(denied.catalog.read('a', live), 'ACCESS_DENIED');
    expect(error.message).toContain('403');
    expect(error.message).not.toContain('d3Jvbmc');
    denied.close();
  });

  it('of a page write because the blob was deleted names the blob', async () => {
    const key = newKey();
    const disk = await openSeed(key);
    await disk.close(live);
    const service = BlobServiceClient.fromConnectionString(accounts().connectionString('replica'));
    await service.getContainerClient('seed-disks').deleteBlob(`${key.group}/m/d.vhd`);
    const error = await expectCode(disk.putPages(0, pattern(1, 512), live), 'BLOB_MISSING');
    expect(error.message).toContain(`${key.group}/m/d.vhd`);
    await expectCode(disk.renew(live), 'OWNERSHIP_LOST');
    await disk.close(live);
  });
});

describe('a server that does not answer', () => {
  it('is given up at the deadline', async () => {
    const brief = through(proxy.port, 150);
    for (const fault of ['hang', 'hang-body'] as const) {
      const { name } = await document('some bytes');
      proxy.rule = () => fault;
      await expectCode(brief.catalog.read(name, live), 'STORAGE_TIMEOUT');
      expect(count((seen) => seen.url.includes(name))).toBe(1);
    }
    brief.close();
  });

  it('is left at once when the caller aborts', async () => {
    const { name, etag } = await document('one');
    for (const fault of ['hang', 'hang-body'] as const) {
      const controller = new AbortController();
      const reason = new Error('shutting down');
      proxy.rule = () => fault;
      proxy.onHang = () => controller.abort(reason);
      await expect(storage.catalog.read(name, controller.signal)).rejects.toBe(reason);
      expect(controller.signal.aborted).toBe(true);
    }
    proxy.reset();
    expect((await storage.catalog.read(name, live))?.etag).toBe(etag);
  });

  it('in the middle of a body is asked for the rest', async () => {
    const stream = newStream();
    await (await other.logUpload.stage(stream, 1, pattern(1, 3 * MIB), live)).commit(live);
    proxy.inject((seen) => seen.method === 'GET', 'break-body');
    expectBytes(await storage.logStore.read(stream, 1, 4 * MIB, live), pattern(1, 3 * MIB));
  });

  it('because nobody listens is unavailable', async () => {
    const closed = await FaultyProxy.start(accounts().port);
    const { port } = closed;
    await closed.close();
    const nobody = through(port, 10_000);
    await expectCode(nobody.catalog.read('a', live), 'STORAGE_UNAVAILABLE');
    nobody.close();
  });
});

describe('connections', () => {
  it('are kept and used again, and end with close', async () => {
    const own = await FaultyProxy.start(accounts().port);
    const kept = through(own.port, 10_000);
    for (let n = 0; n < 10; n++) await kept.catalog.read('none', live);
    expect(own.connections).toBe(1);
    const ended = own.connectionEnd();
    kept.close();
    await ended;
    expect(own.openConnections).toBe(0);
    await own.close();
  });

  it('need a connection string, and an error does not repeat it', () => {
    for (const bad of ['', 'AccountName=a;AccountKey=c2VjcmV0', 'c2VjcmV0']) {
      let error: unknown;
      try {
        connect({ cache: { connectionString: bad }, replica: { connectionString: bad } });
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(TidemarkError);
      expect((error as TidemarkError).code).toBe('CONNECTION_INVALID');
      expect(String(error) + String((error as TidemarkError).cause)).not.toContain('c2VjcmV0');
    }
  });
});
