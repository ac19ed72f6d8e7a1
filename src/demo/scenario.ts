/** The main job on one trace: protect a machine, replicate it while a worker drains, verify every point, and look at the rest. */
import { readDocument } from '../catalog/documents.ts';
import { listGroups, protectGroup } from '../catalog/groups.ts';
import { setPolicy } from '../catalog/policies.ts';
import { parseConfiguration } from '../config.ts';
import { createLogKey } from '../log/seal.ts';
import { catalogName, type LogStream } from '../model/names.ts';
import { FIVE_MINUTES_US, HOUR_US } from '../model/time.ts';
import { groupOf, readCloudEvent } from '../monitoring/cloud-event.ts';
import { listPoints } from '../points/point-store.ts';
import { pointFact, pointId } from '../points/manifest.ts';
import { planPrune, type PointFact, type PrunePlan } from '../retention/plan.ts';
import { POLICY_DEFAULTS, type Policy } from '../retention/policy.ts';
import { openRuntime, type Runtime } from '../runtime.ts';
import { shipTrace, type ShipResult } from '../source/ship.ts';
import { openTraceFolder } from '../source/trace-folder.ts';
import { progressSchema } from '../worker/progress.ts';
import { type ExpectedPoint, PlainReplay } from './plain-replay.ts';
import { type VerifiedPoint, verifyPoints } from './verify.ts';
import { startWorker } from './worker-child.ts';
import type { WorkerFigures } from './worker-process.ts';

/** What the demo calls its group, its policy, its machine and its disk. */
const NAME = 'demo';
const MACHINE = 'database';
const DISK = 'disk0';
const POLICY: Policy = POLICY_DEFAULTS;
/** The trace is stretched to about this much source time: enough for several five-minute points. */
const SOURCE_TIME_US = 45 * 60 * 1_000_000;
/** Source time of a segment at the most. The trace runs many times faster than its source did, so it closes them later than a source would. */
const SEGMENT_AGE_US = 30_000_000;
/** How far ahead the second pruning plan looks: beyond the two hours in which every point stays. */
export const PLAN_AHEAD_HOURS = 3;
const WATCH_MS = 200;

/** In the order in which they are shown. */
const STAGES = ['ship', 'drain', 'points', 'verify'] as const;
export type DemoStage = (typeof STAGES)[number];

export interface ScenarioOptions {
  readonly traceFolder: string;
  /** Points at the stack; settings of the worker are taken from it, too. */
  readonly environment: Readonly<Record<string, string>>;
  readonly onProgress: (stage: DemoStage, done: number, total: number, note?: string) => void;
  readonly signal: AbortSignal;
}

export interface DemoResult {
  readonly group: string;
  readonly policy: Policy;
  readonly startUs: number;
  readonly finalUs: number;
  readonly stretch: number;
  readonly points: readonly VerifiedPoint[];
  /** What pruning does now, and to the same points once the source has gone on for {@link PLAN_AHEAD_HOURS}. */
  readonly prune: { readonly now: PrunePlan; readonly later: PrunePlan };
  /** Monitoring messages by type, in the order in which the types came first. */
  readonly messages: Readonly<Record<string, number>>;
  readonly shipped: { readonly segments: number; readonly records: number };
  readonly worker: WorkerFigures;
  readonly verifyMs: number;
}

/**
 * The result also holds points that are not what they must be; the caller looks.
 * @throws TidemarkError DEMO_TRACE_INVALID, DEMO_WORKER_FAILED, DEMO_POINTS_INCOMPLETE, and what the stages throw
 */
export async function runScenario(options: ScenarioOptions): Promise<DemoResult> {
  const { traceFolder, environment, onProgress, signal } = options;
  for (const stage of STAGES) onProgress(stage, 0, 1);
  const replay = await PlainReplay.load(traceFolder);
  signal.throwIfAborted();
  const stretch = Math.max(1, Math.floor(SOURCE_TIME_US / Math.max(1, replay.endUs)));
  const runtime = openRuntime(parseConfiguration(environment));
  try {
    const { ports } = runtime;
    const stream = await protect(runtime, replay.image.length, signal);
    const startUs = ports.clock.nowUs() - replay.endUs * stretch;
    const expected = replay.expectedPoints(startUs, stretch);
    const replicated = await replicate({ ...options, runtime, stream, replay, expected, startUs, stretch });
    const manifests = await listPoints(ports.catalog, stream.group, signal);
    const fromMs = ports.clock.nowMs();
    const points = await verifyPoints({
      manifests,
      expected,
      replay,
      seed: ports.seeds.reader(stream),
      onProgress: (done, total) => onProgress('verify', done, total, `${done} of ${total}`),
      signal,
    });
    const verifyMs = ports.clock.nowMs() - fromMs;
    return {
      group: stream.group,
      policy: POLICY,
      stretch,
      points,
      prune: prunePlans(manifests.map(pointFact), POLICY, ports.clock.nowUs()),
      messages: await countMessages(runtime, stream.group, signal),
      verifyMs,
      ...replicated,
    };
  } finally {
    await runtime.close();
  }
}

/** Protects a new group: `demo`, or `demo-2`, `demo-3` … where earlier demos were kept. */
async function protect({ ports }: Runtime, sizeBytes: number, signal: AbortSignal): Promise<LogStream> {
  const { catalog, clock } = ports;
  await setPolicy(catalog, NAME, POLICY, signal);
  const taken = await listGroups(catalog, signal);
  let group = NAME;
  for (let number = 2; taken.includes(group); number++) group = `${NAME}-${number}`;
  const machines = [{ machine: MACHINE, disks: [{ disk: DISK, sizeBytes }] }];
  await protectGroup(catalog, { group, policy: NAME, machines, nowUs: clock.nowUs() }, signal);
  return { group, machine: MACHINE, disk: DISK, epoch: 1 };
}

interface ReplicateOptions extends ScenarioOptions {
  readonly runtime: Runtime;
  readonly stream: LogStream;
  readonly replay: PlainReplay;
  readonly expected: readonly ExpectedPoint[];
  readonly startUs: number;
  readonly stretch: number;
}

/** Ships the trace while a worker process drains it. The first failure of either ends both. */
async function replicate(
  options: ReplicateOptions,
): Promise<Pick<DemoResult, 'startUs' | 'finalUs' | 'shipped' | 'worker'>> {
  const { stream, environment, onProgress, expected } = options;
  const failed = new AbortController();
  const done = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const worker = startWorker(stream.group, environment);
  worker.figures.catch((error: unknown) => failed.abort(error));
  signal.addEventListener('abort', () => void worker.stop());
  const watching = watch({ ...options, signal: AbortSignal.any([signal, done.signal]) }).catch((error: unknown) =>
    failed.abort(error),
  );
  try {
    const { startUs, finalUs, disks } = await ship({ ...options, signal });
    worker.finish();
    const figures = await worker.figures;
    onProgress('drain', 1, 1, 'complete');
    onProgress('points', expected.length, expected.length, `${expected.length} of ${expected.length}`);
    const [{ segments, records } = { segments: 0, records: 0 }] = disks;
    return { startUs, finalUs, shipped: { segments, records }, worker: figures };
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    done.abort();
    await watching;
    await worker.stop();
  }
}

async function ship(options: ReplicateOptions): Promise<ShipResult> {
  const { runtime, stream, traceFolder, replay, startUs, stretch, environment, onProgress, signal } = options;
  const { logUpload, logStore, clock } = runtime.ports;
  const { logKey } = parseConfiguration(environment);
  const files = (await openTraceFolder(traceFolder)).disks;
  return shipTrace({
    disks: files.map((disk) => ({ stream, diskSizeBytes: replay.image.length, files: disk })),
    upload: logUpload,
    log: logStore,
    traceEndUs: replay.endUs,
    startUs,
    nowUs: () => clock.nowUs(),
    stretch,
    segmentAgeUs: SEGMENT_AGE_US,
    encode: logKey === undefined ? {} : { key: createLogKey(logKey) },
    onProgress: ({ disk, finalUs }) => {
      const doneUs = (disk.watermarkUs ?? startUs) - startUs;
      onProgress('ship', doneUs, finalUs - startUs, `${disk.segments} segments, ${disk.records} records`);
    },
    signal,
  });
}

/** Shows how far the worker is, as its progress document says, until `signal` aborts. */
async function watch(options: ReplicateOptions): Promise<void> {
  const { runtime, stream, replay, expected, startUs, stretch, onProgress, signal } = options;
  const { catalog, clock } = runtime.ports;
  const name = catalogName.progress(stream.group);
  const lengthUs = replay.endUs * stretch;
  try {
    for (;;) {
      const progress = (await readDocument(catalog, name, progressSchema, signal))?.value;
      const doneUs = (progress?.disks[0]?.watermarkUs ?? startUs) - startUs;
      const cutUs = progress?.newestPoint?.cutUs ?? Number.NEGATIVE_INFINITY;
      const made = expected.filter((point) => point.cutUs <= cutUs).length;
      onProgress('drain', doneUs, lengthUs, `${Math.round(doneUs / 60e6)} min of source time`);
      onProgress('points', made, expected.length, `${made} of ${expected.length}`);
      await clock.sleep(WATCH_MS, signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** For the second plan, the source goes on: a crash-consistent point every five minutes after the newest one. */
export function prunePlans(points: readonly PointFact[], policy: Policy, nowUs: number): DemoResult['prune'] {
  const options = { holds: [], nowUs };
  const newestUs = points.at(-1)?.cutUs ?? 0;
  const ahead = Array.from({ length: (PLAN_AHEAD_HOURS * HOUR_US) / FIVE_MINUTES_US }, (_, index) => {
    const cutUs = (Math.floor(newestUs / FIVE_MINUTES_US) + index + 1) * FIVE_MINUTES_US;
    return { id: pointId({ kind: 'crash', cutUs }), kind: 'crash', cutUs } as const;
  });
  const later = planPrune([...points, ...ahead], policy, options);
  const known = new Set(points.map(({ id }) => id));
  const ofKnown = ({ id }: { readonly id: string }): boolean => known.has(id);
  return {
    now: planPrune(points, policy, options),
    later: { keep: later.keep.filter(ofKnown), remove: later.remove.filter(ofKnown) },
  };
}

async function countMessages({ ports }: Runtime, group: string, signal: AbortSignal): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for await (const { body, applicationProperties } of ports.topic.tail(signal, { follow: false })) {
    const event = readCloudEvent(body);
    if (event === undefined || groupOf(event) !== group) continue;
    const type = String(applicationProperties['type']);
    counts[type] = (counts[type] ?? 0) + 1;
  }
  signal.throwIfAborted();
  return counts;
}
