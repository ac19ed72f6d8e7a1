/** Two owners of one group, and owners that are told to stop in mid-work: real processes, stopped by the kernel where it hurts most. */
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it, vi } from 'vitest';
import { type Fault, FaultyProxy, type SeenRequest } from '../azure/faulty-proxy.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { Child } from './child.ts';
import { Protected } from './protected.ts';
import { useServices } from './services.ts';

const services = useServices();
/** Of the dozen that the trace gives. */
const POINTS_BEFORE = 3;
const BOUND = { timeout: 40_000, interval: 50 };
/** As a service manager has it: what has not ended by then is killed. */
const STOP_LIMIT_MS = 10_000;
let dir = '';
beforeAll(async () => {
  dir = await writeSyntheticTrace(join(services().home, 'trace'));
});
const proxies: FaultyProxy[] = [];
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.close();
});

async function openProxy(): Promise<FaultyProxy> {
  const proxy = await FaultyProxy.start(services().ports.blob);
  proxies.push(proxy);
  return proxy;
}

const isPut = ({ method, url }: SeenRequest): boolean => method === 'PUT' && url.includes('.vhd?comp=page');
const isManifest = ({ method, url }: SeenRequest): boolean => method === 'PUT' && /\/points\/.*\.json/.test(url);
const isSnapshot = ({ method, url }: SeenRequest): boolean => method === 'PUT' && url.includes('comp=snapshot');

/** Resolves at the first such request behind a few points; what `then` gives becomes of it and of all later ones. */
function stopAt(proxy: FaultyProxy, matches: (seen: SeenRequest) => boolean, then: () => Promise<Fault>) {
  let points = 0;
  let stopped: Promise<Fault> | undefined;
  return new Promise<void>((resolve) => {
    proxy.rule = async (seen) => {
      if (isManifest(seen)) points++;
      if (stopped === undefined && points >= POINTS_BEFORE && matches(seen)) {
        stopped = then();
        resolve();
      }
      return stopped ?? 'pass';
    };
  });
}

/** A group with the whole trace in the cache, and a worker of it that a proxy stands before. */
async function begin(group: string, ...more: string[]) {
  const web = await Protected.create(services(), group, dir);
  await web.operator.ok(...web.ship());
  const proxy = await openProxy();
  const worker = new Child(services().environment({ blob: proxy.port }), web.work(...more));
  return { web, proxy, worker };
}

const refusalsSeenBy = (proxy: FaultyProxy): string[] => {
  const codes: string[] = [];
  proxy.beforeAnswer = (_, headers) => void codes.push(String(headers['x-ms-error-code'] ?? 'done'));
  return codes;
};

const MOMENTS = [
  ['put', 'writing pages', isPut],
  ['snapshot', 'taking a snapshot', isSnapshot],
] as const;

it.each(MOMENTS)('keeps out an owner that was frozen at a %s: %s', async (name, _, matches) => {
  const { web, proxy, worker: frozen } = await begin(`frozen-${name}`);
  const { promise: thawed, resolve: thaw } = Promise.withResolvers<Fault>();
  await stopAt(proxy, matches, () => {
    frozen.kill('SIGSTOP');
    return thawed;
  });
  const complete = web.expectedIds().length;
  const { state, points } = await web.status();
  expect(state).toBe('protected');
  expect(points).toBeGreaterThan(0);
  expect(points).toBeLessThan(complete);

  const next = new Child(services().environment(), web.work());
  await vi.waitFor(async () => expect((await web.status()).points).toBe(complete), BOUND);
  await web.requireAllRight();
  // The last thing that it does: a note in the manifest of each app-consistent point that it was looked at.
  await vi.waitFor(async () => expect(await web.uninspected()).toEqual([]), BOUND);
  const before = await web.footprint();

  // What was on its way arrives first, then the owner itself comes back.
  const refusals = refusalsSeenBy(proxy);
  thaw('pass');
  await vi.waitFor(() => expect(refusals).toContain('LeaseIdMismatchWithBlobOperation'), BOUND);
  expect(await web.footprint()).toEqual(before);
  next.kill('SIGTERM');
  expect(await next.ended).toEqual({ code: 0, signal: null });
  frozen.kill('SIGCONT');
  await frozen.says(new RegExp(`group ${web.group}: error\\[OWNERSHIP_LOST\\]`));

  // It may own the group again, as any worker may, and finds nothing to do.
  await vi.waitFor(async () => expect(await web.leases()).toEqual(['leased', 'leased', 'leased']), BOUND);
  frozen.kill('SIGTERM');
  expect(await frozen.ended).toEqual({ code: 0, signal: null });
  expect(await web.footprint()).toEqual(before);
});

it('ends an owner that drains once and was overtaken, with an error of its own', async () => {
  const { web, proxy, worker: frozen } = await begin('once', '--once');
  const { promise: thawed, resolve: thaw } = Promise.withResolvers<Fault>();
  await stopAt(proxy, isPut, () => {
    frozen.kill('SIGSTOP');
    return thawed;
  });
  await web.operator.ok(...web.work('--once'));
  const before = await web.footprint();
  const refusals = refusalsSeenBy(proxy);
  thaw('pass');
  frozen.kill('SIGCONT');
  expect(await frozen.ended).toEqual({ code: 3, signal: null });
  expect(frozen.stderr).toMatch(/^group once: error\[OWNERSHIP_LOST\]: .+\nhint: .+$/m);
  expect(refusals).toContainEqual(expect.stringMatching(/^Lease/));
  expect(await web.footprint()).toEqual(before);
  await web.requireAllRight();
});

it.each(['SIGTERM', 'SIGINT'] as const)(
  'ends within ten seconds of %s, and leaves nothing half-done',
  async (signal) => {
    const { web, proxy, worker } = await begin(signal.toLowerCase());
    let fromMs = 0;
    await stopAt(proxy, isPut, async () => {
      fromMs = performance.now();
      worker.kill(signal);
      return 'pass';
    });
    expect(await worker.ended).toEqual({ code: 0, signal: null });
    expect(performance.now() - fromMs).toBeLessThan(STOP_LIMIT_MS);
    expect(worker.stderr).not.toContain('error[');
    expect(await web.leases()).toEqual(['available', 'available', 'available']);
    expect((await web.status()).points).toBeLessThan(web.expectedIds().length);
    await web.operator.ok(...web.work('--once'));
    await web.requireAllRight();
  },
);

it('ends within ten seconds of SIGTERM also when storage no longer answers', async () => {
  const { web, proxy, worker } = await begin('hanging');
  let fromMs = 0;
  await stopAt(proxy, isPut, async () => {
    fromMs = performance.now();
    worker.kill('SIGTERM');
    return 'hang';
  });
  expect(await worker.ended).toEqual({ code: 0, signal: null });
  expect(performance.now() - fromMs).toBeLessThan(STOP_LIMIT_MS);
  await web.operator.ok(...web.work('--once'));
  await web.requireAllRight();
});
