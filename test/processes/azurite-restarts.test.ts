/**
 * Azurite is stopped and started under a worker and a source. Stopped in order it loses nothing; killed it is back at an earlier
 * moment, and whatever was made since has to be made again, or somebody has to say why not.
 */
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it, vi } from 'vitest';
import { BlobServiceClient } from '@azure/storage-blob';
import { type Fault, FaultyProxy, type SeenRequest } from '../azure/faulty-proxy.ts';
import { extent } from '../support/extent.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { Child } from './child.ts';
import { Protected } from './protected.ts';
import { useServices } from './services.ts';

const services = useServices();
/** Each look is a command with requests of its own: more of them only keep those busy who are waited for. */
const BOUND = { timeout: 40_000, interval: 250 };
/** Gives nine points: six at boundaries, three at marks. */
const UNTIL_SECONDS = 30;
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

const begin = (group: string): Promise<Protected> =>
  Protected.create(services(), group, dir, { untilSeconds: UNTIL_SECONDS });

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

type Matches = (seen: SeenRequest) => boolean;
/** The request of an owner that is its first one in storage's next life: one with a lease, and one without. */
const FIRST_REQUESTS: readonly (readonly [string, Matches])[] = [
  ['page', isPut],
  ['manifest', isManifest],
  ...extent<readonly (readonly [string, Matches])[]>({
    quick: [],
    full: [
      ['changes', isChanges],
      ['progress', isProgress],
    ],
  }),
];

/** An owner in mid-work whose requests are held back twice: all from the first one that matches, until it is let go. */
class HeldOwner {
  readonly web: Protected;
  readonly child: Child;
  readonly #stops: readonly { readonly manifests: number; readonly matches: Matches }[];
  readonly #reached = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  readonly #letGo = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  #stop = 0;
  #manifests = 0;
  #held: Promise<void> | undefined;

  private constructor(web: Protected, proxy: FaultyProxy, matches: Matches) {
    this.web = web;
    this.#stops = [
      { manifests: 2, matches: isPut },
      { manifests: 5, matches },
    ];
    proxy.rule = async (seen): Promise<Fault> => {
      await this.#held;
      if (isManifest(seen)) this.#manifests++;
      const stop = this.#stops[this.#stop];
      if (stop !== undefined && this.#manifests >= stop.manifests && stop.matches(seen)) {
        this.#held = this.#letGo[this.#stop]?.promise;
        this.#reached[this.#stop++]?.resolve();
        await this.#held;
      }
      return 'pass';
    };
    this.child = new Child(services().environment({ blob: proxy.port }), web.work('--once'));
  }

  static async start(first: string, matches: Matches): Promise<HeldOwner> {
    const web = await begin(`first-${first}`);
    await web.operator.ok(...web.ship());
    const proxy = await FaultyProxy.start(services().ports.blob);
    proxies.push(proxy);
    return new HeldOwner(web, proxy, matches);
  }

  /** Until it is held for the first (0) or the second time (1). @throws Error when it ends before */
  async reached(stop: 0 | 1): Promise<void> {
    const ended = this.child.ended.then(({ code }) => {
      throw new Error(`${this.web.group} ended with ${code} before stop ${stop}: ${this.child.stderr}`);
    });
    await Promise.race([this.#reached[stop]?.promise, ended]);
  }

  letGo(stop: 0 | 1): void {
    this.#letGo[stop]?.resolve();
  }
}

/** Storage is back where the group had three points: the owner that remembers more makes all again, and reports it again. */
async function requireAnew(web: Protected, owner: Child, backAtMs: number): Promise<void> {
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
}

// One saving of the index and one death of storage for all of them: each group is a case of its own.
it('a killed storage is back at an earlier moment: an owner at work is refused, an idle one reads again, all points are made right', async () => {
  const idle = await begin('idle');
  await idle.operator.ok(...idle.ship('10'));
  const idleOwner = new Child(services().environment(), idle.work());
  const owners = await Promise.all(FIRST_REQUESTS.map((first) => HeldOwner.start(...first)));
  await Promise.all(owners.map((owner) => owner.reached(0)));
  await vi.waitFor(async () => expect((await idle.status()).points).toBe(3), BOUND);

  // Everything that is sent while the index is kept, or while storage is back in time, waits.
  await services().keepIndex();
  for (const owner of owners) owner.letGo(0);
  await idle.operator.ok(...idle.ship('25'));
  // The messages leave last: then nothing of the owner is under way.
  await vi.waitFor(async () => expect(await idle.status()).toMatchObject({ points: 7, messagesWaiting: 0 }), BOUND);
  await Promise.all(owners.map((owner) => owner.reached(1)));
  const backAtMs = Date.now();
  await services().rollBack();
  expect((await idle.status()).points).toBe(3);
  for (const owner of owners) owner.letGo(1);

  for (const { web, child } of owners) {
    expect(await child.ended).toMatchObject({ code: 3 });
    expect(child.stderr).toMatch(/error\[OWNERSHIP_LOST\]/);
    await untilDone(web, web.work('--once'));
    await web.requireAllRight();
  }
  await requireAnew(idle, idleOwner, backAtMs);
}, 120_000);

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

/** A lease on a blob that nobody else knows. @returns what must be true of it when storage has a new life */
async function takeLease(name: string): Promise<() => Promise<void>> {
  const connection = services().environment()['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '';
  const container = BlobServiceClient.fromConnectionString(connection).getContainerClient('leases');
  await container.createIfNotExists();
  const blob = container.getBlockBlobClient(name);
  await blob.upload('x', 1);
  const lease = blob.getBlobLeaseClient();
  await lease.acquireLease(60);
  return async () => {
    await expect(lease.renewLease()).rejects.toMatchObject({ statusCode: 409 });
    const conditions = { leaseId: lease.leaseId };
    await expect(blob.upload('y', 1, { conditions })).rejects.toMatchObject({ statusCode: 412 });
    await blob.upload('z', 1);
  };
}

it.each(['SIGTERM', 'SIGKILL'] as const)(
  'a storage that ends by %s under a running worker and source: no lease lives on, nothing is wrong, nothing is silent',
  async (signal) => {
    const web = await begin(`both-${signal.toLowerCase()}`);
    const requireLeaseEnded = await takeLease(signal);
    // A kill may take all that was made since the last saving: of the group, but not the group itself.
    if (signal === 'SIGKILL') await services().untilSaved();
    const worker = new Child(services().environment(), web.work());
    const first = new Child(services().environment(), web.ship());
    await vi.waitFor(async () => expect((await web.status()).points).toBeGreaterThan(1), BOUND);
    await services().restart('azurite', signal);
    await requireLeaseEnded();
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
