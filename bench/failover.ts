/**
 * From the command to a disk that boots, on the local stack: a test failover of one disk against a plain full copy of the same snapshot
 * with the raw SDK (every byte of the disk is downloaded and uploaded, as a copy tool without page ranges does). Prints ratios and writes them
 * to bench/results/failover.json. Absolute times on a shared machine mean little; each figure is a median over interleaved rounds.
 *
 *   dense    a disk that is full
 *   sparse   a disk of 1 TiB with as much data, in pieces spread over all of it; its full copy is not made, only computed
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { BlobServiceClient } from '@azure/storage-blob';
import { protectGroup } from '../src/catalog/groups.ts';
import { setPolicy } from '../src/catalog/policies.ts';
import { table } from '../src/cli/output.ts';
import { extentsOfRequest, type ChangedExtent } from '../src/coalesce/change-list.ts';
import type { JobView } from '../src/commands/commands.ts';
import { parseConfiguration } from '../src/config.ts';
import { startStack } from '../src/local/stack.ts';
import { mapAll } from '../src/map-all.ts';
import { seedName } from '../src/model/names.ts';
import { GIB, MIB, TIB } from '../src/model/sizes.ts';
import { makePoint } from '../src/points/make-point.ts';
import { openRuntime, type Runtime } from '../src/runtime.ts';
import { STREAM_START } from '../src/drain/log-reader.ts';
import { vhdFooter } from '../src/seed/vhd-footer.ts';

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 3);
const DATA_BYTES = Number(process.env['BENCH_MIB'] ?? 512) * MIB;
const PIECE_BYTES = 4 * MIB;
const IN_FLIGHT = 8;
/** 2026-11-23T04:05:00Z. */
const CUT_US = 1_795_406_700_000_000;
const signal = new AbortController().signal;

interface Subject {
  readonly group: string;
  readonly sizeBytes: number;
  readonly snapshot: string;
}

const keyOf = (group: string) => ({ group, machine: 'm', disk: 'disk0' });

/** A group with one point of one disk that holds {@link DATA_BYTES} in pieces at equal distances. */
async function prepare({ ports }: Runtime, group: string, sizeBytes: number): Promise<Subject> {
  const key = keyOf(group);
  const disks = [{ disk: key.disk, sizeBytes }];
  const machines = [{ machine: key.machine, disks }];
  await protectGroup(ports.catalog, { group, policy: 'p', machines, nowUs: CUT_US }, signal);
  const seed = await ports.seeds.open(key, sizeBytes, vhdFooter(key, sizeBytes), signal);
  const pieces = Array.from({ length: DATA_BYTES / PIECE_BYTES }, (_, index) => index);
  const stride = Math.floor(sizeBytes / pieces.length / MIB) * MIB;
  const changes = await mapAll(pieces, IN_FLIGHT, signal, async (index): Promise<ChangedExtent[]> => {
    const data = Buffer.alloc(PIECE_BYTES);
    for (let at = 0; at < data.length; at += 4) data.writeUInt32LE(Math.imul(index + at, 2_654_435_761) >>> 0, at);
    await seed.putPages(index * stride, data, signal);
    return extentsOfRequest({ kind: 'put', offsetBytes: index * stride, lengthBytes: data.length, pieces: [] }, data);
  });
  const manifest = await makePoint({
    catalog: ports.catalog,
    group,
    cut: { kind: 'crash', cutUs: CUT_US, mark: null },
    disks: [
      {
        stream: { ...key, epoch: 1 },
        sizeBytes,
        seed,
        copy: null,
        position: STREAM_START,
        snapshot: null,
        changes: changes.flat(),
        orphans: [],
      },
    ],
    previousPoint: null,
    createdAtUs: CUT_US,
    confirm: async () => undefined,
    signal,
  });
  await seed.close(signal);
  return { group, sizeBytes, snapshot: manifest.disks[0]?.snapshot ?? '' };
}

interface Times {
  /** Milliseconds from the command to a page blob that `Import` takes, and to the managed disk. */
  readonly vhdMs: number;
  readonly diskMs: number;
}

async function failOver({ commands }: Runtime, group: string): Promise<Times> {
  const fromMs = performance.now();
  let vhdMs = Number.NaN;
  const watch = (job: JobView): void => {
    const isCopied = job.steps.some(({ name, state }) => name.startsWith('copy ') && state === 'done');
    if (isCopied && Number.isNaN(vhdMs)) vhdMs = performance.now() - fromMs;
  };
  const command = { command: 'test-failover', group, point: 'latest-processed' } as const;
  const { job } = await commands.submit(command, { requestedBy: 'bench' }, signal);
  const ended = await commands.execute(group, job, { onProgress: watch }, signal);
  if (ended.state !== 'succeeded') throw new Error(`the test failover of ${group}: ${ended.error?.message}`);
  return { vhdMs, diskMs: performance.now() - fromMs };
}

async function cleanUp({ commands }: Runtime, group: string): Promise<void> {
  const command = { command: 'cleanup-test-failover', group } as const;
  const { job } = await commands.submit(command, { requestedBy: 'bench' }, signal);
  await commands.execute(group, job, {}, signal);
}

/** Every byte of the snapshot, down and up. */
async function fullCopy(service: BlobServiceClient, { group, sizeBytes, snapshot }: Subject): Promise<void> {
  const source = service.getContainerClient('seed-disks').getPageBlobClient(seedName(keyOf(group)));
  const container = service.getContainerClient('bench');
  await container.createIfNotExists();
  const target = container.getPageBlobClient(`${group}.vhd`);
  await target.create(sizeBytes + 512);
  const from = source.withSnapshot(snapshot);
  const offsets = Array.from({ length: sizeBytes / PIECE_BYTES }, (_, index) => index * PIECE_BYTES);
  await mapAll(offsets, IN_FLIGHT, signal, async (offset) => {
    const bytes = await from.downloadToBuffer(offset, PIECE_BYTES);
    await target.uploadPages(bytes, offset, bytes.length);
  });
  const footer = await from.downloadToBuffer(sizeBytes, 512);
  await target.uploadPages(footer, sizeBytes, footer.length);
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;

async function measure(runtime: Runtime, service: BlobServiceClient): Promise<Map<string, number[]>> {
  await setPolicy(runtime.ports.catalog, 'p', {}, signal);
  const dense = await prepare(runtime, 'dense', DATA_BYTES);
  const sparse = await prepare(runtime, 'sparse', TIB);
  const times = new Map<string, number[]>();
  const note = (name: string, ms: number): void => void times.set(name, [...(times.get(name) ?? []), ms]);
  for (let round = 0; round < ROUNDS; round++) {
    const fromMs = performance.now();
    await fullCopy(service, dense);
    note('dense, full copy by the raw SDK', performance.now() - fromMs);
    await service.getContainerClient('bench').deleteBlob('dense.vhd');
    for (const { group } of [dense, sparse]) {
      const { vhdMs, diskMs } = await failOver(runtime, group);
      note(`${group}, to an importable VHD`, vhdMs);
      note(`${group}, to a managed disk`, diskMs);
      await cleanUp(runtime, group);
    }
  }
  return times;
}

const home = await mkdtemp(join(tmpdir(), 'tidemark-bench-'));
const stack = await startStack({ home, portBase: Number(process.env['TIDEMARK_PORT_BASE'] ?? 23_500), signal });
try {
  const runtime = openRuntime(parseConfiguration(stack.environment));
  const connection = stack.environment['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '';
  const times = await measure(runtime, BlobServiceClient.fromConnectionString(connection));
  const rawMs = median(times.get('dense, full copy by the raw SDK') ?? []);
  const figures = [...times].map(([name, values]) => {
    const ms = median(values);
    return { name, ms, msPerGib: (ms * GIB) / DATA_BYTES, ratio: ms / rawMs };
  });
  const rows = figures.map(({ name, ms, msPerGib, ratio }) => [
    name,
    ms.toFixed(0),
    (msPerGib / 1000).toFixed(1),
    ratio.toFixed(2),
  ]);
  const sparseRawMs = (rawMs * TIB) / DATA_BYTES;
  rows.push(['sparse, full copy, computed', sparseRawMs.toFixed(0), '', (sparseRawMs / rawMs).toFixed(0)]);
  process.stdout.write(`${table(['what', 'ms (median)', 's per GiB of data', 'of the full copy'], rows)}\n`);
  await mkdir(new URL('results/', import.meta.url), { recursive: true });
  const result = { rounds: ROUNDS, dataBytes: DATA_BYTES, cpus: cpus().length, figures };
  await writeFile(new URL('results/failover.json', import.meta.url), `${JSON.stringify(result, null, 1)}\n`);
  await runtime.close();
} finally {
  await stack.stop();
  await rm(home, { recursive: true, force: true });
}
