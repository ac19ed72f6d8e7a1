import { it } from 'vitest';
import { join } from 'node:path';
import { useStack } from '../support/stack.ts';
import { Operator } from '../support/cli.ts';
import { RawStorage } from '../support/storage.ts';
import { connect } from '../../src/azure/connect.ts';
import { tracePath, expectations } from '../support/trace-oracle.ts';
const stack = useStack();
const op = new Operator(() => stack.environment);
it.each(['t2-ext4-postgres'] as const)('try %s', async (name) => {
  const dir = tracePath(name);
  const g = name.slice(0, 2);
  await op.ok('policy', 'set', 'p', '--retention-hours', '24', '--app-consistent-hours', '1');
  await op.ok('group', 'protect', g, '--policy', 'p', '--machine', 'm', ...expectations(dir).disk_size.flatMap((s, i) => ['--disk', `disk${i}=${s}`]));
  await op.ok('source', 'ship', g, '--trace', dir, '--start', '2026-11-20T04:01:00Z', '--stretch', '60');
  await op.ok('worker', 'run', '--once', '--group', g);
  const st = connect({ cacheConnectionString: stack.environment.TIDEMARK_CACHE_CONNECTION_STRING!, replicaConnectionString: stack.environment.TIDEMARK_REPLICA_CONNECTION_STRING! });
  const r = st.seeds.reader({ group: g, machine: 'm', disk: 'disk0' });
  const s = (await r.listSnapshots(AbortSignal.timeout(10000))).at(-1)!;
  const ranges = await r.ranges(s.snapshot, 160 * 1048576, AbortSignal.timeout(10000));
  const bytes = ranges.reduce((a, b) => a + b.lengthBytes, 0);
  console.log('ranges', ranges.length, 'bytes', bytes);
  for (const gap of [0, 16, 64, 256, 1024, 4096]) {
    let n = 0, total = 0, end = -1e12;
    for (const x of ranges) { if (x.offsetBytes - end > gap * 1024) { n++; total += x.lengthBytes; } else total += x.offsetBytes + x.lengthBytes - end; end = x.offsetBytes + x.lengthBytes; }
    console.log(gap, n, total);
  }
  for (let i = 0; i < 3; i++) { const a = performance.now(); await op.ok('point', 'export', g, s.metadata.point!, '--disk', 'disk0', '--out', join(stack.home, 'o')); console.log(performance.now() - a); }
  st.close();
}, 100000);
