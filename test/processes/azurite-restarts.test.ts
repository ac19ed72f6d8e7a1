/**
 * Azurite is stopped and started under a worker and a source. Stopped in order it loses nothing; killed it is back at an earlier
 * moment, and whatever was made since has to be made again, or somebody has to say why not.
 */
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it, vi } from 'vitest';
import { BlobServiceClient } from '@azure/storage-blob';
import { type Fault, FaultyProxy, type SeenRequest } from '../azure/faulty-proxy.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { Child } from './child.ts';
import { Protected } from './protected.ts';
import { useServices } from './services.ts';

const services = useServices();
const BOUND = { timeout: 40_000, interval: 50 };
let dir = '';
beforeAll(async () => {
  dir = await writeSyntheticTrace(join(services().home, 'trace'));
});
interface Message {
  /** Group and sequence: `shop:1795408200000`. */
  readonly id: string;
  readonly type: string;
  readonly data: { readonly point: string };
}

const sequenceOf = (id: string): number => Number(id.split(':').at(-1));

const proxies: FaultyProxy[] = [];
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.close();
});

const begin = (group: string): Promise<Protected> => Protected.create(services(), group, dir);

/** Runs `args` again and again, as somebody would who reads "run the same command again to go on". */
async function untilDone(web: Protected, args: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const { exitCode, stderr } = await web.operator.run(...args);
    if (exitCode === 0) return;
    if (attempt === 5) throw new Error(stderr);
  }
}

const isManifest = ({ method, url }: SeenRequest): boolean => method === 'PUT' && /\/points\/[^?]*\.json/.test(url);
const isProgress = ({ method, url }: SeenRequest): boolean =>
  method === 'PUT' && url.includes('/progress/') && !url.includes('comp=');
const isChanges = ({ method, url }: SeenRequest): boolean => method === 'PUT' && url.includes('.changes');
const isPut = ({ method, url }: SeenRequest): boolean => method === 'PUT' && url.includes('comp=page');

/** The request of an owner that is the first one in storage's next life. */
const FIRST_REQUESTS = [
  ['a page', isPut],
  ['a changes list', isChanges],
  ['a manifest', isManifest],
  ['a progress document', isProgress],
] as const;

it.each(FIRST_REQUESTS)(
  'a killed storage that first sees %s of its old owner: all points are made right again',
  async (what, isIt) => {
    const web = await begin(what.replaceAll(' ', '-'));
    await web.operator.ok(...web.ship());
    const proxy = await FaultyProxy.start(services().ports.blob);
    proxies.push(proxy);
    let manifests = 0;
    let event: Promise<void> | undefined;
    let stage: 'before' | 'kept' | 'back' = 'before';
    // Everything that is sent while the index is kept, or while storage is back in time, waits.
    proxy.rule = async (seen): Promise<Fault> => {
      await event;
      if (isManifest(seen)) manifests++;
      if (stage === 'before' && manifests === 2 && isPut(seen)) {
        stage = 'kept';
        await (event = services().keepIndex());
      } else if (stage === 'kept' && manifests >= 5 && isIt(seen)) {
        stage = 'back';
        await (event = services().rollBack());
      }
      return 'pass';
    };
    const owner = new Child(services().environment({ blob: proxy.port }), web.work('--once'));
    const { code } = await owner.ended;
    expect(stage).toBe('back');
    expect(code).toBe(3);
    expect(owner.stderr).toMatch(/error\[OWNERSHIP_LOST\]/);
    await untilDone(web, web.work('--once'));
    await web.requireAllRight();
  },
);

it('an idle owner does not go on from what it remembers', async () => {
  const web = await begin('idle');
  await web.operator.ok(...web.ship('10'));
  const owner = new Child(services().environment(), web.work());
  await vi.waitFor(async () => expect((await web.status()).points).toBe(3), BOUND);
  await services().keepIndex();
  await web.operator.ok(...web.ship('25'));
  // The messages leave last: then nothing of the owner is under way.
  await vi.waitFor(async () => expect(await web.status()).toMatchObject({ points: 7, messagesWaiting: 0 }), BOUND);
  const backAtMs = Date.now();
  await services().rollBack();
  expect((await web.status()).points).toBe(3);
  await web.operator.ok(...web.ship());
  const complete = web.expectedIds().length;
  await vi.waitFor(async () => expect((await web.status()).points).toBe(complete), BOUND);
  owner.kill('SIGTERM');
  expect(await owner.ended).toMatchObject({ code: 0 });
  await web.requireAllRight();

  // Points that were made twice are reported twice, and not under ids that are taken: an outbox counts on from the time in milliseconds.
  await web.operator.ok(...web.work('--once'));
  const messages = await web.operator.jsonLines<Message>('monitor', 'tail', '--no-follow', '--group', web.group);
  const anew = messages.filter(({ id, type }) => type === 'Tidemark.PointCreated' && sequenceOf(id) > backAtMs);
  expect(anew.map(({ data }) => data.point)).toEqual(web.expectedIds().slice(3));
});

it('a segment that vanished behind what is applied stops the group, and the group says why', async () => {
  const web = await begin('vanished');
  await web.operator.ok(...web.ship('12'));
  await web.operator.ok(...web.work('--once'));
  const [disk = ''] = web.disks;
  const names = await web.storage.segments(disk);
  const [vanished = ''] = names.slice(-2); // behind the newest point, before the place that is reached
  await web.storage.logs.getBlobClient(vanished).delete();
  const { exitCode } = await web.operator.run(...web.work('--once'));
  expect(exitCode).toBe(3);
  const { state, disks, points } = await web.status();
  expect({ state, points, defect: disks[0]?.defect?.code }).toEqual({
    state: 'resync-required',
    points: 3,
    defect: 'LOG_SEGMENT_MISSING',
  });
});

it('a lease ends with the life of the storage that granted it', async () => {
  const connection = services().environment()['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '';
  const container = BlobServiceClient.fromConnectionString(connection).getContainerClient('leases');
  await container.create();
  const blob = container.getBlockBlobClient('held');
  await blob.upload('x', 1);
  const lease = blob.getBlobLeaseClient();
  await lease.acquireLease(60);
  await services().restart('azurite', 'SIGTERM');
  await expect(lease.renewLease()).rejects.toMatchObject({ statusCode: 409 });
  await expect(blob.upload('y', 1, { conditions: { leaseId: lease.leaseId } })).rejects.toMatchObject({
    statusCode: 412,
  });
  await blob.upload('z', 1);
});

it.each(['SIGTERM', 'SIGKILL'] as const)(
  'a storage that ends by %s under a running worker and source: nothing is wrong, nothing is silent',
  async (signal) => {
    const web = await begin(`both-${signal.toLowerCase()}`);
    const worker = new Child(services().environment(), web.work());
    const first = new Child(services().environment(), web.ship());
    await vi.waitFor(async () => expect((await web.status()).points).toBeGreaterThan(1), BOUND);
    await services().restart('azurite', signal);
    await first.ended;
    await untilDone(web, web.ship());
    const complete = web.expectedIds().length;
    const codes = (await web.status()).disks.flatMap(({ defect }) => defect?.code ?? []);
    if (signal === 'SIGTERM') expect(codes).toEqual([]);
    await vi.waitFor(async () => {
      const { points, state } = await web.status();
      if (state !== 'resync-required') expect(points).toBe(complete);
    }, BOUND);
    worker.kill('SIGTERM');
    expect(await worker.ended).toMatchObject({ code: 0 });
    if ((await web.status()).state === 'resync-required') expect(signal).toBe('SIGKILL');
    else await web.requireAllRight();
  },
);
