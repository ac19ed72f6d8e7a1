import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { GroupDocument } from '../../src/catalog/groups.ts';
import { diskMapping, selectDisks, stretchFrom, usFromSeconds } from '../../src/source/ship-arguments.ts';
import { openTraceFolder, traceEndUs } from '../../src/source/trace-folder.ts';
import type { TraceFolder } from '../../src/source/trace-folder.ts';
import { writeTrace } from './make-trace.ts';
import { RUNNING } from './ship-support.ts';

const MIB = 1024 * 1024;
let root: string;
let trace: TraceFolder;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'tidemark-arguments-'));
  const entries = (timeUs: number) => [{ kind: 'flush', timeUs } as const];
  await writeTrace(join(root, 'other'), [{ entries: entries(1) }, { entries: entries(9) }]);
  const folder = await writeTrace(join(root, 'trace'), [
    { entries: entries(3), image: Buffer.alloc(512) },
    { entries: entries(7) },
    { entries: entries(5) },
  ]);
  trace = await openTraceFolder(folder);
});
afterAll(async () => {
  await rm(root, { recursive: true });
});

const group = (machines: Readonly<Record<string, readonly string[]>>): GroupDocument => ({
  version: 1,
  group: 'g',
  policy: 'p',
  wanted: 'active',
  machines: Object.entries(machines).map(([machine, disks]) => ({
    machine,
    disks: disks.map((disk) => ({ disk, sizeBytes: MIB, epoch: 3 })),
  })),
  pins: [],
  createdAt: '2026-11-23T04:30:00.000000Z',
});

interface Choice {
  readonly machine?: string;
  readonly disks?: readonly string[];
}

/** `machine/disk=trace disk` of what is shipped, then what is not. */
async function selected(wanted: GroupDocument, { machine, disks = [] }: Choice = {}): Promise<readonly string[]> {
  const { disks: found, unmatched } = await selectDisks(wanted, trace, { machine, mapping: diskMapping(disks) });
  return [
    ...found.map(({ stream, files }) => `${stream.machine}/${stream.disk}=${files.logFile.slice(root.length + 1)}`),
    ...unmatched.map(({ machine, disk }) => `${machine}/${disk}`),
  ];
}

test('seconds are read exactly', () => {
  expect(usFromSeconds('--until', '12')).toBe(12_000_000);
  expect(usFromSeconds('--until', '0.1')).toBe(100_000);
  expect(usFromSeconds('--until', '38.430366')).toBe(38_430_366);
  for (const text of ['0', '-1', '1e3', '', '1.', '0.0000001', '1s']) {
    expect(() => usFromSeconds('--until', text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  }
});

test('a stretch is a positive whole number', () => {
  expect(stretchFrom('60')).toBe(60);
  for (const text of ['0', '-1', '1.5', '06', '', 'x']) {
    expect(() => stretchFrom(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  }
});

test('disk mappings are ID=FILE, once per ID', () => {
  expect([...diskMapping(['data=disk1', 'm/log=a=b/disk0.log'])]).toEqual([
    ['data', 'disk1'],
    ['m/log', 'a=b/disk0.log'],
  ]);
  for (const pairs of [['data'], ['=disk1'], ['data='], ['data=disk0', 'data=disk1']]) {
    expect(() => diskMapping(pairs)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  }
});

test('the folder lists its disks by number, and ends with the latest of them', async () => {
  expect(trace.disks.map(({ name, imageFile }) => [name, imageFile !== undefined])).toEqual([
    ['disk0', true],
    ['disk1', false],
    ['disk2', false],
  ]);
  expect(await traceEndUs(trace.disks, RUNNING)).toBe(7);
});

test('disks match by name, in machines that have one; the others of these machines are named', async () => {
  const wanted = group({ a: ['disk0', 'swap'], b: ['disk2'], c: ['data'] });
  expect(await selected(wanted)).toEqual(['a/disk0=trace/disk0.log', 'b/disk2=trace/disk2.log', 'a/swap']);
  expect(await selected(wanted, { machine: 'b' })).toEqual(['b/disk2=trace/disk2.log']);
  const { disks } = await selectDisks(wanted, trace, { machine: 'b', mapping: new Map() });
  expect(disks[0]).toMatchObject({ stream: { group: 'g', machine: 'b', disk: 'disk2', epoch: 3 }, diskSizeBytes: MIB });
});

test('--disk names a trace disk, a log or a path, and goes before the name', async () => {
  const wanted = group({ a: ['disk0', 'data'], b: ['data'] });
  expect(await selected(wanted, { disks: ['data=disk2', 'a/data=disk1.log.zst'] })).toEqual([
    'a/disk0=trace/disk0.log',
    'a/data=trace/disk1.log.zst',
    'b/data=trace/disk2.log',
  ]);
  expect(await selected(wanted, { machine: 'a', disks: [`disk0=${join(root, 'other', 'disk1.log.zst')}`] })).toEqual([
    'a/disk0=other/disk1.log.zst',
    'a/data',
  ]);
});

test.each<[string, string, Choice]>([
  ['a machine that the group does not have', 'USAGE', { machine: 'x' }],
  ['a disk that the group does not have', 'TRACE_DISK_UNMATCHED', { disks: ['x=disk0'] }],
  ['a disk of another machine', 'TRACE_DISK_UNMATCHED', { machine: 'a', disks: ['data=disk0'] }],
  ['machines without a match', 'TRACE_DISK_UNMATCHED', { machine: 'b' }],
  ['a trace disk that is not there', 'TRACE_NOT_FOUND', { disks: ['data=disk9'] }],
  ['a file that is no log', 'TRACE_NOT_FOUND', { disks: ['data=initial0.img'] }],
  ['a path to nowhere', 'TRACE_NOT_FOUND', { disks: ['data=nowhere/disk0.log'] }],
])('%s: %s', async (_, code, choice) => {
  await expect(selected(group({ a: ['disk0'], b: ['data'] }), choice)).rejects.toMatchObject({ code });
});

test('a disabled group takes no log', async () => {
  await expect(selected({ ...group({ a: ['disk0'] }), wanted: 'disabled' })).rejects.toMatchObject({
    code: 'GROUP_DISABLED',
  });
});
