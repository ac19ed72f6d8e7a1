/**
 * A served point against the raw SDK reading the same snapshot, side by side in one run on the local stack. Prints ratios and writes
 * them to bench/results/serve.json. Absolute times on a shared machine mean little; each figure is a median over interleaved rounds.
 *
 *   sequential   64 MiB of data in order, 256 KiB a read, one read at a time: served with and without read-ahead, and downloaded
 *   parallel     the same 64 MiB, sixteen reads at a time
 *   random       200 reads of 4 KiB at places of one seed, one at a time; and the same places once more, from the cache
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { BlobServiceClient, type PageBlobClient } from '@azure/storage-blob';
import { table } from '../src/cli/output.ts';
import { parseConfiguration } from '../src/config.ts';
import { startStack } from '../src/local/stack.ts';
import { mapAll } from '../src/map-all.ts';
import { seedName } from '../src/model/names.ts';
import { startNbdServer } from '../src/nbd/server.ts';
import { openRuntime, type Runtime } from '../src/runtime.ts';
import { vhdFooter } from '../src/seed/vhd-footer.ts';
import { openSnapshotDisk } from '../src/serve/snapshot-disk.ts';
import { NbdClient } from '../test/support/nbd-client.ts';

const MIB = 1024 * 1024;
const KIB = 1024;
const DISK_BYTES = 64 * MIB;
const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 5);
const RANDOM_READS = 200;
const KEY = { group: 'bench', machine: 'm', disk: 'disk0' };
const signal = new AbortController().signal;

type Read = (offsetBytes: number, lengthBytes: number) => Promise<Buffer>;

async function fillSeed({ ports }: Runtime): Promise<string> {
  const seed = await ports.seeds.open(KEY, DISK_BYTES, vhdFooter(KEY, DISK_BYTES), signal);
  const bytes = Buffer.alloc(4 * MIB);
  for (let at = 0; at < DISK_BYTES; at += bytes.length) {
    for (let word = 0; word < bytes.length; word += 4)
      bytes.writeUInt32LE((((at + word) * 2_654_435_761) % 2 ** 32) >>> 0, word);
    await seed.putPages(at, bytes, signal);
  }
  const snapshot = await seed.snapshot({ point: 'bench' }, signal);
  await seed.close(signal);
  return snapshot;
}

/** Reads through a server of its own, so that its cache begins empty, over one connection. */
async function served<T>(
  { ports }: Runtime,
  snapshot: string,
  readAhead: boolean,
  work: (read: Read) => Promise<T>,
): Promise<T> {
  const closing = new AbortController();
  const disk = await openSnapshotDisk({
    seed: ports.seeds.reader(KEY),
    snapshot,
    sizeBytes: DISK_BYTES,
    cacheBytes: 64 * MIB,
    readAhead,
    signal: closing.signal,
  });
  const read = async (offsetBytes: number, lengthBytes: number, reader: AbortSignal): Promise<Buffer> => {
    const bytes = Buffer.allocUnsafeSlow(lengthBytes);
    await disk.readInto(bytes, offsetBytes, reader);
    return bytes;
  };
  const server = await startNbdServer({
    exportName: 'bench',
    host: '127.0.0.1',
    port: 0,
    disk: { sizeBytes: DISK_BYTES, read, ranges: (...range) => disk.ranges(...range) },
  });
  const clients = await mapAll(Array.from({ length: 4 }), 1, signal, async () => {
    const client = new NbdClient(server.port);
    await client.open({ structured: false });
    const connection: { client: NbdClient; busy: Promise<unknown> } = { client, busy: Promise.resolve() };
    return connection;
  });
  let next = 0;
  try {
    return await work((offset, length) => {
      const connection = clients[next++ % clients.length];
      if (connection === undefined) throw new Error('there are four connections');
      const { client } = connection;
      const turn = connection.busy.then(async () => {
        await client.simple({ command: 0, offset, length });
        return client.take(length);
      });
      connection.busy = turn;
      return turn;
    });
  } finally {
    await Promise.all(clients.map(({ client }) => client.close()));
    await server.close();
    closing.abort();
  }
}

async function inOrder(read: Read, atOnce: number): Promise<void> {
  const pieces = Array.from({ length: DISK_BYTES / (256 * KIB) }, (_, index) => index * 256 * KIB);
  await mapAll(pieces, atOnce, signal, (offset) => read(offset, 256 * KIB));
}

async function atRandom(read: Read): Promise<void> {
  let state = 1;
  for (let count = 0; count < RANDOM_READS; count++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    await read((state % (DISK_BYTES / 4096)) * 4096, 4096);
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;

async function measure(runtime: Runtime, raw: PageBlobClient, snapshot: string): Promise<Map<string, number[]>> {
  const download: Read = (offset, length) => raw.downloadToBuffer(offset, length);
  const times = new Map<string, number[]>();
  const note = (name: string, ms: number): void => void times.set(name, [...(times.get(name) ?? []), ms]);
  for (let round = 0; round < ROUNDS; round++) {
    note('sequential raw', await timed(() => inOrder(download, 1)));
    for (const readAhead of [true, false]) {
      const name = readAhead ? 'sequential served' : 'sequential served, no read-ahead';
      await served(runtime, snapshot, readAhead, async (read) => note(name, await timed(() => inOrder(read, 1))));
    }
    note('parallel raw', await timed(() => inOrder(download, 16)));
    await served(runtime, snapshot, true, async (read) =>
      note('parallel served', await timed(() => inOrder(read, 16))),
    );
    note('random raw', await timed(() => atRandom(download)));
    await served(runtime, snapshot, true, async (read) => {
      note('random served', await timed(() => atRandom(read)));
      note('random served again', await timed(() => atRandom(read)));
    });
  }
  return times;
}

const home = await mkdtemp(join(tmpdir(), 'tidemark-bench-'));
const stack = await startStack({ home, portBase: Number(process.env['TIDEMARK_PORT_BASE'] ?? 23_400), signal });
try {
  const runtime = openRuntime(parseConfiguration(stack.environment));
  const snapshot = await fillSeed(runtime);
  const connection = stack.environment['TIDEMARK_REPLICA_CONNECTION_STRING'] ?? '';
  const container = BlobServiceClient.fromConnectionString(connection).getContainerClient('seed-disks');
  const raw = container.getPageBlobClient(seedName(KEY)).withSnapshot(snapshot);
  const times = await measure(runtime, raw, snapshot);
  const figures = [...times].map(([name, values]) => {
    const ms = median(values);
    return { name, ms, ratio: ms / median(times.get(`${name.split(' ')[0]} raw`) ?? []) };
  });
  const rows = figures.map(({ name, ms, ratio }) => [name, ms.toFixed(0), ratio.toFixed(2)]);
  process.stdout.write(`${table(['read', 'ms (median)', 'of raw'], rows)}\n`);
  await mkdir(new URL('results/', import.meta.url), { recursive: true });
  const result = { rounds: ROUNDS, cpus: cpus().length, figures };
  await writeFile(new URL('results/serve.json', import.meta.url), `${JSON.stringify(result, null, 1)}\n`);
  await runtime.close();
} finally {
  await stack.stop();
  await rm(home, { recursive: true, force: true });
}
