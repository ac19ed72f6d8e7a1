/** From a log to the manifest and the message: what the worker does by itself, and what `point verify` adds. */
import { describe, expect, it } from 'vitest';
import { TidemarkError } from '../../src/errors.ts';
import { CrashingGate, interceptPorts } from '../simulation/gated-ports.ts';
import { Worker } from '../../src/worker/worker.ts';
import { DISKS, GROUP, MACHINE, signal, stillClock, World } from '../simulation/world.ts';
import { DISK_BYTES, START_US, type ModelEntry } from '../support/model-log.ts';
import { unpack } from './packed.ts';

const KEY = { group: GROUP, machine: MACHINE, disk: DISKS[0] };
const FAT_AT = 512;
const MINUTE_US = 60_000_000;

/** What happens in one minute: the file allocation table is broken, repaired, or something else is written; then comes a mark. */
type Step = 'break' | 'repair' | 'write';

function streamOf(image: Buffer, steps: readonly Step[]): { stream: ModelEntry[]; endUs: number } {
  const write = (timeUs: number, offsetBytes: number, data: Buffer): ModelEntry => ({
    record: { kind: 'write', timeUs, offsetBytes, lengthBytes: data.length },
    data,
  });
  const stream: ModelEntry[] = [
    write(START_US, 0, image.subarray(0, DISK_BYTES)),
    { record: { kind: 'base-complete', timeUs: START_US } },
  ];
  const sound = Buffer.from(image.subarray(FAT_AT, FAT_AT + 512));
  for (const [index, step] of steps.entries()) {
    const timeUs = START_US + (index + 1) * MINUTE_US;
    if (step === 'write') stream.push(write(timeUs, DISK_BYTES - 512, Buffer.alloc(512, index + 1)));
    else stream.push(write(timeUs, FAT_AT, step === 'repair' ? sound : Buffer.alloc(512, 0x5a)));
    stream.push({ record: { kind: 'mark', timeUs: timeUs + 1, markKind: 'app', id: `mark ${index}` } });
  }
  return { stream, endUs: START_US + (steps.length + 1) * MINUTE_US };
}

async function shipped(steps: readonly Step[], image = unpack('fat12')): Promise<World> {
  const world = await World.create({ diskCount: 1 });
  const { stream, endUs } = streamOf(image, steps);
  await world.shipAll([stream], [3], endUs);
  return world;
}

/** Cycles until nothing is left to look at. */
async function rest(world: World): Promise<void> {
  await world.drain();
  for (const _ of (await world.points()).keys()) await world.drain();
}

async function verifiedOf(world: World) {
  const points = await world.points();
  return points.map(({ manifest: { kind, verified } }) => ({ kind, verified }));
}

interface Told {
  readonly type: string;
  readonly severity: string;
  readonly data: { readonly point: string; readonly soundPoint: string | null; readonly bytesVerified: boolean };
}

async function told(world: World): Promise<Told[]> {
  const bodies = (await world.messages()).map(({ body }) => body as Told);
  return bodies.filter(({ type }) => type === 'Tidemark.PointNotRecoverable' || type === 'Tidemark.PointDamaged');
}

const found = (verdict: string, text: string, inherited = false) => ({
  machine: MACHINE,
  disk: DISKS[0],
  verdict,
  text,
  inherited,
});
const CLEAN = found('ok', 'vfat clean');
const BROKEN = found('damaged', 'vfat damaged (file allocation table)');

describe('a worker', () => {
  it('inspects each app-consistent point, one in a cycle, and says that it read no bytes', async () => {
    const world = await shipped(['write', 'write', 'write', 'write', 'write']);
    await world.drain();
    expect((await verifiedOf(world)).filter(({ verified }) => verified !== null)).toHaveLength(1);
    await rest(world);
    const all = await verifiedOf(world);
    expect(all.map(({ kind }) => kind).toSorted()).toEqual(['app', 'app', 'app', 'app', 'app', 'crash']);
    for (const { kind, verified } of all) {
      if (kind === 'app') expect(verified).toMatchObject({ ok: true, bytes: false, disks: [CLEAN] });
      else expect(verified).toBeNull();
    }
    expect(await told(world)).toEqual([]);
  });

  it('tells once when a disk becomes damaged, and again when it is damaged after a repair', async () => {
    const world = await shipped(['write', 'break', 'write', 'repair', 'break']);
    await rest(world);
    const points = (await world.points()).filter(({ manifest }) => manifest.kind === 'app');
    expect(points.map(({ manifest }) => manifest.verified?.disks)).toEqual(
      [CLEAN, BROKEN, BROKEN, CLEAN, BROKEN].map((disk) => [disk]),
    );
    expect(points.map(({ manifest }) => manifest.verified?.ok)).toEqual([true, false, false, true, false]);
    const names = points.map(({ manifest }) => manifest.point);
    const events = await told(world);
    expect(events.map(({ severity }) => severity)).toEqual(['critical', 'critical']);
    expect(events.map(({ data }) => data)).toEqual([
      {
        point: names[1],
        bytesVerified: false,
        disks: [{ machine: MACHINE, disk: DISKS[0], text: BROKEN.text }],
        soundPoint: names[0],
      },
      expect.objectContaining({ point: names[4], soundPoint: names[3] }),
    ]);
  });

  it('makes no noise about a disk that was damaged when it was first looked at, nor about one with nothing known', async () => {
    const broken = unpack('fat12');
    broken.fill(0x5a, FAT_AT, FAT_AT + 512);
    for (const [image, disk] of [
      [broken, found('damaged', BROKEN.text, true)],
      [Buffer.alloc(DISK_BYTES, 'noise'), found('unknown', 'no file system known')],
    ] as const) {
      const world = await shipped(['write', 'write'], image);
      await rest(world);
      const inspected = (await verifiedOf(world)).filter(({ kind }) => kind === 'app');
      expect(inspected).toHaveLength(2);
      for (const { verified } of inspected) expect(verified).toMatchObject({ ok: true, disks: [disk] });
      const results = await world.worker().verify(GROUP, [], signal);
      expect(results.every(({ ok }) => ok)).toBe(true);
      expect(await told(world)).toEqual([]);
    }
  });

  it('that dies at any step tells of damage once, and looks at every point', async () => {
    let atCall = 1;
    for (let died = true; died; atCall++) {
      for (const side of ['before', 'after'] as const) {
        const world = await shipped(['write', 'break', 'write']);
        await world.drain();
        const gate = new CrashingGate(atCall, side);
        await world.worker(gate).runOnce(new AbortController().signal); // inspects the broken one
        died = gate.dead;
        await rest(world);
        const inspected = (await verifiedOf(world)).filter(({ kind }) => kind === 'app');
        expect(inspected.map(({ verified }) => verified?.ok)).toEqual([true, false, false]);
        expect(await told(world)).toHaveLength(1);
      }
    }
    expect(atCall).toBeGreaterThan(6);
  });

  it('replicates and reports on while snapshots cannot be read, and looks when they can', async () => {
    const world = await shipped(['write', 'break']);
    const unreadable = interceptPorts({ ...world.storage, topic: world.topic }, async ({ name, args }, perform) => {
      if (name === 'seed.read') throw new TidemarkError('STORAGE_UNAVAILABLE', 'snapshots cannot be read');
      return perform(args);
    });
    const reported: unknown[] = [];
    const stop = new AbortController();
    const worker = new Worker({
      ports: { ...unreadable, clock: stillClock, random: () => 0.5 },
      settings: {
        payloadBudgetBytes: 2 ** 26,
        requestsPerDisk: 4,
        requestsPerAccount: 8,
        rate: undefined,
        key: undefined,
      },
      groups: [GROUP],
      report: ({ error }) => {
        reported.push(error);
        stop.abort();
      },
    });
    await worker.runOnce(stop.signal);
    expect(reported).toEqual([expect.objectContaining({ code: 'STORAGE_UNAVAILABLE' })]);
    const types = (await world.messages()).map(({ body }) => (body as Told).type);
    expect(types.filter((type) => type === 'Tidemark.PointCreated')).toHaveLength(2);
    expect((await verifiedOf(world)).map(({ verified }) => verified)).toEqual([null, null]);
    await rest(world);
    expect((await verifiedOf(world)).map(({ verified }) => verified?.ok)).toEqual([true, false]);
  });
});

describe('point verify', () => {
  it('adds the bytes to what was inspected, and tells each time', async () => {
    const world = await shipped(['write', 'break']);
    await rest(world);
    const results = await world.worker().verify(GROUP, [], signal);
    expect(results.map(({ ok, damaged, disks }) => ({ ok, extents: damaged.length, disks }))).toEqual([
      { ok: true, extents: 0, disks: [CLEAN] },
      { ok: false, extents: 0, disks: [BROKEN] },
    ]);
    expect((await verifiedOf(world)).map(({ verified }) => [verified?.ok, verified?.bytes])).toEqual([
      [true, true],
      [false, true],
    ]);
    const events = (await told(world)).map(({ type, data }) => [type, data.bytesVerified, data.soundPoint]);
    const [first] = results.map(({ point }) => point);
    const type = 'Tidemark.PointNotRecoverable';
    expect(events).toEqual([
      [type, false, first],
      [type, true, first],
    ]);
  });

  it('of bytes that changed in storage tells that, and not what follows from it', async () => {
    const world = await shipped(['write', 'write']);
    await rest(world);
    const [first] = await world.points();
    world.storage.seeds.damage(KEY, first?.manifest.disks[0]?.snapshot ?? '', FAT_AT);
    const [result] = await world.worker().verify(GROUP, [first?.manifest.point ?? ''], signal);
    expect(result).toMatchObject({ ok: false, disks: [{ verdict: 'damaged', inherited: true }] });
    expect((await told(world)).map(({ type }) => type)).toEqual(['Tidemark.PointDamaged']);
  });

  it('of a snapshot that is gone is damage whatever was found before', async () => {
    const world = await shipped(['write']);
    await rest(world);
    const [point] = await world.points();
    const { snapshot } = point?.manifest.disks[0] ?? { snapshot: '' };
    const seed = await world.storage.seeds.open(KEY, DISK_BYTES, Buffer.alloc(512), signal);
    await seed.deleteSnapshot(snapshot, signal);
    await seed.close(signal);
    const [result] = await world.worker().verify(GROUP, [], signal);
    expect(result).toMatchObject({ ok: false, disks: [found('damaged', 'the snapshot is missing')] });
  });
});

it('a manifest from before inspections reads as one whose bytes were verified', async () => {
  const world = await shipped(['write']);
  const { catalog } = world.storage;
  await world.drain();
  const [point] = await world.points();
  const name = `points/${GROUP}/${point?.manifest.point}.json`;
  const blob = await catalog.read(name, signal);
  const manifest = JSON.parse(String(blob?.bytes)) as object;
  const old = { ...manifest, verified: { at: '2026-11-23T05:00:00.000000Z', ok: true } };
  await catalog.replace(name, Buffer.from(JSON.stringify(old)), blob?.etag ?? '', undefined, signal);
  await rest(world);
  const [after] = await world.points();
  expect(after?.manifest.verified).toEqual({ at: '2026-11-23T05:00:00.000000Z', ok: true, bytes: true });
});
