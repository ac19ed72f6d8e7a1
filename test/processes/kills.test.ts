/** The main job while everything around it dies: source, worker, connections, broker. */
import { join } from 'node:path';
import { setTimeout as limit } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { extent, isFullRun } from '../support/extent.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { tracePath } from '../support/trace-oracle.ts';
import { Child } from './child.ts';
import { Protected } from './protected.ts';
import { useServices } from './services.ts';
import { type Chances, TcpProxy } from './tcp-proxy.ts';

const services = useServices();
const SEED = Number(process.env['TIDEMARK_KILLS_SEED'] ?? Date.now() % 2 ** 31);
const CHANCES: Chances = { cut: 0.002, truncate: 0.002, delay: 0.02 };
const SOURCE_KILLS = extent({ quick: 2, full: 3 });
const WORKER_KILLS = extent({ quick: 4, full: 6 });
/** After this one the broker is killed as well. */
const BROKER_KILL = extent({ quick: 2, full: 3 });
/** Many small segments: more moments to die at. */
const SEGMENT_SECONDS = 20;
/** Bound of one life, should the traffic it is to die at never come. */
const LIFE_LIMIT_MS = 20_000;
const MAX_ATTEMPTS = 12;

/** From 0 up to 1; the same seed gives the same row (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const proxies: TcpProxy[] = [];
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.close();
});

async function openProxy(targetPort: number, random: () => number): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(targetPort, random);
  proxy.chances = CHANCES;
  proxies.push(proxy);
  return proxy;
}

interface Message {
  readonly id: string;
  readonly type: string;
  readonly data: { readonly point?: string };
}

it(`kills everything but storage, seed ${SEED}`, async () => {
  const random = randomFrom(SEED);
  const between = (least: number, most: number): number => least + Math.floor(random() * (most - least));
  const dir = isFullRun ? tracePath('t4-two-disks') : await writeSyntheticTrace(join(services().home, 'trace'));
  const web = await Protected.create(services(), 'killed', dir, {
    segmentSeconds: SEGMENT_SECONDS,
  });
  const { blob, broker } = services().ports;
  const [toSource, toWorker, toBroker] = await Promise.all([blob, blob, broker].map((port) => openProxy(port, random)));
  if (toSource === undefined || toWorker === undefined || toBroker === undefined) throw new Error('three proxies');
  const sourceEnvironment = services().environment({ blob: toSource.port });
  const workerEnvironment = services().environment({ blob: toWorker.port, broker: toBroker.port });
  const messages: Message[] = [];
  let killed = 0;
  const readMessages = async (): Promise<void> => {
    messages.push(...(await web.operator.jsonLines<Message>('monitor', 'tail', '--no-follow', '--group', web.group)));
  };

  /** Lives until so many pieces have passed its proxy. */
  const live = async (child: Child, proxy: TcpProxy, pieces: number): Promise<void> => {
    await Promise.race([proxy.traffic(pieces), child.ended, limit(LIFE_LIMIT_MS, undefined, { ref: false })]);
    child.kill('SIGKILL');
    if ((await child.ended).signal === 'SIGKILL') killed++;
  };

  const ship = async (): Promise<void> => {
    for (let kill = 0; kill < SOURCE_KILLS; kill++) {
      await live(new Child(sourceEnvironment, web.ship()), toSource, between(40, 200));
    }
    for (let attempt = 1; ; attempt++) {
      const child = new Child(sourceEnvironment, web.ship());
      if ((await child.ended).code === 0) return;
      if (attempt === MAX_ATTEMPTS) throw new Error(child.stderr);
    }
  };
  const work = async (): Promise<void> => {
    for (let kill = 0; kill < WORKER_KILLS; kill++) {
      await live(new Child(workerEnvironment, web.work()), toWorker, between(60, 500));
      if (kill !== BROKER_KILL) continue;
      await readMessages(); // nobody sends now, so this is all that is lost with the broker
      await services().restart('broker', 'SIGKILL');
    }
  };
  await Promise.all([ship(), work()]);

  expect(killed).toBeGreaterThanOrEqual(WORKER_KILLS); // a source may be done before its time
  expect(proxies.reduce((sum, { faults }) => sum + faults.cut + faults.truncate, 0)).toBeGreaterThan(0);
  for (const proxy of proxies) proxy.chances = undefined;
  await web.operator.ok(...web.work('--once'));
  await readMessages();
  await web.requireAllRight();
  expect(await web.status()).toMatchObject({ state: 'protected', messagesWaiting: 0 });

  // Every fact has one id for ever, on either side of the broker's death.
  const created = new Map(
    messages.filter(({ type }) => type === 'Tidemark.PointCreated').map((one) => [one.id, one.data.point]),
  );
  expect([...created.values()].map(String).sort()).toEqual(web.expectedIds().sort());
}, 150_000);
