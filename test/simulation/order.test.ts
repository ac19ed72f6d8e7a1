import { describe, expect, it } from 'vitest';
import { catalogName } from '../../src/model/names.ts';
import type { WorkerPorts } from '../../src/worker/ports.ts';
import { streamsOf } from '../support/model-log.ts';
import { OrderWatch, type Rule } from './order-watch.ts';
import { LONG_SCENARIO } from './scenarios.ts';
import { GROUP, segmentsOf, signal, World } from './world.ts';

type Ports = Pick<WorkerPorts, 'logStore' | 'seeds' | 'copies' | 'catalog' | 'topic'>;
type Breaker = (ports: Ports) => Ports;

const LENGTHS = [3, 1, 0, 7];

/** Drains a log that makes points, prunes some and trims segments; `breaker` sits between the worker's gate and storage. */
async function watch(breaker: Breaker = (ports) => ports, only?: Rule): Promise<OrderWatch> {
  const { streams, endUs } = streamsOf(LONG_SCENARIO, 2);
  const world = await World.create({ diskCount: 2, policy: { retentionHours: 2, appConsistentHours: 1 } });
  await world.shipAll(streams, LENGTHS, endUs);
  const lengths = streams.map((entries) =>
    segmentsOf(entries, LENGTHS, endUs).map((segment) => segment.entries.length),
  );
  const order = new OrderWatch(world, streams, lengths, only);
  await world.worker(order, 64 * 1024 * 1024, breaker).runOnce(signal);
  return order;
}

/** Answers at once and does the work later: at the next call, or never. */
function later(): { put: (work: () => Promise<unknown>) => void; flush: () => Promise<void> } {
  const waiting: (() => Promise<unknown>)[] = [];
  return {
    put: (work) => waiting.push(work),
    flush: async () => {
      for (const work of waiting.splice(0)) await work();
    },
  };
}

function override<T extends object>(target: T, members: Partial<T>): T {
  return new Proxy(target, {
    get(object, key) {
      const member: unknown = Reflect.get(key in members ? members : object, key);
      return typeof member === 'function' ? member.bind(key in members ? members : object) : member;
    },
  });
}

/** Storage that breaks one rule each: it acknowledges a step that it has not done. */
const BREAKERS: Readonly<Record<Rule, Breaker>> = {
  'apply before advance': (ports) => ({
    ...ports,
    seeds: override(ports.seeds, {
      open: async (...args) => override(await ports.seeds.open(...args), { putPages: async () => undefined }),
    }),
  }),
  'cut before pass': (ports) => ({ ...ports, catalog: lateManifests(ports.catalog) }),
  'snapshots before manifest': (ports) => ({
    ...ports,
    seeds: override(ports.seeds, {
      open: async (...args) =>
        override(await ports.seeds.open(...args), { snapshot: async () => '2026-01-01T00:00:00.0000000Z' }),
    }),
  }),
  'manifest before delete': (ports) => ({ ...ports, catalog: lostManifests(ports.catalog) }),
  'unlist before delete': (ports) => ({
    ...ports,
    catalog: override(ports.catalog, {
      delete: async (name, etag, abort) =>
        name.endsWith('.json') ? 'deleted' : ports.catalog.delete(name, etag, abort),
    }),
  }),
  'event after fact': (ports) => ({
    ...ports,
    catalog: override(ports.catalog, {
      replace: async (name, bytes, etag, lease, abort) =>
        name === catalogName.progress(GROUP) ? etag : ports.catalog.replace(name, bytes, etag, lease, abort),
    }),
  }),
};

const isManifest = (name: string): boolean => name.startsWith(catalogName.points(GROUP)) && name.endsWith('.json');

function lateManifests(catalog: Ports['catalog']): Ports['catalog'] {
  const manifests = later();
  let creations = 0;
  return override(catalog, {
    create: async (name, bytes, abort) => {
      if (!isManifest(name)) return catalog.create(name, bytes, abort);
      await manifests.flush();
      if (++creations === 1) return catalog.create(name, bytes, abort);
      manifests.put(() => catalog.create(name, bytes, abort));
      return 'etag';
    },
  });
}

function lostManifests(catalog: Ports['catalog']): Ports['catalog'] {
  return override(catalog, {
    create: async (name, bytes, abort) => (isManifest(name) ? 'etag' : catalog.create(name, bytes, abort)),
  });
}

describe('the order of durable steps', () => {
  it('holds in a run that cuts, prunes and trims, and every rule was looked at', async () => {
    const order = await watch();
    expect(order.broken).toEqual([]);
    for (const rule of Object.keys(BREAKERS) as Rule[]) expect(order.looks.get(rule), rule).toBeGreaterThan(3);
  });

  for (const [rule, breaker] of Object.entries(BREAKERS) as [Rule, Breaker][]) {
    it(`notices when "${rule}" is broken`, async () => {
      const order = await watch(breaker, rule);
      expect(order.broken.map((broken) => broken.rule)).toContain(rule);
    });
  }
});
