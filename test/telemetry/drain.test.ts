/** A drain on Azurite behind a counting proxy: what was counted here, what the proxy saw, and what is exported are the same. */
import { context, type Attributes } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider, type ReadableSpan } from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../src/azure/connect.ts';
import { storageOperation } from '../../src/azure/storage-operation.ts';
import { MIB } from '../../src/model/sizes.ts';
import type { MonitoringEvent } from '../../src/monitoring/events.ts';
import { observers } from '../../src/telemetry/adapter-observer.ts';
import { adapterMetrics, createInstruments } from '../../src/telemetry/instruments.ts';
import { createLog } from '../../src/telemetry/log.ts';
import { temporalityOf } from '../../src/telemetry/otlp.ts';
import { METRICS, type MetricName } from '../../src/telemetry/metrics.ts';
import { createRequestTally, type RequestCounts } from '../../src/telemetry/request-tally.ts';
import { tracedCatalog, tracedSeeds } from '../../src/telemetry/traced-ports.ts';
import { observeWorker } from '../../src/telemetry/worker-observer.ts';
import type { DrainCounters } from '../../src/worker/disk-drain.ts';
import { Worker } from '../../src/worker/worker.ts';
import { useAccounts } from '../azure/accounts.ts';
import { FaultyProxy, type SeenRequest } from '../azure/faulty-proxy.ts';
import { GROUP, live, MINUTE_US, newWorld, protect, ship, START_US, type World } from '../worker/discard-support.ts';

const accounts = useAccounts();
const contexts = new AsyncLocalStorageContextManager();
let proxy: FaultyProxy;
let requests: RequestCounts;
let counters: DrainCounters;
let events: MonitoringEvent[];
let spans: readonly ReadableSpan[];
/** By name, then by attributes as JSON: the value, or the number of measurements of a histogram. */
let exported: Map<string, Map<string, number>>;
const lines: Record<string, unknown>[] = [];

/** A worker's clock: twelve minutes after the log began. */
const NOW_US = START_US + 12 * MINUTE_US;

beforeAll(async () => {
  context.setGlobalContextManager(contexts.enable());
  proxy = await FaultyProxy.start(accounts().port);
  const past = connect({
    cache: accounts().access('cache'),
    replica: accounts().access('replica'),
  });
  const world = await newWorld(past);
  await protect(world, ['disk0', 'disk1'], 2 * MIB);
  await ship(world, { startUs: START_US, seed: 1 });
  await drainObserved(world);
  past.close();
});
afterAll(async () => {
  await proxy.close();
  context.disable();
  contexts.disable();
});

async function drainObserved(world: World): Promise<void> {
  const metrics = Object.assign(new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE), {
    selectAggregationTemporality: temporalityOf,
  });
  const reader = new PeriodicExportingMetricReader({ exporter: metrics, exportIntervalMillis: 3_600_000 });
  const meters = new MeterProvider({ readers: [reader] });
  const ended = new InMemorySpanExporter();
  const traces = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter: ended })] });
  const telemetry = { instruments: createInstruments(meters.getMeter('test')), tracer: traces.getTracer('test') };
  const tally = createRequestTally();
  const storage = connect({
    cache: { connectionString: accounts().connectionString('cache', proxy.port) },
    replica: { connectionString: accounts().connectionString('replica', proxy.port) },
    observer: observers(tally, adapterMetrics(telemetry.instruments)),
  });
  let nowMs = 0;
  const clock = { ...world.ports.clock, nowUs: () => NOW_US, nowMs: () => nowMs };
  const ports = {
    ...world.ports,
    ...storage,
    catalog: tracedCatalog(storage.catalog, telemetry),
    seeds: tracedSeeds(storage.seeds, telemetry),
    clock,
  };
  const log = createLog({
    level: 'info',
    stream: { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  });
  const observer = observeWorker({ telemetry, clock, log });
  events = [];
  proxy.inject(({ method }) => method === 'GET', { status: 503, headers: { 'retry-after': '0' } });
  const worker = new Worker({
    ports,
    settings: {
      payloadBudgetBytes: 64 * MIB,
      requestsPerDisk: 4,
      requestsPerAccount: 8,
      rate: undefined,
      key: undefined,
    },
    groups: [GROUP],
    report: observer.report,
    onEvents: (group, some) => {
      observer.onEvents(group, some);
      events.push(...some);
    },
    openSession: observer.openSession,
  });
  observer.watch(worker.counters);
  expect(await worker.runOnce(live)).toEqual([{ group: GROUP, needsResync: false }]);
  nowMs = 2000;
  await meters.forceFlush();
  exported = readExported(metrics);
  requests = tally.snapshot();
  counters = { ...worker.counters };
  spans = ended.getFinishedSpans();
  nowMs += 5 * 60_000 + 1;
  metrics.reset();
  await meters.forceFlush();
  later = readExported(metrics);
  observer.stop();
  storage.close();
  await meters.shutdown();
}
let later: typeof exported;

function readExported(exporter: InMemoryMetricExporter): typeof exported {
  const found = new Map<string, Map<string, number>>();
  for (const { descriptor, dataPoints } of exporter
    .getMetrics()
    .flatMap((all) => all.scopeMetrics.flatMap((scope) => scope.metrics))) {
    const values = dataPoints.map(({ attributes, value }): [string, number] => [
      keyOf(attributes),
      typeof value === 'number' ? value : (value as { readonly count: number }).count,
    ]);
    found.set(descriptor.name, new Map(values));
  }
  return found;
}

const keyOf = (attributes: Attributes): string =>
  JSON.stringify(Object.fromEntries(Object.entries(attributes).toSorted(([a], [b]) => (a < b ? -1 : 1))));
const value = (name: MetricName, attributes: Attributes = {}): number | undefined =>
  exported.get(name)?.get(keyOf(attributes));
const total = (name: MetricName): number =>
  [...(exported.get(name)?.values() ?? [])].reduce((sum, each) => sum + each, 0);

const seenKind = ({ method, url, headers }: SeenRequest): string =>
  storageOperation({
    method,
    url,
    header: (name) => (headers[name] === undefined ? undefined : String(headers[name])),
  });
const ofAccount =
  (account: 'cache' | 'replica') =>
  ({ url }: SeenRequest): boolean =>
    url.startsWith(new URL(/BlobEndpoint=([^;]+)/.exec(accounts().connectionString(account))?.[1] ?? '').pathname);

describe('requests', () => {
  it.each(['cache', 'replica'] as const)('to the %s account are those that went over the wire, by kind', (account) => {
    const seen: Record<string, number> = {};
    for (const kind of proxy.seen.filter(ofAccount(account)).map(seenKind)) seen[kind] = (seen[kind] ?? 0) + 1;
    expect(requests.storage[account]).toEqual(seen);
    expect(Object.keys(seen)).not.toContain('Other');
  });

  it('are those that the drain says it has sent', () => {
    const { PutPage = 0, ClearPages = 0, SnapshotBlob } = requests.storage.replica;
    expect(PutPage).toBe(counters.putRequests + 2); // and a footer for each disk
    expect(ClearPages).toBe(counters.clearRequests);
    expect(SnapshotBlob).toBe(6); // three points of two disks
    expect(proxy.seen.filter(({ url }) => url.includes('comp=snapshot'))).toHaveLength(6);
  });

  it('are exported with their account, kind and status', () => {
    const all = { ...requests.storage.cache };
    for (const [kind, count] of Object.entries(requests.storage.replica)) all[kind] = (all[kind] ?? 0) + count;
    expect(total('tidemark.storage.requests')).toBe(Object.values(all).reduce((sum, count) => sum + count, 0));
    expect(total('tidemark.storage.requests')).toBe(proxy.seen.length);
    expect(value('tidemark.storage.requests', { account: 'replica', operation: 'SnapshotBlob', status: '2xx' })).toBe(
      6,
    );
    expect(value('tidemark.storage.request.duration', { account: 'replica', operation: 'SnapshotBlob' })).toBe(6);
  });

  it('that were refused for now are counted as that', () => {
    expect(Object.values(requests.throttled)).toEqual([1]);
    expect(total('tidemark.throttles')).toBe(1);
    expect(total('tidemark.throttle.pause')).toBe(1);
  });

  it('for leases are told apart by what came of them', () => {
    expect(requests.leases).toMatchObject({ taken: 3, released: 3 });
    expect(value('tidemark.leases', { account: 'replica', container: 'seed-disks', event: 'taken' })).toBe(2);
    expect(value('tidemark.leases', { account: 'replica', container: 'catalog', event: 'released' })).toBe(1);
    const renewed = proxy.seen.filter(({ headers }) => headers['x-ms-lease-action'] === 'renew').length;
    expect(requests.leases.renewed).toBe(renewed);
  });
});

describe('figures of the group', () => {
  it('are those of its last report', () => {
    const lag = events.findLast((event) => event.type === 'LagReported')?.data;
    expect(lag?.receivedRpoSeconds).toBe(60); // the log ends eleven minutes after its begin
    expect(value('tidemark.rpo.received', { group: GROUP })).toBe(60);
    expect(value('tidemark.rpo.recoverable', { group: GROUP })).toBe(120);
    expect(value('tidemark.backlog.size', { group: GROUP })).toBe(lag?.backlogBytes);
    expect(value('tidemark.disk.lag', { group: GROUP, machine: 'web', disk: 'disk1' })).toBe(60);
    expect(value('tidemark.disk.backlog', { group: GROUP, machine: 'web', disk: 'disk0' })).toBe(0);
  });

  it('are dropped when no report has come for five minutes', () => {
    expect(later.get('tidemark.rpo.received')?.size ?? 0).toBe(0);
    expect(later.get('tidemark.points.created')?.size).toBeGreaterThan(0);
  });

  it('count its points, events and cycles', () => {
    expect(value('tidemark.points.created', { group: GROUP, kind: 'crash' })).toBe(3);
    expect(total('tidemark.events')).toBe(events.length);
    expect(value('tidemark.events', { group: GROUP, event: 'PointCreated', severity: 'info' })).toBe(3);
    expect(value('tidemark.cycle.duration', { group: GROUP })).toBe(1);
    expect(total('tidemark.cycle.errors')).toBe(0);
  });

  it('say what was applied', () => {
    expect(value('tidemark.apply.log')).toBe(counters.logBytes);
    expect(value('tidemark.apply.payload')).toBe(counters.payloadBytes);
    expect(value('tidemark.apply.throughput')).toBe(counters.payloadBytes / 2); // in two seconds
    expect(value('tidemark.apply.requests', { operation: 'put' })).toBe(counters.putRequests);
    expect(counters.payloadBytes).toBeGreaterThan(0);
  });

  it('have the attributes that the catalogue of metrics names', () => {
    expect([...exported.keys()].every((name) => name in METRICS)).toBe(true);
    for (const [name, points] of exported) {
      for (const key of points.keys()) {
        expect(Object.keys(JSON.parse(key) as object).toSorted(), name).toEqual(
          [...METRICS[name as MetricName].attributes].toSorted(),
        );
      }
    }
  });
});

describe('spans', () => {
  const named = (name: string) => spans.filter((span) => span.name === name);

  it('tell of the opening and the cycle, with the points in it', () => {
    const [cycle, ...others] = named('tidemark.group.cycle');
    expect(others).toEqual([]);
    expect(named('tidemark.group.open')).toHaveLength(1);
    expect(cycle?.attributes).toEqual({ group: GROUP });
    expect(cycle?.events.filter(({ name }) => name === 'PointCreated')).toHaveLength(3);
    expect(cycle?.events.find(({ name }) => name === 'PointCreated')?.attributes).toMatchObject({ kind: 'crash' });
  });

  it('tell of each snapshot and each manifest, as children of the cycle', () => {
    const cycleId = named('tidemark.group.cycle')[0]?.spanContext().spanId;
    const commits = named('tidemark.point.commit');
    expect(commits.map(({ attributes }) => attributes['cut'])).toEqual([
      '20261123T040000.000000Z',
      '20261123T040500.000000Z',
      '20261123T041000.000000Z',
    ]);
    const snapshots = named('tidemark.snapshot');
    expect(snapshots).toHaveLength(6);
    expect(snapshots[0]?.attributes).toMatchObject({ group: GROUP, cut: '20261123T040000.000000Z' });
    for (const span of [...commits, ...snapshots]) expect(span.parentSpanContext?.spanId).toBe(cycleId);
  });
});

describe('log lines', () => {
  it('are one for each event, with the fields that alerts look for', () => {
    expect(lines.map(({ event }) => event)).toEqual(events.map(({ type }) => type));
    expect(lines.find(({ event }) => event === 'PointCreated')).toMatchObject({
      level: 'info',
      group: GROUP,
      severity: 'info',
      point: '20261123T040000.000000Z-crash',
      cut: '2026-11-23T04:00:00.000000Z',
      data: { kind: 'crash', disksCount: 2 },
    });
    for (const line of lines) expect(line['time']).toMatch(/^\d{4}-\d{2}-\d{2}T.*Z$/);
  });
});
