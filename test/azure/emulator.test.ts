/** What the adapters do about the emulator's deviations and about blobs that are none of theirs. */
import { BlobServiceClient } from '@azure/storage-blob';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Storage } from '../../src/azure/connect.ts';
import type { DiskKey, LogStream } from '../../src/model/names.ts';
import { MIB } from '../../src/model/sizes.ts';
import { expectBytes, expectCode, freshName, live, pattern } from '../contracts/support.ts';
import { useAccounts } from './accounts.ts';
import { type Fault, FaultyProxy, type SeenRequest } from './faulty-proxy.ts';

const accounts = useAccounts();
let proxy: FaultyProxy;
let storage: Storage;
beforeAll(async () => {
  proxy = await FaultyProxy.start(accounts().port);
  storage = connect({
    cache: accounts().access('cache', proxy.port),
    replica: accounts().access('replica', proxy.port),
  });
});
afterEach(() => proxy.reset());
afterAll(async () => {
  storage.close();
  await proxy.close();
});

const SIZE = MIB;
const FOOTER = pattern(9, 512);
const newKey = (): DiskKey => ({ group: freshName('g'), machine: 'm', disk: 'd' });
const newStream = (): LogStream => ({ ...newKey(), epoch: 1 });
const raw = (account: 'cache' | 'replica', container: string): ReturnType<BlobServiceClient['getContainerClient']> =>
  BlobServiceClient.fromConnectionString(accounts().connectionString(account)).getContainerClient(container);
const put = async (stream: LogStream, sequence: number): Promise<void> => {
  await (await storage.logUpload.stage(stream, sequence, pattern(sequence, 8), live)).commit(live);
};
const isSnapshot = (seen: SeenRequest): boolean => seen.url.includes('comp=snapshot');
const listing = (names: readonly string[], nextMarker: string, snapshotOf?: string): string => {
  const blob = (name: string, at: number): string => {
    const time = `2026-11-23T05:00:00.${String(at).padStart(7, '0')}Z`;
    const snapshot = snapshotOf === undefined ? '' : `<Snapshot>${time}</Snapshot>`;
    const properties = '<Etag>0x1</Etag><Content-Length>8</Content-Length><BlobType>BlockBlob</BlobType>';
    return `<Blob><Name>${name}</Name>${snapshot}<Properties>${properties}</Properties></Blob>`;
  };
  const blobs = `<Blobs>${names.map(blob).join('')}</Blobs><NextMarker>${nextMarker}</NextMarker>`;
  return `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="http://x/" ContainerName="c">${blobs}</EnumerationResults>`;
};
const XML = { 'content-type': 'application/xml' };

describe('snapshots', () => {
  it('are made one at a time and in different milliseconds, although asked for at once', async () => {
    const disk = await storage.seeds.open(newKey(), SIZE, FOOTER, live);
    let inFlight = 0;
    let mostInFlight = 0;
    let answeredMs = 0;
    const gapsMs: number[] = [];
    proxy.rule = (seen) => {
      if (!isSnapshot(seen)) return 'pass';
      mostInFlight = Math.max(mostInFlight, ++inFlight);
      if (answeredMs > 0) gapsMs.push(performance.now() - answeredMs);
      return 'pass';
    };
    proxy.beforeAnswer = (seen) => {
      if (!isSnapshot(seen)) return;
      inFlight--;
      answeredMs = performance.now();
    };
    const ids = await Promise.all(Array.from({ length: 8 }, () => disk.snapshot({}, live)));
    expect(mostInFlight).toBe(1);
    expect(gapsMs).toHaveLength(7);
    expect(Math.min(...gapsMs)).toBeGreaterThanOrEqual(2);
    // The emulator's names end in 0000: they hold milliseconds only.
    expect(new Set(ids.map((id) => id.slice(0, 23))).size).toBe(8);
  });

  it('with a name that another one has stop the owner', async () => {
    const disk = await storage.seeds.open(newKey(), SIZE, FOOTER, live);
    const first = await disk.snapshot({}, live);
    proxy.beforeAnswer = (seen, headers) => {
      if (isSnapshot(seen)) headers['x-ms-snapshot'] = first;
    };
    await expectCode(disk.snapshot({}, live), 'ASSERTION');
  });

  it('that failed do not stop the next one', async () => {
    const disk = await storage.seeds.open(newKey(), SIZE, FOOTER, live);
    proxy.inject(isSnapshot, { status: 500 });
    const [first, second] = await Promise.allSettled([disk.snapshot({}, live), disk.snapshot({}, live)]);
    expect([first.status, second.status]).toEqual(['rejected', 'fulfilled']);
    expect(await disk.listSnapshots(live)).toHaveLength(1);
  });

  it('are refused before storage sees them when the caller has aborted while waiting', async () => {
    const disk = await storage.seeds.open(newKey(), SIZE, FOOTER, live);
    const controller = new AbortController();
    const reason = new Error('stop');
    proxy.beforeAnswer = (seen) => {
      if (isSnapshot(seen)) controller.abort(reason);
    };
    const results = await Promise.allSettled([disk.snapshot({}, live), disk.snapshot({}, controller.signal)]);
    expect(results[0].status).toBe('fulfilled');
    expect(results[1]).toEqual({ status: 'rejected', reason });
    expect(await disk.listSnapshots(live)).toHaveLength(1);
  });

  it('are listed in one page of the largest size, and too many are an error, not a gap', async () => {
    const key = newKey();
    const disk = await storage.seeds.open(key, SIZE, FOOTER, live);
    proxy.seen.length = 0;
    await disk.listSnapshots(live);
    expect(proxy.seen.map((seen) => new URLSearchParams(seen.url.split('?')[1]).get('maxresults'))).toEqual(['5000']);
    const names = Array.from({ length: 5000 }, () => `${key.group}/m/d.vhd`);
    const body = listing(names, '', names[0]);
    proxy.rule = () => ({ status: 200, headers: XML, body });
    await expectCode(disk.listSnapshots(live), 'SNAPSHOT_LIMIT');
  });

  it('are listed over short pages too, as Azure may give them', async () => {
    const key = newKey();
    const name = `${key.group}/m/d.vhd`;
    const pages = [listing([name, name], 'more', name), listing([name, name, name], '', name)];
    proxy.rule = (seen) => ({ status: 200, headers: XML, body: pages[seen.url.includes('marker=more') ? 1 : 0] ?? '' });
    expect(await storage.seeds.reader(key).listSnapshots(live)).toHaveLength(5);
  });
});

describe('writes', () => {
  it('carry the lease, every one of them', async () => {
    const disk = await storage.seeds.open(newKey(), SIZE, FOOTER, live);
    proxy.seen.length = 0;
    await disk.putPages(0, pattern(1, 512), live);
    await disk.clearPages(0, 512, live);
    await disk.snapshot({}, live);
    expect(proxy.seen).toHaveLength(3);
    expect(new Set(proxy.seen.map((seen) => seen.headers['x-ms-lease-id'])).size).toBe(1);
    expect(proxy.seen[0]?.headers['x-ms-lease-id']).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('listing segments', () => {
  it('costs one request while segments come, two when there is nothing new', async () => {
    const stream = newStream();
    for (const n of [1, 2, 3]) await put(stream, n);
    const cost = async (from: number, limit = 100): Promise<number> => {
      proxy.seen.length = 0;
      await storage.logStore.list(stream, from, limit, live);
      return proxy.seen.length;
    };
    expect([await cost(1), await cost(3), await cost(4)]).toEqual([1, 1, 2]);
    for (const n of [999, 1000]) await put(stream, n);
    expect([await cost(999, 1), await cost(999, 2), await cost(1000)]).toEqual([1, 2, 1]);
  });

  it('does not look across a hole of more than 1,000', async () => {
    const stream = newStream();
    for (const n of [1, 2000]) await put(stream, n);
    const from = async (n: number): Promise<number[]> =>
      (await storage.logStore.list(stream, n, 10, live)).map((ref) => ref.sequence);
    expect([await from(1), await from(2), await from(1000)]).toEqual([[1], [], [2000]]);
  });

  it('leaves foreign names out', async () => {
    const stream = newStream();
    await put(stream, 1);
    const prefix = `${stream.group}/m/d/00000001/`;
    const foreign = [
      '000000000002.tmp',
      '000000000000.seg',
      '000000000003.seg.bak',
      '00000000004.seg',
      'x',
      '000000000/5',
    ];
    for (const name of foreign) await raw('cache', 'replication-logs').uploadBlockBlob(`${prefix}${name}`, 'x', 1);
    expect(await storage.logStore.list(stream, 1, 10, live)).toEqual([{ sequence: 1, sizeBytes: 8 }]);
    expect(await storage.logUpload.lastSequence(stream, live)).toBe(1);
  });

  it('follows the pages of a long stream', async () => {
    const stream = newStream();
    const name = (n: number): string => `${stream.group}/m/d/00000001/${String(n).padStart(12, '0')}.seg`;
    const pages = [listing([name(1), name(2)], 'next', undefined), listing([name(3), name(4)], '', undefined)];
    proxy.rule = (seen) => ({ status: 200, headers: XML, body: pages[seen.url.includes('marker=next') ? 1 : 0] ?? '' });
    expect(await storage.logUpload.lastSequence(stream, live)).toBe(4);
    expect(await storage.logStore.list(stream, 2, 2, live)).toEqual([2, 3].map((n) => ({ sequence: n, sizeBytes: 8 })));
  });
});

describe('storage that others changed', () => {
  it('a seed that another owner created and wrote a moment ago is opened, not made again', async () => {
    const key = newKey();
    const other = connect({
      cache: accounts().access('cache'),
      replica: accounts().access('replica'),
    });
    const isCreation = (seen: SeenRequest): boolean => seen.headers['x-ms-blob-type'] === 'PageBlob';
    proxy.rule = async (seen): Promise<Fault> => {
      if (!isCreation(seen)) return 'pass';
      const theirs = await other.seeds.open(key, SIZE, FOOTER, live);
      await theirs.putPages(0, pattern(1, 512), live);
      await theirs.close(live);
      return 'pass';
    };
    const disk = await storage.seeds.open(key, SIZE, FOOTER, live);
    expect(proxy.seen.filter(isCreation)).toHaveLength(1);
    expectBytes(await disk.read(await disk.snapshot({}, live), 0, 512, live), pattern(1, 512));
    other.close();
  });

  it('a segment whose staged blocks were thrown away by the commit of another stager exists', async () => {
    const stream = newStream();
    const late = await storage.logUpload.stage(stream, 1, pattern(1, 8), live);
    const lost = await storage.logUpload.stage(stream, 2, pattern(2, 8), live);
    await put(stream, 1);
    const headers = { 'x-ms-error-code': 'InvalidBlockList' };
    proxy.rule = (seen) => (seen.url.includes('comp=blocklist') ? { status: 400, headers } : 'pass');
    expect(await late.commit(live)).toBe('exists');
    await expectCode(lost.commit(live), 'CONFLICT');
  });

  it('a seed without a footer gets one; a seed that is no page blob is refused', async () => {
    const key = newKey();
    await storage.seeds.open(key, SIZE, FOOTER, live); // makes the container
    const bare = newKey();
    await raw('replica', 'seed-disks')
      .getPageBlobClient(`${bare.group}/m/d.vhd`)
      .create(SIZE + 512);
    const disk = await storage.seeds.open(bare, SIZE, FOOTER, live);
    expectBytes(await disk.read(await disk.snapshot({}, live), SIZE, 512, live), FOOTER);
    const block = newKey();
    const bytes = Buffer.alloc(SIZE + 512);
    await raw('replica', 'seed-disks').uploadBlockBlob(`${block.group}/m/d.vhd`, bytes, bytes.length);
    await expectCode(storage.seeds.open(block, SIZE, FOOTER, live), 'SEED_MISMATCH');
  });

  it('a footer that is right is not written again', async () => {
    const key = newKey();
    await storage.seeds.open(key, SIZE, FOOTER, live);
    proxy.seen.length = 0;
    await storage.seeds.open(key, SIZE, FOOTER, live);
    expect(proxy.seen.filter((seen) => seen.url.includes('comp=page'))).toEqual([]);
  });

  it('containers that are gone are empty to read and made again to write', async () => {
    const stream = newStream();
    await put(stream, 1);
    await storage.catalog.create('a', Buffer.from('a'), live);
    const key = newKey();
    const disk = await storage.seeds.open(key, SIZE, FOOTER, live);
    await raw('cache', 'replication-logs').delete();
    await raw('replica', 'catalog').delete();
    await raw('replica', 'seed-disks').delete();
    expect(await storage.logStore.list(stream, 1, 10, live)).toEqual([]);
    expect(await storage.logStore.read(stream, 1, 10, live)).toBeUndefined();
    expect(await storage.catalog.list('', live)).toEqual([]);
    expect(await storage.catalog.read('a', live)).toBeUndefined();
    expect(await disk.listSnapshots(live)).toEqual([]);
    await expectCode(disk.putPages(0, pattern(1, 512), live), 'BLOB_MISSING');
    await put(stream, 1);
    expect(await storage.catalog.create('a', Buffer.from('b'), live)).toBeDefined();
    await (await storage.seeds.open(key, SIZE, FOOTER, live)).putPages(0, pattern(1, 512), live);
    expect(await storage.logUpload.lastSequence(stream, live)).toBe(1);
  });

  it('of a container that is gone, and that the identity may not make, both are said; in one that is there it is not asked', async () => {
    const headers = { 'x-ms-error-code': 'AuthorizationPermissionMismatch' };
    const isMaking = (seen: SeenRequest): boolean => seen.method === 'PUT' && seen.url.includes('restype=container');
    proxy.rule = (seen) => (isMaking(seen) ? { status: 403, headers } : 'pass');
    const name = `${freshName('d')}.json`;
    await storage.catalog.create(name, Buffer.from('a'), live);
    expect(proxy.seen.filter(isMaking)).toEqual([]);
    await raw('replica', 'catalog').delete();
    const error = await expectCode(storage.catalog.create(name, Buffer.from('a'), live), 'ACCESS_DENIED');
    expect(error.message).toMatch(
      /^Create the container catalog, which is missing: 403 AuthorizationPermissionMismatch at .+; the identity lacks the role/,
    );
    expect(proxy.seen.filter(isMaking)).toHaveLength(1);
    proxy.reset();
    await storage.catalog.create(name, Buffer.from('a'), live);
  });
});
