import { beforeAll, describe, expect, it } from 'vitest';
import { DISK_BYTES, START_US } from '../support/model-log.ts';
import { WHOLE_DAMAGES } from './damage.ts';
import { anyGroup, BYSTANDER, VICTIM, type GroupLogs } from './hostile-world.ts';
import { judgeScene, judgeWorker, type WorkerVerdict } from './judge-worker.ts';
import { createRandom } from './random.ts';
import { encodeLog } from './sound-logs.ts';

/** Seeds 1 to this; `npm run fuzz` goes on from there. */
const DAMAGED_LOGS = 250;

describe(`${DAMAGED_LOGS} damaged logs in front of a worker`, () => {
  const verdicts: WorkerVerdict[] = [];
  const findings: unknown[] = [];

  beforeAll(async () => {
    for (let seed = 1; seed <= DAMAGED_LOGS; seed++) {
      await judgeWorker(seed).then(
        (verdict) => verdicts.push(verdict),
        (error: unknown) => findings.push(error),
      );
    }
  });

  it('never touch a seed or a point, are reported once, and hold up no other group', () => {
    expect(findings.map(String)).toEqual([]);
  });

  it('end in each of the ways that there are', () => {
    const count = (end: WorkerVerdict['end']): number => verdicts.filter((verdict) => verdict.end === end).length;
    expect(count('resync')).toBeGreaterThan(DAMAGED_LOGS / 2);
    expect(count('sound')).toBeGreaterThan(DAMAGED_LOGS / 25);
    expect(count('operator')).toBeGreaterThan(0);
    expect(count('leap')).toBeLessThan(DAMAGED_LOGS / 20);
  });

  it('have segments missing, swapped, repeated and from elsewhere', () => {
    expect(WHOLE_DAMAGES.filter((name) => !verdicts.some(({ what }) => what[0] === name))).toEqual([]);
    expect(new Set(verdicts.map(({ code }) => code)).size).toBeGreaterThan(20);
  });
});

/** A write, and a discard of the whole disk in the next segment of the same window. */
function buriedWrite(): GroupLogs {
  const base = { record: { kind: 'base-complete', timeUs: START_US } } as const;
  const at = { timeUs: START_US + 1, offsetBytes: 0 };
  const write = { record: { kind: 'write', ...at, lengthBytes: 4096 }, data: Buffer.alloc(4096, 7) } as const;
  const discard = { record: { kind: 'discard', ...at, lengthBytes: DISK_BYTES } } as const;
  const endUs = START_US + 600_000_000;
  const stream = { group: VICTIM, machine: 'm', disk: 'disk0', epoch: 1 };
  const log = encodeLog({
    stream,
    diskSizeBytes: DISK_BYTES,
    segments: [
      { entries: [base], endUs: START_US },
      { entries: [write], endUs: START_US + 1 },
      { entries: [discard], endUs },
    ],
    isSealed: false,
  });
  return { group: VICTIM, logs: [log], endUs };
}

describe('a damaged chunk that later records bury', () => {
  it.each([false, true])('is found all the same (worker has run before: %s)', async (isLate) => {
    const victim = buriedWrite();
    const blobs = new Map(victim.logs[0]?.segments.map(({ bytes }, index) => [index + 1, Buffer.from(bytes)]));
    const damaged = blobs.get(2) ?? Buffer.alloc(0);
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 1) ^ 1, damaged.length - 1);
    const bystander = anyGroup(BYSTANDER, createRandom(1), { diskCount: 1, isSealed: false });
    const scene = { victim, bystander, disk: 0, damage: { what: ['buried'], blobs, sequence: 2 } };
    expect(await judgeScene(0, scene, isLate)).toMatchObject({ end: 'resync', code: 'LOG_CHUNK_CHECKSUM' });
  });
});
