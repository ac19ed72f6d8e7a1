/** The key of a group's sealed log is changed in mid-log: the worker and the source go on with the new key and the one before it. */
import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { protectGroup } from '../../src/catalog/groups.ts';
import { setPolicy } from '../../src/catalog/policies.ts';
import { encodeSegment } from '../../src/log/encode.ts';
import { createLogKey, type LogKey } from '../../src/log/seal.ts';
import { createMemoryStorage } from '../../src/memory/memory-storage.ts';
import { MemoryTopic } from '../../src/memory/memory-topic.ts';
import { MIB } from '../../src/model/sizes.ts';
import { listPoints } from '../../src/points/point-store.ts';
import { readBookmark } from '../../src/source/bookmark.ts';
import { Worker } from '../../src/worker/worker.ts';
import { DISK_BYTES, type ModelEntry, replay, START_US, streamsOf } from '../support/model-log.ts';
import { live, newWorld } from './discard-support.ts';

const STREAM = { group: 'shop', machine: 'web', disk: 'disk0', epoch: 1 };
const master = (text: string): Buffer => createHash('sha256').update(text).digest();
const OLD = createLogKey(master('old'));
const NEW = createLogKey(master('new'));
const CHANGED = createLogKey(master('new'), OLD);
const MINUTE_US = 60_000_000;

const write = (minutes: number, fill: number): ModelEntry => ({
  record: { kind: 'write', timeUs: START_US + minutes * MINUTE_US, offsetBytes: 4096 * minutes, lengthBytes: 4096 },
  data: Buffer.alloc(4096, fill),
});

/** Three segments: the last one is sealed with the new key, and its window reaches back into the second one. */
async function shipped() {
  const storage = createMemoryStorage();
  await setPolicy(storage.catalog, 'p', { appConsistentHours: 0 }, live);
  const machines = [{ machine: 'web', disks: [{ disk: 'disk0', sizeBytes: DISK_BYTES }] }];
  await protectGroup(storage.catalog, { group: 'shop', policy: 'p', machines, nowUs: START_US }, live);
  const parts: [ModelEntry[], number, LogKey][] = [
    [streamsOf([], 1).streams[0] ?? [], START_US + 1, OLD],
    [[write(1, 0x31), write(5, 0x35)], START_US + 6 * MINUTE_US, OLD],
    [[write(7, 0x37)], START_US + 10 * MINUTE_US, NEW],
  ];
  let previousDigest: Buffer = Buffer.alloc(32);
  let recordsBefore = 0;
  let firstTimeUs = START_US;
  for (const [index, [entries, endTimeUs, key]] of parts.entries()) {
    const place = { stream: STREAM, diskSizeBytes: DISK_BYTES, sequence: index + 1, streamStartUs: START_US };
    const given = entries.map(({ record, data }) => (data === undefined ? { record } : { record, data }));
    const header = { ...place, recordsBefore, firstTimeUs, endTimeUs, previousDigest };
    const { bytes, digest } = encodeSegment(header, given, { key });
    await (await storage.logUpload.stage(STREAM, index + 1, bytes, live)).commit(live);
    [previousDigest, firstTimeUs, recordsBefore] = [digest, endTimeUs, recordsBefore + entries.length];
  }
  return { storage, entries: parts.flatMap(([entries]) => entries) };
}

async function drain(storage: ReturnType<typeof createMemoryStorage>, key: LogKey): Promise<unknown> {
  const { ports } = await newWorld(storage);
  const topic = new MemoryTopic({ now: () => new Date(0), duplicateWindowMs: 60_000 });
  const settings = { payloadBudgetBytes: 64 * MIB, requestsPerDisk: 4, requestsPerAccount: 8, rate: undefined, key };
  const worker = new Worker({ ports: { ...ports, topic }, settings, groups: [], report: () => undefined });
  return (await worker.runOnce(live))[0]?.error;
}

it('the worker makes the same points, and neither key alone is enough', async () => {
  const { storage, entries } = await shipped();
  expect(await drain(storage, NEW)).toMatchObject({ code: 'LOG_KEY_WRONG' });
  expect(await listPoints(storage.catalog, 'shop', live)).toEqual([]);
  expect(await drain(storage, OLD)).toMatchObject({ code: 'LOG_KEY_WRONG' });
  expect(await drain(storage, CHANGED)).toBeUndefined();
  const points = await listPoints(storage.catalog, 'shop', live);
  expect(points.map(({ cutUs }) => (cutUs - START_US) / MINUTE_US)).toEqual([4, 9]);
  for (const { cutUs, disks } of points) {
    const bytes = await storage.seeds.reader(STREAM).read(disks[0]?.snapshot ?? '', 0, DISK_BYTES, live);
    expect(bytes.equals(replay(entries.filter(({ record }) => record.timeUs < cutUs)))).toBe(true);
  }
});

it('the source goes on behind what it sealed with either key', async () => {
  const { storage } = await shipped();
  const options = {
    stream: STREAM,
    diskSizeBytes: DISK_BYTES,
    upload: storage.logUpload,
    log: storage.logStore,
    signal: live,
  };
  expect(await readBookmark({ ...options, key: CHANGED })).toMatchObject({ last: { header: { sequence: 3 } } });
  await expect(readBookmark({ ...options, key: OLD })).rejects.toMatchObject({ code: 'SOURCE_MISMATCH' });
  await storage.logStore.delete(STREAM, 3, live);
  expect(await readBookmark({ ...options, key: CHANGED })).toMatchObject({ last: { header: { sequence: 2 } } });
});
