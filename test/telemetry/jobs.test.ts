/** Jobs as spans with their steps, and as counts. */
import { context, SpanStatusCode } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import type { Compute } from '../../src/failover/compute.ts';
import { createCommandService } from '../../src/failover/service.ts';
import { createInstruments } from '../../src/telemetry/instruments.ts';
import { tracedCommands } from '../../src/telemetry/traced-commands.ts';
import { BY, COMMANDS, failoverWorld, type FailoverWorld } from '../failover/support.ts';
import { GROUP, live } from '../worker/discard-support.ts';

const contexts = new AsyncLocalStorageContextManager();
beforeAll(() => {
  context.setGlobalContextManager(contexts.enable());
});
afterAll(() => {
  context.disable();
  contexts.disable();
});

async function execute(world: FailoverWorld) {
  const metrics = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const meters = new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter: metrics })] });
  const ended = new InMemorySpanExporter();
  const traces = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter: ended })] });
  const telemetry = { instruments: createInstruments(meters.getMeter('test')), tracer: traces.getTracer('test') };
  const commands = tracedCommands(createCommandService(world.failoverPorts), telemetry);
  const { job } = await commands.submit(COMMANDS.test, BY, live);
  const view = await commands.execute(GROUP, job, {}, live);
  await meters.forceFlush();
  const counted = metrics.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics));
  await meters.shutdown();
  const jobs = counted.find(({ descriptor }) => descriptor.name === 'tidemark.jobs')?.dataPoints;
  const spans = ended.getFinishedSpans();
  const root = spans.find(({ name }) => name === 'tidemark.job');
  return { view, jobs, root, steps: spans.filter(({ name }) => name === 'tidemark.job.step') };
}

it('a job that succeeds is a span with one for each step', async () => {
  const { view, jobs, root, steps } = await execute(await failoverWorld());
  expect(view.state).toBe('succeeded');
  expect(root?.attributes).toEqual({
    group: GROUP,
    job: view.job,
    command: 'test-failover',
    point: view.point,
    state: 'succeeded',
  });
  expect(new Set(steps.map(({ attributes }) => attributes['step']))).toEqual(
    new Set(view.steps.map(({ name }) => name)),
  );
  expect(steps).toHaveLength(view.steps.length);
  for (const step of steps) expect(step.parentSpanContext?.spanId).toBe(root?.spanContext().spanId);
  expect(jobs?.map(({ attributes, value }) => ({ ...attributes, value }))).toEqual([
    { command: 'test-failover', state: 'succeeded', value: 1 },
  ]);
});

it('a job that fails is a span with its error, and so is the step, without secrets', async () => {
  const world = await failoverWorld();
  const refuse = async (): Promise<never> => {
    throw new TidemarkError('COMPUTE_REFUSED', 'import of https://a.test/d.vhd?sig=c2VjcmV0 was refused');
  };
  const compute: Compute = {
    importDisk: refuse,
    uploadDisk: refuse,
    createMachine: (...given) => world.compute.createMachine(...given),
    findDisk: (...given) => world.compute.findDisk(...given),
    findMachine: (...given) => world.compute.findMachine(...given),
    deleteMachine: (...given) => world.compute.deleteMachine(...given),
    deleteDisk: (...given) => world.compute.deleteDisk(...given),
  };
  const refusing = { ...world, failoverPorts: { ...world.failoverPorts, compute } };
  const { view, jobs, root, steps } = await execute(refusing);
  expect(view).toMatchObject({ state: 'failed', error: { code: 'COMPUTE_REFUSED' } });
  expect(root?.status).toMatchObject({
    code: SpanStatusCode.ERROR,
    message: expect.stringContaining('COMPUTE_REFUSED') as string,
  });
  const failed = steps.filter(({ status }) => status.code === SpanStatusCode.ERROR);
  expect(failed.length).toBeGreaterThan(0);
  expect(JSON.stringify([view, root?.status, root?.events, failed.map(({ events }) => events)])).not.toContain(
    'c2VjcmV0',
  );
  expect(jobs?.map(({ attributes }) => attributes)).toEqual([{ command: 'test-failover', state: 'failed' }]);
});
