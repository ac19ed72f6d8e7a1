/** Two machines with clocks and sources of their own: their points are at marks, and one of them can make the other wait. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { Operator } from '../support/cli.ts';
import { endUsOf, expectedPoints, isoOf, usOf } from '../support/point-oracle.ts';
import { isFullRun } from '../support/extent.ts';
import { useStack } from '../support/stack.ts';
import { RawStorage } from '../support/storage.ts';
import { tracePath, TraceReplay } from '../support/trace-oracle.ts';
import { exportSome, verifyPoints } from './verify-points.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
const MIB = 1024 * 1024;
const dir = tracePath('t4-two-disks');
const shipment = { dir, startUs: usOf('2026-11-20T04:00:00Z'), stretch: 60 };

interface Status {
  readonly state: string;
  readonly points: number;
  readonly disks: readonly { machine: string; appliedThrough: string | null; receivedThrough: string | null }[];
}

it('has crash points at crash marks and app points at app marks, and none on five-minute boundaries', async () => {
  await operator.ok('policy', 'set', 'daily', '--app-consistent-hours', '1');
  const a = ['--machine', 'a', '--disk', 'data=96MiB'];
  const b = ['--machine', 'b', '--disk', 'data=64MiB'];
  await operator.ok('group', 'protect', 'duo', '--policy', 'daily', ...a, ...b);
  const times = ['--start', isoOf(shipment.startUs), '--stretch', `${shipment.stretch}`];
  const ship = (machine: string, file: string, ...more: string[]) => {
    const disk = ['--machine', machine, '--disk', `data=${file}`];
    return operator.ok('source', 'ship', 'duo', '--trace', dir, ...disk, ...times, '--segment-seconds', '60', ...more);
  };
  const work = () => operator.ok('worker', 'run', '--once');
  const status = () => operator.json<Status>('status', 'duo');

  await ship('a', 'disk0');
  await work();
  expect(await status()).toMatchObject({ state: 'initial-replication', points: 0 });

  await ship('b', 'disk1', '--until', '16');
  await work();
  // App marks at 1.9 s and 12.0 s, crash marks at 5.6 s and 15.3 s of the trace; the first machine waits at the next mark.
  const held = await status();
  expect(held).toMatchObject({ state: 'protected', points: 4 });
  expect(held.disks[0]?.receivedThrough).toBe(isoOf(endUsOf(shipment)));
  expect((held.disks[0]?.appliedThrough ?? '') < isoOf(shipment.startUs + 18_112_403 * 60)).toBe(true);

  await Promise.all([ship('b', 'disk1'), work()]);
  await work();
  const replays = [0, 1].map((disk) => new TraceReplay(dir, disk));
  const expected = expectedPoints(shipment, replays, 'crash-marks');
  expect(expected.map(({ kind }) => kind).sort()).toEqual([...Array(6).fill('app'), ...Array(4).fill('crash')]);
  await verifyPoints({
    operator,
    storage: new RawStorage(stack.environment),
    group: 'duo',
    disks: replays.map((replay, index) => ({ machine: ['a', 'b'][index] ?? '', disk: 'data', replay })),
    expected,
    ...(!isFullRun && { depthOf: exportSome }),
    folder: stack.home,
  });
}, 120_000);

it('exports a disk as a fixed VHD', async () => {
  const [newest] = (await operator.json<{ id: string }[]>('point', 'list', 'duo', '--kind', 'app')).slice(-1);
  const out = (name: string): string => join(stack.home, name);
  const disk = ['point', 'export', 'duo', newest?.id ?? '', '--disk', 'b/data'];
  await operator.ok(...disk, '--out', out('b.raw'));
  await operator.ok(...disk, '--out', out('b.vhd'), '--format', 'vhd');
  const raw = await readFile(out('b.raw'));
  const vhd = await readFile(out('b.vhd'));
  expect(raw.length).toBe(64 * MIB);
  expect(vhd.length).toBe(64 * MIB + 512);
  expect(vhd.subarray(0, 64 * MIB).equals(raw)).toBe(true);

  // "Virtual Hard Disk Image Format Specification" 1.0, big-endian.
  const footer = vhd.subarray(64 * MIB);
  expect(footer.toString('latin1', 0, 8)).toBe('conectix');
  expect(footer.readBigUInt64BE(40)).toBe(BigInt(64 * MIB));
  expect(footer.readBigUInt64BE(48)).toBe(BigInt(64 * MIB));
  expect(footer.readUInt32BE(60)).toBe(2);
  const sum = footer.reduce((total, byte, at) => (at >= 64 && at < 68 ? total : total + byte), 0);
  expect(footer.readUInt32BE(64)).toBe(~sum >>> 0);

  for (const result of await readByQemu(out('b.raw'), out('b.vhd'))) expect(result).toBe('accepted');
});

/** What `qemu-img` says of the VHD, where it is installed; nothing elsewhere. `check` knows no checks for this format and says so (63). */
async function readByQemu(raw: string, vhd: string): Promise<string[]> {
  const qemu = async (...args: string[]): Promise<{ code: unknown; stdout: string }> => {
    try {
      return { code: 0, ...(await promisify(execFile)('qemu-img', args)) };
    } catch (error) {
      const { code, stdout = '' } = error as { code?: unknown; stdout?: string };
      return { code, stdout };
    }
  };
  const info = await qemu('info', '-f', 'vpc', '--output=json', vhd);
  if (info.code === 'ENOENT') return [];
  const size = info.code === 0 ? (JSON.parse(info.stdout) as Record<string, unknown>)['virtual-size'] : info.code;
  const check = await qemu('check', '-f', 'vpc', vhd);
  const compare = await qemu('compare', '-f', 'raw', '-F', 'vpc', raw, vhd);
  return [
    size === 64 * MIB ? 'accepted' : `info: ${String(size)}`,
    check.code === 0 || check.code === 63 ? 'accepted' : `check: ${String(check.code)}`,
    compare.code === 0 ? 'accepted' : `compare: ${compare.stdout}`,
  ];
}
