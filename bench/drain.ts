/**
 * The drain against the raw SDK doing the same work, side by side in one run on the local stack. Prints ratios and writes them to
 * bench/results/drain.json. Absolute times on a shared machine mean little; each figure is a median over interleaved rounds.
 *
 *   a   this drain: list, read, verify, coalesce, apply, progress document (no cut inside the log)
 *   a+  the same log stretched over 38 minutes: with its recovery points
 *   b   raw SDK uploadPages of exactly the requests that a sends, as many in flight
 *   b+  the same for a+
 *   c   naive: one uploadPages for each write of a sample of the log, in order
 *   d   decode and coalesce without I/O, against plain zstd decompression of the same chunks
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { zstdDecompressSync } from 'node:zlib';
import { BlobServiceClient, type PageBlobClient } from '@azure/storage-blob';
import { protectGroup } from '../src/catalog/groups.ts';
import { setPolicy } from '../src/catalog/policies.ts';
import { table } from '../src/cli/output.ts';
import { parseConfiguration } from '../src/config.ts';
import { prepareWindow } from '../src/drain/window.ts';
import { startStack } from '../src/local/stack.ts';
import { decodeSegment } from '../src/log/decode.ts';
import { mapAll } from '../src/map-all.ts';
import { seedName } from '../src/model/names.ts';
import { openRuntime, type Runtime } from '../src/runtime.ts';
import type { SeedStore } from '../src/seed/seed-store.ts';
import { shipTrace } from '../src/source/ship.ts';
import { openTraceFolder, traceEndUs } from '../src/source/trace-folder.ts';
import { readTrace } from '../src/source/trace-reader.ts';
import { Worker } from '../src/worker/worker.ts';

const TRACE = new URL('../src/demo/trace/', import.meta.url).pathname;
const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 7);
const NAIVE_WRITES = 600;
const DISK_BYTES = 160 * 1024 * 1024;
/** 04:00:01: with stretch 1 the trace ends before the next boundary. */
const START_US = 1_795_406_401_000_000;
const signal = new AbortController().signal;

interface RecordedRequest {
  readonly kind: 'put' | 'clear';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly data: Buffer;
}

/** Passes every call on, and keeps what was sent. */
function recording(seeds: SeedStore, requests: RecordedRequest[]): SeedStore {
  return {
    reader: (key) => seeds.reader(key),
    list: (...args) => seeds.list(...args),
    remove: (...args) => seeds.remove(...args),
    open: async (...args) => {
      const disk = await seeds.open(...args);
      const put = disk.putPages.bind(disk);
      const clear = disk.clearPages.bind(disk);
      disk.putPages = async (offsetBytes, data, abort) => {
        requests.push({ kind: 'put', offsetBytes, lengthBytes: data.length, data: Buffer.from(data) });
        await put(offsetBytes, data, abort);
      };
      disk.clearPages = async (offsetBytes, lengthBytes, abort) => {
        requests.push({ kind: 'clear', offsetBytes, lengthBytes, data: Buffer.alloc(0) });
        await clear(offsetBytes, lengthBytes, abort);
      };
      return disk;
    },
  };
}

async function ship(runtime: Runtime, group: string, stretch: number): Promise<number> {
  await protectGroup(
    runtime.ports.catalog,
    {
      group,
      policy: stretch === 1 ? 'without-points' : 'with-points',
      machines: [{ machine: 'm', disks: [{ disk: 'disk0', sizeBytes: DISK_BYTES }] }],
      nowUs: START_US,
    },
    signal,
  );
  const trace = await openTraceFolder(TRACE);
  const [files] = trace.disks;
  if (files === undefined) throw new Error('the bundled trace has a disk');
  const { disks } = await shipTrace({
    disks: [{ stream: { group, machine: 'm', disk: 'disk0', epoch: 1 }, diskSizeBytes: DISK_BYTES, files }],
    upload: runtime.ports.logUpload,
    log: runtime.ports.logStore,
    traceEndUs: await traceEndUs(trace.disks, signal),
    startUs: START_US,
    nowUs: () => START_US,
    stretch,
    signal,
  });
  return disks[0]?.storedBytes ?? 0;
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; value: T }> {
  const from = performance.now();
  const value = await work();
  return { ms: performance.now() - from, value };
}

async function drain(runtime: Runtime, group: string, requests?: RecordedRequest[]): Promise<Worker['counters']> {
  const seeds = requests === undefined ? runtime.ports.seeds : recording(runtime.ports.seeds, requests);
  const worker = new Worker({
    ports: { ...runtime.ports, seeds },
    settings: runtime.settings,
    groups: [group],
    report: ({ error }) => {
      throw error;
    },
  });
  await worker.runOnce(signal);
  return worker.counters;
}

async function rawUpload(blob: PageBlobClient, requests: readonly RecordedRequest[], inFlight: number): Promise<void> {
  await blob.create(DISK_BYTES + 512);
  await mapAll(requests, inFlight, signal, async ({ kind, offsetBytes, lengthBytes, data }) => {
    if (kind === 'put') await blob.uploadPages(data, offsetBytes, lengthBytes);
    else await blob.clearPages(offsetBytes, lengthBytes);
  });
}

/** The first writes of the log, one request each, one after the other; returns the bytes of log that this covers. */
async function naive(blob: PageBlobClient): Promise<number> {
  await blob.create(DISK_BYTES + 512);
  const trace = await openTraceFolder(TRACE);
  const [files] = trace.disks;
  if (files === undefined) throw new Error('the bundled trace has a disk');
  let writes = 0;
  let bytes = 0;
  for await (const entry of readTrace({ files, diskSizeBytes: DISK_BYTES, signal })) {
    if (entry.kind !== 'write') continue;
    await blob.uploadPages(entry.data, entry.offsetBytes, entry.data.length);
    bytes += entry.data.length;
    if (++writes === NAIVE_WRITES) break;
  }
  return bytes;
}

/** Reads all segments of a group's log into memory. */
async function loadLog(runtime: Runtime, group: string): Promise<Buffer[]> {
  const stream = { group, machine: 'm', disk: 'disk0', epoch: 1 };
  const refs = await runtime.ports.logStore.list(stream, 1, 10_000, signal);
  return mapAll(refs, 4, signal, async ({ sequence }) => {
    const bytes = await runtime.ports.logStore.read(stream, sequence, 16 * 1024 * 1024, signal);
    if (bytes === undefined) throw new Error(`segment ${sequence} is gone`);
    return bytes;
  });
}

function decodeLog(segments: readonly Buffer[], group: string) {
  const stream = { group, machine: 'm', disk: 'disk0', epoch: 1 };
  return segments.map((bytes, index) => ({
    bytes,
    segment: decodeSegment(bytes, { stream, diskSizeBytes: DISK_BYTES, sequence: index + 1 }),
  }));
}

async function decodeAndCoalesce(segments: readonly Buffer[], group: string): Promise<void> {
  const parts = decodeLog(segments, group).map((loaded) => ({ loaded, from: 0, to: loaded.segment.records.length }));
  const window = await prepareWindow(parts, undefined);
  if ('error' in window) throw window.error;
}

/** The chunks as they are stored, already cut out of their segments; raw ones count as copied. */
function plainDecompress(chunks: readonly { stored: Buffer; raw: boolean }[]): number {
  let bytes = 0;
  for (const { stored, raw } of chunks) bytes += raw ? Buffer.from(stored).length : zstdDecompressSync(stored).length;
  return bytes;
}

const median = (values: readonly number[]): number =>
  values.toSorted((x, y) => x - y)[Math.floor(values.length / 2)] ?? Number.NaN;
const spread = (values: readonly number[]): string =>
  `${Math.min(...values).toFixed(0)}-${Math.max(...values).toFixed(0)}`;

const home = await mkdtemp(join(tmpdir(), 'tidemark-bench-'));
const stack = await startStack({
  home,
  portBase: 27_000 + (process.pid % 1000) * 3,
  signal: AbortSignal.timeout(30_000),
});
try {
  const configuration = parseConfiguration({ ...stack.environment, TIDEMARK_HOME: home });
  const runtime = openRuntime(configuration);
  const replica = BlobServiceClient.fromConnectionString(stack.environment['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '');
  const raw = replica.getContainerClient('raw');
  await raw.create();
  await setPolicy(runtime.ports.catalog, 'without-points', { logRetentionHours: 72, appConsistentHours: 0 }, signal);
  await setPolicy(runtime.ports.catalog, 'with-points', { logRetentionHours: 72 }, signal);

  const variants = { a: 1, 'a+': 60 } as const;
  const recorded: Record<string, RecordedRequest[]> = {};
  let logBytes = 0;
  for (const [name, stretch] of Object.entries(variants)) {
    const requests: RecordedRequest[] = [];
    await ship(runtime, `record-${stretch}`, stretch);
    const counters = await drain(runtime, `record-${stretch}`, requests);
    recorded[name] = requests;
    logBytes = counters.payloadBytes;
  }
  const segments = await loadLog(runtime, 'record-1');
  const chunks = decodeLog(segments, 'record-1').flatMap(({ bytes, segment }) =>
    segment.chunks.map(({ offsetBytes, storedBytes, rawBytes }) => ({
      stored: bytes.subarray(offsetBytes, offsetBytes + storedBytes),
      raw: storedBytes === rawBytes,
    })),
  );

  const ms: Record<'a' | 'b' | 'a+' | 'b+' | 'c' | 'd' | 'plain', number[]> = {
    a: [],
    b: [],
    'a+': [],
    'b+': [],
    c: [],
    d: [],
    plain: [],
  };
  let naiveBytes = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, stretch] of Object.entries(variants) as ['a' | 'a+', number][]) {
      const group = `${stretch}-${round}`;
      await ship(runtime, group, stretch);
      ms[name].push((await timed(() => drain(runtime, group))).ms);
      const blob = raw.getPageBlobClient(`${group}.vhd`);
      const other = name === 'a' ? 'b' : 'b+';
      ms[other].push(
        (await timed(() => rawUpload(blob, recorded[name] ?? [], configuration.worker.requestsPerDisk))).ms,
      );
      await blob.delete();
      await replica
        .getContainerClient('seed-disks')
        .getPageBlobClient(seedName({ group, machine: 'm', disk: 'disk0' }))
        .delete({ deleteSnapshots: 'include' });
    }
    const blob = raw.getPageBlobClient(`naive-${round}.vhd`);
    const sample = await timed(() => naive(blob));
    naiveBytes = sample.value;
    ms.c.push(sample.ms);
    await blob.delete();
    ms.d.push((await timed(() => decodeAndCoalesce(segments, 'record-1'))).ms);
    ms.plain.push((await timed(async () => plainDecompress(chunks))).ms);
  }

  const mib = logBytes / 1024 / 1024;
  const perByte = (name: 'a' | 'c', bytes: number): number => median(ms[name]) / bytes;
  const ratios = {
    'a/b (aim <= 1.2)': median(ms.a) / median(ms.b),
    'a+/b+': median(ms['a+']) / median(ms['b+']),
    '(c)/(a) per log byte (aim >= 10)': perByte('c', naiveBytes) / perByte('a', logBytes),
    'plain/d (aim >= 0.8)': median(ms.plain) / median(ms.d),
  };
  process.stdout.write(
    `${table(
      ['', 'median ms', 'min-max', 'log MiB/s'],
      Object.entries(ms).map(([name, values]) => [
        name,
        median(values).toFixed(0),
        spread(values),
        (name === 'c' ? naiveBytes / 1024 / 1024 / (median(values) / 1000) : mib / (median(values) / 1000)).toFixed(0),
      ]),
    )}\n\n${table(
      ['ratio', ''],
      Object.entries(ratios).map(([name, value]) => [name, value.toFixed(2)]),
    )}\n`,
  );
  await mkdir(new URL('results/', import.meta.url), { recursive: true });
  await writeFile(
    new URL('results/drain.json', import.meta.url),
    `${JSON.stringify({ at: new Date().toISOString(), node: process.version, cpu: cpus()[0]?.model, cores: cpus().length, rounds: ROUNDS, logMiB: mib, requests: { a: recorded['a']?.length, 'a+': recorded['a+']?.length }, ms, ratios }, null, 1)}\n`,
  );
  await runtime.close();
} finally {
  await stack.stop();
  await rm(home, { recursive: true, force: true });
}
