import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PlainReplay } from '../../src/demo/plain-replay.ts';
import { usFromIso } from '../../src/model/time.ts';
import { writeTrace } from '../source/make-trace.ts';
import { expectations, sha256, tracePath } from '../support/trace-oracle.ts';
import { DISK_BYTES, END_US, ENTRIES, imageAfter, STRETCH, writeSmallTrace } from './small-trace.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidemark-replay-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('a made trace', () => {
  it('holds after each entry what the entries say', async () => {
    const replay = await PlainReplay.load(await writeSmallTrace(folder));
    expect([replay.image.length, replay.endUs]).toEqual([DISK_BYTES, END_US]);
    for (let entries = 0; entries <= ENTRIES.length; entries++) {
      replay.advance(entries);
      expect(replay.image.equals(imageAfter(entries)), `after ${entries} entries`).toBe(true);
    }
  });

  it('expects a point at each boundary and at each app mark, in the order of their cuts', async () => {
    const replay = await PlainReplay.load(await writeSmallTrace(folder));
    const points = replay.expectedPoints(usFromIso('2026-11-23T04:00:00Z'), STRETCH);
    expect(points.map(({ point, entries }) => `${point} ${entries}`)).toEqual([
      '20261123T040000.000000Z-crash 0',
      '20261123T040500.000000Z-crash 2',
      '20261123T040642.000000Z-app 3',
      '20261123T041000.000000Z-crash 4',
      '20261123T041500.000000Z-crash 7',
      '20261123T042000.000000Z-crash 7',
      '20261123T042500.000000Z-crash 8',
      '20261123T043000.000000Z-crash 9',
      '20261123T043330.000000Z-app 9',
      '20261123T043500.000000Z-crash 10',
      '20261123T044000.000000Z-crash 11',
    ]);
    expect(points.flatMap(({ recordedSha256 }) => recordedSha256 ?? [])).toEqual(
      [3, 9].map((n) => sha256(imageAfter(n))),
    );
  });

  it('leaves a write at the very time of a boundary to the next point, and ends with a boundary at the final watermark', async () => {
    const replay = await PlainReplay.load(await writeSmallTrace(folder));
    const fiveSecondsBefore = usFromIso('2026-11-23T04:00:00Z') - 5_000_000;
    const [first] = replay.expectedPoints(fiveSecondsBefore, 1);
    expect(first).toMatchObject({ point: '20261123T040000.000000Z-crash', entries: 2 });
    const last = replay.expectedPoints(usFromIso('2026-11-23T04:00:00Z') - END_US, 1).at(-1);
    expect(last).toMatchObject({ point: '20261123T040000.000000Z-crash', entries: ENTRIES.length - 1 });
  });
});

describe('the bundled trace', () => {
  it('has at its app marks and at its end the hashes of its recording', async () => {
    const dir = tracePath('t2-ext4-postgres');
    const replay = await PlainReplay.load(dir);
    const marks = replay.expectedPoints(0, 1).filter(({ kind }) => kind === 'app');
    expect(marks).toHaveLength(7);
    for (const { entries, recordedSha256 } of marks) {
      replay.advance(entries);
      expect(sha256(replay.image)).toBe(recordedSha256);
    }
    const { entries, final_sha256 } = expectations(dir);
    replay.advance(entries[0] ?? 0);
    expect(sha256(replay.image)).toBe(final_sha256[0]);
  });
});

describe('folders that the demo does not take', () => {
  it('refuses several disks, and expectations that are missing or are none', async () => {
    const disk = { entries: ENTRIES };
    const invalid = expect.objectContaining({ code: 'DEMO_TRACE_INVALID' });
    await expect(PlainReplay.load(await writeTrace(join(folder, 'two'), [disk, disk]))).rejects.toEqual(invalid);
    const one = await writeTrace(join(folder, 'one'), [disk]);
    await expect(PlainReplay.load(one)).rejects.toEqual(invalid);
    await writeFile(join(one, 'expect.json'), '{"disk_size": [7], "marks": []}');
    await expect(PlainReplay.load(one)).rejects.toEqual(invalid);
    await expect(PlainReplay.load(join(folder, 'none'))).rejects.toMatchObject({ code: 'TRACE_NOT_FOUND' });
  });
});
