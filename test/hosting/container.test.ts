/** The container as its platform sees it: a process, its probes, its log, its end. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it, vi } from 'vitest';
import { type Fault, FaultyProxy } from '../azure/faulty-proxy.ts';
import { Sender } from '../commands/support.ts';
import { Protected } from '../processes/protected.ts';
import { useServices } from '../processes/services.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { ContainerChild } from './container-child.ts';

const services = useServices();
const BOUND = { timeout: 60_000, interval: 50 };
let dir = '';
beforeAll(async () => {
  dir = await writeSyntheticTrace(join(services().home, 'trace'), 1);
});
const proxies: FaultyProxy[] = [];
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.close();
});

const pointsOf = async (web: Protected): Promise<number> => (await web.status()).points;

it('makes points, answers probes and API, and tells a dead queue from a dead process', async () => {
  const web = await Protected.create(services(), 'contained', dir);
  const container = new ContainerChild({ ...services().environment(), TIDEMARK_HOME: services().home });
  const url = await container.url();
  await web.operator.ok(...web.ship('8'));
  await vi.waitFor(async () => expect(await pointsOf(web)).toBeGreaterThan(0), BOUND);

  expect(await container.probe('ready')).toEqual({
    status: 200,
    body: { status: 'ready', dependencies: { storage: { state: 'ok' }, serviceBus: { state: 'ok' } } },
  });
  const live = await container.probe('live');
  expect(live).toMatchObject({ status: 200, body: { status: 'ok' } });
  expect((live.body['loops'] as { loop: string }[]).map(({ loop }) => loop).sort()).toEqual([
    'cache-events',
    'sessions',
    'ticks',
  ]);

  const token = readFileSync(join(services().home, 'api.token'), 'utf8').trim();
  const groups = (headers: Record<string, string>) => fetch(`${url}/v1/groups`, { headers });
  expect((await groups({})).status).toBe(401);
  const answer = await groups({ authorization: `Bearer ${token}` });
  expect([answer.status, await answer.json()]).toMatchObject([200, { items: [{ group: 'contained' }] }]);

  await services().end('broker', 'SIGKILL');
  await vi.waitFor(async () => {
    expect(await container.probe('ready')).toEqual({
      status: 503,
      body: {
        status: 'not-ready',
        dependencies: { storage: { state: 'ok' }, serviceBus: { state: 'failed', code: 'MESSAGING_UNAVAILABLE' } },
      },
    });
  }, BOUND);
  expect(await container.probe('live')).toMatchObject({ status: 200, body: { status: 'ok' } });
  await services().start('broker');
  await vi.waitFor(async () => expect((await container.probe('ready')).status).toBe(200), BOUND);

  container.kill('SIGTERM');
  expect(await container.ended).toBe(0);
  expect(container.lines.at(-1)).toMatchObject({ level: 'info', msg: 'ended' });
  expect(container.lines.some(({ code }) => code === 'MESSAGING_UNAVAILABLE')).toBe(true);
  expect(JSON.stringify(container.lines)).not.toContain(token);
}, 120_000);

it('gives everything back when it is told to end in the middle of a backlog', async () => {
  const web = await Protected.create(services(), 'drained', dir);
  await web.operator.ok(...web.ship());
  const proxy = await FaultyProxy.start(services().ports.blob);
  proxies.push(proxy);
  const signalled = Promise.withResolvers<number>();
  const looked = Promise.withResolvers<void>();
  let points = 0;
  let container: ContainerChild | undefined;
  proxy.rule = async ({ method, url }): Promise<Fault> => {
    if (method === 'PUT' && /\/points\/drained\/.*\.json/.test(url) && ++points === 3) {
      container?.kill('SIGTERM');
      signalled.resolve(performance.now());
      await looked.promise;
    }
    return 'pass';
  };
  container = new ContainerChild({
    ...services().environment({ blob: proxy.port }),
    TIDEMARK_HOME: services().home,
    TIDEMARK_DRAIN_SECONDS: '20',
  });
  const atMs = await signalled.promise;
  const draining = { body: { status: 'draining' } };
  await vi.waitFor(
    async () => expect(await container.probe('ready')).toMatchObject({ status: 503, ...draining }),
    BOUND,
  );
  expect(await container.probe('live')).toMatchObject({ status: 200, ...draining });
  const refused = await fetch(`${await container.url()}/v1/groups`);
  expect([refused.status, await refused.json()]).toMatchObject([503, { code: 'INTERRUPTED' }]);
  looked.resolve();
  expect(await container.ended).toBe(0);
  expect(performance.now() - atMs).toBeLessThan(20_000);

  const made = await pointsOf(web);
  expect(made).toBeGreaterThanOrEqual(3);
  expect(made).toBeLessThan(web.expectedIds().length);
  expect([...new Set(await web.leases())]).toEqual(['available']);
  const sender = new Sender(services().environment()['TIDEMARK_SERVICE_BUS_CONNECTION_STRING'] ?? '');
  expect(await sender.isFree('drained')).toBe(true);
  await sender.close();

  await web.operator.ok(...web.work('--once'));
  await web.requireAllRight();
}, 120_000);

it('ends within its limit when storage never answers', async () => {
  const web = await Protected.create(services(), 'stuck', dir);
  await web.operator.ok(...web.ship('8'));
  const proxy = await FaultyProxy.start(services().ports.blob);
  proxies.push(proxy);
  const hung = Promise.withResolvers<void>();
  let isHanging = false;
  proxy.rule = ({ method, url }): Fault => {
    isHanging ||= method === 'PUT' && url.includes('/stuck/') && url.includes('comp=page');
    if (isHanging) hung.resolve();
    return isHanging ? 'hang' : 'pass';
  };
  const container = new ContainerChild({
    ...services().environment({ blob: proxy.port }),
    TIDEMARK_ROLES: 'worker,scheduler',
    TIDEMARK_DRAIN_SECONDS: '6',
  });
  await hung.promise;
  const atMs = performance.now();
  container.kill('SIGTERM');
  expect(await container.ended).toBe(0);
  expect(performance.now() - atMs).toBeLessThan(6000);
  expect(container.lines.map(({ msg }) => msg).slice(-2)).toEqual([
    'some work was left where it is; whoever takes its session goes on with it',
    'ended',
  ]);
});

it('ends with 1, and says why, when something fails that nobody expects', async () => {
  const reject = 'data:text/javascript,setTimeout(() => Promise.reject(new Error("nobody expects this")), 0)';
  const container = new ContainerChild({ ...services().environment(), TIDEMARK_HOME: services().home }, [
    '--import',
    reject,
  ]);
  const refused = new ContainerChild({ ...services().environment(), TIDEMARK_ROLES: 'worker,cook' });
  expect(await container.ended).toBe(1);
  expect(await refused.ended).toBe(1);
  expect(refused.lines).toMatchObject([{ level: 'fatal', code: 'CONFIG_INVALID' }]);
});
