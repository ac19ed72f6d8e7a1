/** Two owners of one group, and owners that are told to stop in mid-work: real processes, stopped by the kernel where it hurts most. */
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it, vi } from 'vitest';
import { type Fault, FaultyProxy, type SeenRequest } from '../azure/faulty-proxy.ts';
import { extent } from '../support/extent.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { Child } from './child.ts';
import { Protected } from './protected.ts';
import { useServices } from './services.ts';

const services = useServices();
/** Gives seven points. */
const UNTIL_SECONDS = 25;
const POINTS_BEFORE = 3;
/** Each look is a command with requests of its own: more of them only keep those busy who are waited for. */
const BOUND = { timeout: 40_000, interval: 250 };
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

/** A group with all of its log in the cache, and a worker of it that a proxy stands before. */
async function begin(group: string, ...more: string[]) {
  const web = await Protected.create(services(), group, dir, { untilSeconds: UNTIL_SECONDS });
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

const PUT = ['put', 'writing pages', isPut] as const;
const SNAPSHOT = ['snapshot', 'taking a snapshot', isSnapshot] as const;
/** A quick run freezes one owner at each moment: the one that runs on at a put, the one that drains once at a snapshot. */
const RUN_MOMENTS = extent({ quick: [PUT], full: [PUT, SNAPSHOT] });
const ONCE_MOMENTS = extent({ quick: [SNAPSHOT], full: [PUT, SNAPSHOT] });

it.each(RUN_MOMENTS)('keeps out an owner that was frozen at a %s: %s', async (name, _, matches) => {
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

/** A quick run has each signal once. */
const SIGNALS_AT_WORK = extent<NodeJS.Signals[]>({ quick: ['SIGTERM'], full: ['SIGTERM', 'SIGINT'] });
const SIGNALS_WHEN_HANGING = extent<NodeJS.Signals[]>({ quick: ['SIGINT'], full: ['SIGTERM', 'SIGINT'] });

it.each(ONCE_MOMENTS)('ends an owner that drains once and was overtaken at a %s: %s', async (name, _, matches) => {
  const { web, proxy, worker: frozen } = await begin(`once-${name}`, '--once');
  const { promise: thawed, resolve: thaw } = Promise.withResolvers<Fault>();
  await stopAt(proxy, matches, () => {
    frozen.kill('SIGSTOP');
    return thawed;
  });
  await web.operator.ok(...web.work('--once'));
  const before = await web.footprint();
  const refusals = refusalsSeenBy(proxy);
  thaw('pass');
  frozen.kill('SIGCONT');
  expect(await frozen.ended).toEqual({ code: 3, signal: null });
  expect(frozen.stderr).toMatch(new RegExp(`^group once-${name}: error\\[OWNERSHIP_LOST\\]: .+\nhint: .+$`, 'm'));
  expect(refusals).toContainEqual(expect.stringMatching(/^Lease/));
  expect(await web.footprint()).toEqual(before);
  await web.requireAllRight();
});

it.each(SIGNALS_AT_WORK)('ends within ten seconds of %s, and leaves nothing half-done', async (signal) => {
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
});

it.each(SIGNALS_WHEN_HANGING)('ends within ten seconds of %s also when storage no longer answers', async (signal) => {
  const { web, proxy, worker } = await begin(`hanging-${signal.toLowerCase()}`);
  let fromMs = 0;
  await stopAt(proxy, isPut, async () => {
    fromMs = performance.now();
    worker.kill(signal);
    return 'hang';
  });
  expect(await worker.ended).toEqual({ code: 0, signal: null });
  expect(performance.now() - fromMs).toBeLessThan(STOP_LIMIT_MS);
  await web.operator.ok(...web.work('--once'));
  await web.requireAllRight();
});
