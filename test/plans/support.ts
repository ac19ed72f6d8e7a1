/** Consistency groups with points, memory storage and memory Azure, and an operator of plans; executors die at any call. */
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { createCommandService } from '../../src/failover/service.ts';
import type { FailoverPorts } from '../../src/failover/ports.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import { MemoryCompute } from '../../src/memory/memory-compute.ts';
import { createMemoryStorage, type MemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { MIB, SECTOR_BYTES } from '../../src/model/sizes.ts';
import { machineActions } from '../../src/plans/actions.ts';
import { parsePlan, type PlanFile } from '../../src/plans/plan-file.ts';
import type { PlanPorts } from '../../src/plans/ports.ts';
import type { RunDocument } from '../../src/plans/run-document.ts';
import { readSecret } from '../../src/plans/secrets.ts';
import { createPlanService, type PlanService } from '../../src/plans/service.ts';
import { systemClock } from '../../src/system-clock.ts';
import type { Clock } from '../../src/worker/ports.ts';
import { pattern } from '../contracts/support.ts';
import { newWorker } from '../worker/discard-support.ts';

export const live = new AbortController().signal;
export const START_US = 1_795_406_400_000_000; // 2026-11-23T04:00:00Z, on a boundary
export const MINUTE_US = 60_000_000;
const WRITE_BYTES = 4096;

/** Pauses of a second to half a minute, and those between looks at something, are over at once; longer ones end with their signal. */
export function hastyClock(): Clock & { advance(minutes: number): void } {
  let nowUs = START_US + 3_600_000_000;
  return {
    advance: (minutes) => void (nowUs += minutes * MINUTE_US),
    nowUs: () => ++nowUs,
    nowMs: () => 0,
    sleep: async (ms, stop) => {
      stop.throwIfAborted();
      if (ms <= 30_000 && ms !== 20_000) return;
      await new Promise<void>((_, reject) => {
        stop.addEventListener('abort', () => reject(stop.reason as Error), { once: true });
      });
    },
  };
}

export interface PlanWorld {
  readonly storage: MemoryStorage;
  readonly topic: MemoryTopic;
  readonly compute: MemoryCompute;
  readonly clock: ReturnType<typeof hastyClock>;
  readonly ports: PlanPorts;
  readonly failoverPorts: FailoverPorts;
}

/** Groups to the minute at which their log ends: points are at the start and at every five minutes before that. */
export async function planWorld(
  groups: Readonly<Record<string, number>>,
  environment: Readonly<Record<string, string>> = { SECRET: 'hunter22' },
): Promise<PlanWorld> {
  const storage = createMemoryStorage();
  const topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
  await setPolicy(storage.catalog, 'p', { retentionHours: 24, appConsistentHours: 0 }, live);
  for (const [group, minutes] of Object.entries(groups)) {
    const machines = [{ machine: 'web', disks: [{ disk: 'os', sizeBytes: MIB }] }];
    await protectGroup(storage.catalog, { group, policy: 'p', machines, nowUs: START_US }, live);
    await ship(storage, group, minutes);
  }
  const still = { ...hastyClock(), sleep: waitsForEver };
  for (const { error } of await newWorker({ ...storage, topic, clock: still, random: () => 0.5 }).runOnce(live)) {
    if (error !== undefined) throw error;
  }
  const compute = memoryCompute(storage);
  const clock = hastyClock();
  return { storage, topic, compute, clock, ...portsOf({ storage, topic, compute, clock }, environment) };
}

const waitsForEver: Clock['sleep'] = (_, stop) =>
  new Promise<void>((_, reject) => {
    if (stop.aborted) reject(stop.reason as Error);
    stop.addEventListener('abort', () => reject(stop.reason as Error), { once: true });
  });

function memoryCompute(storage: MemoryStorage): MemoryCompute {
  return new MemoryCompute(async (url) => {
    const blob = storage.copies.peek(url.replace('memory:///', '') as Parameters<typeof storage.copies.peek>[0]);
    if (blob === undefined) return undefined;
    const { image, blobBytes } = blob;
    const read = async (offset: number, length: number): Promise<Buffer> => image.read(offset, length);
    return { blobBytes, ranges: image.ranges(blobBytes - SECTOR_BYTES), read };
  });
}

/** A base copy and a write every two minutes, as one segment. */
async function ship(storage: MemoryStorage, group: string, minutes: number): Promise<void> {
  const stream = { group, machine: 'web', disk: 'os', epoch: 1 };
  const write = (minute: number) => ({
    record: {
      kind: 'write' as const,
      timeUs: START_US + minute * MINUTE_US,
      offsetBytes: minute * 8192,
      lengthBytes: WRITE_BYTES,
    },
    data: pattern(minute + 1, WRITE_BYTES),
  });
  const later = Array.from({ length: Math.floor(minutes / 2) }, (_, at) => write(2 * at + 1));
  const base = { record: { kind: 'base-complete' as const, timeUs: START_US } };
  const { bytes } = encodeSegment(
    {
      stream,
      diskSizeBytes: MIB,
      sequence: 1,
      streamStartUs: START_US,
      recordsBefore: 0,
      firstTimeUs: START_US,
      endTimeUs: START_US + minutes * MINUTE_US,
      previousDigest: Buffer.alloc(32),
    },
    [write(0), base, ...later],
  );
  await (await storage.logUpload.stage(stream, 1, bytes, live)).commit(live);
}

type Outside = Pick<PlanWorld, 'storage' | 'topic' | 'compute' | 'clock'>;

export function portsOf(
  { storage, topic, compute, clock }: Outside,
  environment: Readonly<Record<string, string>>,
): Pick<PlanWorld, 'ports' | 'failoverPorts'> {
  let ids = 0;
  const newId = (): string => `id-${String(++ids).padStart(5, '0')}`;
  const random = (): number => 0.5;
  const failoverPorts: FailoverPorts = {
    ...storage,
    topic,
    clock,
    compute,
    createPoint: (group, at, signal) => newWorker({ ...storage, topic, clock, random }).createPoint(group, at, signal),
    newId,
    random,
  };
  const ports: PlanPorts = {
    catalog: storage.catalog,
    topic,
    clock,
    commands: createCommandService(failoverPorts),
    // Pauses between tries are over at once; what ends processes takes the time that it takes.
    actions: {
      ...machineActions({ clock, random }),
      script: (call, signal) => machineActions({ clock: systemClock, random }).script(call, signal),
    },
    environment,
    secret: (source) => readSecret(environment, source),
    newId,
    random,
  };
  return { ports, failoverPorts };
}

export const plan = (file: object): PlanFile => parsePlan(JSON.stringify({ version: 1, name: 'p', ...file }));

export const service = (ports: PlanPorts): PlanService => createPlanService(ports);

export const QUIET = { wait: false, onProgress: () => undefined } as const;

export async function runPlan(
  ports: PlanPorts,
  file: PlanFile,
  options: { readonly test?: boolean; readonly key?: string; readonly point?: 'latest' } = {},
): Promise<RunDocument> {
  const { test = true, key, point } = options;
  const plans = service(ports);
  const asked = { test, requestedBy: 'ada', ...(key !== undefined && { idempotencyKey: key }) };
  const { run } = await plans.start(file, { ...asked, ...(point !== undefined && { point }) }, live);
  return plans.execute(run, QUIET, live);
}

/** `id: state` of all steps. */
export const stepStates = ({ steps }: RunDocument): readonly string[] =>
  steps.map(({ id, state }) => `${id}: ${state}`);

/** Types and ends of all messages about plans, in their order. */
export async function planMessages({ topic }: Pick<PlanWorld, 'topic'>): Promise<readonly string[]> {
  const said: string[] = [];
  for await (const { body } of topic.tail(live, { follow: false })) {
    const { type, data } = body as { type: string; data: { step?: string; to: string } };
    if (type === 'Tidemark.PlanRunChanged') said.push(data.to);
    if (type === 'Tidemark.PlanStepChanged') said.push(`${data.step ?? ''} ${data.to}`);
  }
  return said;
}
