/** The same log and policy give the same points, however often and in which steps workers come by. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { Operator } from '../support/cli.ts';
import { extent, isFullRun } from '../support/extent.ts';
import { useStack } from '../support/stack.ts';
import { download, overwrite, RawStorage } from '../support/storage.ts';
import { writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { sha256, tracePath } from '../support/trace-oracle.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
const DISKS = ['disk0', 'disk1'];
/** The recorded trace has the same shape and takes long; `traces.test.ts` drains it as well. */
const DISK_MIB = extent({ quick: [2, 2], full: [96, 64] });
const GROUP = 'pure';
const disks = DISKS.flatMap((disk, index) => ['--disk', `${disk}=${DISK_MIB[index]}MiB`]);
const protect = ['group', 'protect', GROUP, '--policy', 'p', '--machine', 'web', ...disks];
const work = ['worker', 'run', '--once', '--group', GROUP];
/** Segments that become visible between two workers. */
const STEPS = extent({ quick: [1, 5, 2, 8, 3, 1], full: [1, 9, 2, 15, 3, 1] });

interface Manifest extends Record<string, unknown> {
  readonly point: string;
  readonly disks: readonly (Record<string, unknown> & { readonly disk: string; readonly snapshot: string })[];
}

/** Everything about the points that must not depend on how they came to be: manifests, changed bytes, contents. */
async function results(storage: RawStorage): Promise<unknown[]> {
  const found = [];
  for (const { id } of await operator.json<{ id: string }[]>('point', 'list', GROUP)) {
    const { manifest } = await operator.json<{ manifest: Manifest }>('point', 'show', GROUP, id);
    // When a point was made or looked at, and by whom, is no part of it.
    const { created: _, changesSha256: __, verified: ___, disks, ...rest } = manifest;
    const hashes = [];
    for (const { disk, snapshot } of disks) {
      const bytes = await storage.seed(`${GROUP}/web/${disk}`).withSnapshot(snapshot).downloadToBuffer();
      hashes.push(sha256(bytes));
    }
    const changes = await download(storage.catalog.getBlobClient(`points/${GROUP}/${id}.changes`));
    const places = disks.map((disk) => ({ ...disk, snapshot: undefined }));
    found.push({ ...rest, disks: places, hashes, changed: changedSectors(changes) });
  }
  return found;
}

/** A digest of the sectors that a changes list names; where it cuts extents depends on the windows. */
function changedSectors(blob: Buffer): string {
  const sectors = new Map(
    DISKS.map((disk) => [`web/${disk}`, Buffer.alloc((Math.max(...DISK_MIB) * 1024 * 1024) / 512)]),
  );
  for (const line of zstdDecompressSync(blob).toString('utf8').trimEnd().split('\n').slice(1)) {
    const [label = '', offset, length] = line.split(' ');
    sectors.get(label)?.fill(1, Number(offset) / 512, (Number(offset) + Number(length)) / 512);
  }
  const hash = createHash('sha256');
  for (const buffer of sectors.values()) hash.update(buffer);
  return hash.digest('hex');
}

async function forget(storage: RawStorage): Promise<void> {
  for (const container of [storage.catalog, storage.seeds, storage.logs]) {
    for await (const { name } of container.listBlobsFlat()) {
      await container.getBlobClient(name).delete({ deleteSnapshots: 'include' });
    }
  }
}

it('makes the same points from one late worker and from a row of short-lived ones', async () => {
  const storage = new RawStorage(stack.environment);
  const trace = isFullRun ? tracePath('t4-two-disks') : await writeSyntheticTrace(join(stack.home, 'trace'));
  const setUp = async (): Promise<void> => {
    await operator.ok('policy', 'set', 'p', '--app-consistent-hours', '1');
    await operator.ok(...protect);
  };
  await setUp();
  const age = ['--segment-seconds', extent({ quick: '60', full: '30' })];
  const times = ['--start', '2026-11-20T04:02:30Z', '--stretch', '60', '--until', '18', ...age];
  await operator.ok('source', 'ship', GROUP, '--trace', trace, ...times);
  const names = (await Promise.all(DISKS.map((disk) => storage.segments(`${GROUP}/web/${disk}`)))).flat();
  const log = await Promise.all(
    names.map(async (name) => [name, await download(storage.logs.getBlobClient(name))] as const),
  );

  await operator.ok(...work);
  const late = await results(storage);
  expect(late).toHaveLength(6);

  await forget(storage);
  await setUp();
  // In the order of the sequences, the disks taking turns, as a source makes them visible.
  const arrival = log.toSorted(([a], [b]) => (a.slice(-16) < b.slice(-16) ? -1 : 1));
  let workers = 0;
  for (let at = 0; at < arrival.length;) {
    const step = STEPS[workers++ % STEPS.length] ?? 1;
    for (const [name, bytes] of arrival.slice(at, at + step)) await overwrite(storage.logs, name, bytes);
    at += step;
    await operator.ok(...work);
  }
  expect(workers).toBeGreaterThan(extent({ quick: 9, full: 12 }));
  expect(await results(storage)).toEqual(late);
}, 120_000);
