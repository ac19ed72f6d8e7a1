/** Segments that are damaged, swapped or gone in the cache: each stops its own group, where its log was still sound, and nothing else. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { HEADER } from '../../src/log/layout.ts';
import { forge } from '../log/forge.ts';
import { Operator } from '../support/cli.ts';
import { extent } from '../support/extent.ts';
import { expectedPoints, isoOf, usOf } from '../support/point-oracle.ts';
import { useStack } from '../support/stack.ts';
import { download, overwrite, RawStorage, segmentPath } from '../support/storage.ts';
import { SYNTHETIC_DISK_BYTES, writeSyntheticTrace } from '../support/synthetic-trace.ts';
import { TraceReplay } from '../support/trace-oracle.ts';
import { exportNewest, type VerifyOptions, verifyPoints } from './verify-points.ts';

const stack = useStack();
const operator = new Operator(() => stack.environment);
let storage: RawStorage;
let dir: string;

const START_US = usOf('2026-11-20T04:13:15Z');
const STRETCH = 30;
/** Two seconds of the trace, once {@link FIRST} is shipped. */
const SEGMENT_SECONDS = 2 * STRETCH;
/** Three segments that are sound. */
const FIRST = ['--until', '18', '--segment-seconds', `${6 * STRETCH}`];
/** The segment that is damaged: it covers 04:24:15 to 04:25:15, and so one boundary. It begins at this second of the trace. */
const BAD = 6;
/** The last one of a group with a damaged segment, and the second of the trace at which it ends. */
const LAST = 8;
const LAST_SECONDS = '28';
const BAD_SECONDS = 22;
const DAMAGED_DISK = 'web/disk1';
const pathOf = (group: string, sequence: number, disk = DAMAGED_DISK): string =>
  segmentPath(`${group}/${disk}`, sequence);

interface Case {
  readonly group: string;
  readonly what: string;
  readonly code: string;
  readonly damage: (group: string) => Promise<void>;
}

const read = (name: string): Promise<Buffer> => download(storage.logs.getBlobClient(name));

/** Codes that are about a blob as a whole and name no place in it. */
const WITHOUT_OFFSET = ['LOG_SEQUENCE_GAP', 'LOG_TOO_LARGE'];

/** Puts what `change` makes of the segment's bytes in its place. */
const replaced =
  (change: (bytes: Buffer, group: string) => Buffer | Promise<Buffer>) =>
  async (group: string): Promise<void> =>
    overwrite(storage.logs, pathOf(group, BAD), await change(await read(pathOf(group, BAD)), group));

const CASES: readonly Case[] = [
  {
    group: 'gap',
    what: 'a missing segment',
    code: 'LOG_SEQUENCE_GAP',
    damage: async (group) => void (await storage.logs.deleteBlob(pathOf(group, BAD))),
  },
  {
    group: 'repeated',
    what: 'the segment before once more',
    code: 'LOG_WRONG_SEQUENCE',
    damage: replaced((_, group) => read(pathOf(group, BAD - 1))),
  },
  {
    group: 'reordered',
    what: 'two segments in each other’s place',
    code: 'LOG_WRONG_SEQUENCE',
    damage: async (group) => {
      const [bad, next] = [await read(pathOf(group, BAD)), await read(pathOf(group, BAD + 1))];
      await overwrite(storage.logs, pathOf(group, BAD), next);
      await overwrite(storage.logs, pathOf(group, BAD + 1), bad);
    },
  },
  {
    group: 'other-disk',
    what: 'a segment of the machine’s other disk',
    code: 'LOG_WRONG_DISK',
    damage: replaced((_, group) => read(pathOf(group, BAD, 'web/disk0'))),
  },
  {
    group: 'other-group',
    what: 'a segment of another group',
    code: 'LOG_WRONG_GROUP',
    damage: replaced(() => read(pathOf('sound', BAD))),
  },
  {
    group: 'other-epoch',
    what: 'a segment of another epoch',
    code: 'LOG_WRONG_EPOCH',
    damage: replaced((bytes) => forge(bytes, ({ head }) => void head.writeUInt32LE(2, HEADER.epoch))),
  },
  {
    group: 'forged-chain',
    what: 'a segment that follows another history',
    code: 'LOG_CHAIN',
    damage: replaced((bytes) => forge(bytes, ({ head }) => void head.fill(7, HEADER.previousDigest, HEADER.keyCheck))),
  },
  {
    group: 'flipped',
    what: 'a flipped bit in the payload',
    code: 'LOG_CHUNK_CHECKSUM',
    damage: replaced((bytes) => {
      bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
      return bytes;
    }),
  },
  {
    group: 'torn',
    what: 'a segment without its end',
    code: 'LOG_TRUNCATED',
    damage: replaced((bytes) => bytes.subarray(0, -1)),
  },
  { group: 'empty', what: 'an empty blob', code: 'LOG_TRUNCATED', damage: replaced(() => Buffer.alloc(0)) },
  {
    group: 'foreign',
    what: 'a blob that is no segment',
    code: 'LOG_MAGIC',
    damage: replaced(() => Buffer.alloc(4096, 'conectix')),
  },
  {
    group: 'giant',
    what: 'a blob beyond the limit',
    code: 'LOG_TOO_LARGE',
    damage: replaced((bytes) => Buffer.concat([bytes, Buffer.alloc(16 * 1024 * 1024)])),
  },
];

interface Status {
  readonly state: string;
  readonly health: string;
  readonly disks: readonly {
    disk: string;
    state: string;
    appliedThrough: string;
    defect: { code: string; blob: string; reason: string } | null;
  }[];
}
interface Message {
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly severity: string;
  readonly data: Record<string, unknown>;
}

const times = ['--start', isoOf(START_US), '--stretch', `${STRETCH}`];
const age = ['--segment-seconds', `${SEGMENT_SECONDS}`];
const ship = (who: Operator, group: string, more: readonly string[]) =>
  who.ok('source', 'ship', group, '--trace', dir, ...times, ...more);
const statusOf = (group: string) => operator.json<Status>('status', group);
const messages = (...more: string[]) => operator.jsonLines<Message>('monitor', 'tail', '--no-follow', ...more);

async function protect(group: string): Promise<void> {
  const disks = ['--disk', 'disk0=2MiB', '--disk', 'disk1=2MiB'];
  await operator.ok('group', 'protect', group, '--policy', 'p', '--machine', 'web', ...disks);
}

/** Points of the trace's 40 seconds, of those before the damaged segment, and of the first 18. */
const POINTS = { whole: 4 + 4, beforeBad: 2 + 2, before18: 2 + 2 } as const;

interface Part {
  /** Trace time before which was shipped what counts. */
  readonly untilUs?: number;
  readonly depthOf?: VerifyOptions['depthOf'];
}

/** Only the newest point is compared, in storage. */
const newestInStorage: Part['depthOf'] = (index, points) => (index === points.length - 1 ? 'snapshot' : 'list');

/** Lists and compares the points of the shipment: every byte of all, unless `depthOf` says otherwise. */
async function verify(group: string, points: number, part: Part = {}): Promise<void> {
  const { untilUs, depthOf = exportNewest('snapshot') } = part;
  const replays = [0, 1].map((disk) => new TraceReplay(dir, disk));
  const shipment = { dir, startUs: START_US, stretch: STRETCH, ...(untilUs !== undefined && { untilUs }) };
  const disks = replays.map((replay, disk) => ({ machine: 'web', disk: `disk${disk}`, replay }));
  const expected = expectedPoints(shipment, replays, 'boundaries');
  expect(expected).toHaveLength(points);
  await verifyPoints({ operator, storage, group, disks, expected, depthOf, folder: stack.home });
}

/** SHA-256 of a disk after every entry before trace time `seconds`. */
function replayedSha256(disk: number, seconds: number): string {
  const replay = new TraceReplay(dir, disk);
  replay.advance({ beforeUs: seconds * 1e6, startUs: 0, stretch: 1 });
  return replay.sha256();
}

async function seedSha256(disk: string): Promise<string> {
  const bytes = await storage.seed(disk).downloadToBuffer(0, SYNTHETIC_DISK_BYTES);
  return createHash('sha256').update(bytes).digest('hex');
}

beforeAll(async () => {
  storage = new RawStorage(stack.environment);
  dir = await writeSyntheticTrace(join(stack.home, 'trace'));
  await operator.ok('policy', 'set', 'p', '--app-consistent-hours', '1');
}, 60_000);

describe('a worker of many groups', () => {
  const groups = ['sound', ...CASES.map(({ group }) => group)];
  let secondRun: Awaited<ReturnType<Operator['run']>>;
  let thirdRun: typeof secondRun;
  let allMessages: readonly Message[];

  beforeAll(async () => {
    for (const group of groups) {
      await protect(group);
      await ship(operator, group, FIRST);
    }
    await operator.ok('worker', 'run', '--once');
    await ship(operator, 'sound', age);
    for (const { group } of CASES) await ship(operator, group, [...age, '--until', LAST_SECONDS]);
    for (const { group, damage } of CASES) await damage(group);
    secondRun = await operator.run('worker', 'run', '--once', '--json');
    thirdRun = await operator.run('worker', 'run', '--once', '--json');
    allMessages = await messages();
  }, 120_000);

  it.each([
    ['', () => secondRun],
    [', once more when it comes again', () => thirdRun],
  ] as const)('ends with 3 and names the groups that need attention%s', (_when, run) => {
    const { exitCode, stdout, stderr } = run();
    expect(exitCode).toBe(3);
    const { groups: outcomes } = JSON.parse(stdout) as { groups: unknown[] };
    const expected = groups.map((group) => ({ group, needsAttention: group !== 'sound' }));
    expect(outcomes).toHaveLength(expected.length);
    expect(outcomes).toEqual(expect.arrayContaining(expected));
    for (const { group } of CASES) expect(stderr).toContain(`group ${group} needs a resync`);
  });

  it('goes on with a sound group', async () => {
    expect(await statusOf('sound')).toMatchObject({ state: 'protected' });
    expect((await operator.run('worker', 'run', '--once', '--group', 'sound')).exitCode).toBe(0);
    await verify('sound', POINTS.whole);
  });

  describe.each(CASES.map((one) => [one.what, one] as const))('that meets %s', (_what, { group, code }) => {
    const blob = `replication-logs/${pathOf(group, BAD)}`;

    it(`stops the group with ${code}`, async () => {
      const status = await statusOf(group);
      expect(status).toMatchObject({ state: 'resync-required', health: 'Critical' });
      const [disk0, disk1] = status.disks;
      expect(disk0).toMatchObject({ disk: 'disk0', state: 'protected', defect: null });
      expect(disk1).toMatchObject({ disk: 'disk1', state: 'resync-required', defect: { code, blob } });
      expect(disk1?.appliedThrough).toBe(isoOf(START_US + BAD_SECONDS * 1e6 * STRETCH));
    });

    it('leaves on the seeds what came before, and not a byte more', async () => {
      expect(await seedSha256(`${group}/web/disk1`)).toBe(replayedSha256(1, BAD_SECONDS));
      // The sound disk stops at the boundary at 04:25, which the group cannot cut any more.
      expect(await seedSha256(`${group}/web/disk0`)).toBe(replayedSha256(0, 23.5));
    });

    it('keeps the points and the log', async () => {
      await verify(group, POINTS.beforeBad, { untilUs: BAD_SECONDS * 1e6, depthOf: newestInStorage });
      const left = await storage.segments(`${group}/web/disk1`);
      const isThere = (sequence: number) => left.includes(pathOf(group, sequence));
      expect([BAD, BAD + 1, LAST].map(isThere)).toEqual([group !== 'gap', true, true]);
    });

    it('says so once', () => {
      const alarms = allMessages.filter(
        ({ type, source }) => type === 'Tidemark.ResyncRequired' && source === `/tidemark/groups/${group}`,
      );
      expect(alarms).toHaveLength(1);
      expect(alarms[0]).toMatchObject({ severity: 'critical', data: { machine: 'web', disk: 'disk1', blob, code } });
      const offset = WITHOUT_OFFSET.includes(code) ? null : (expect.any(Number) as number);
      expect(alarms[0]?.data['offset']).toEqual(offset);
    });
  });
});

describe('a sealed log', () => {
  const key = (name: string): string => createHash('sha256').update(name).digest('hex');
  const right = operator.with({ TIDEMARK_LOG_KEY: key('right') });
  const wrong = operator.with({ TIDEMARK_LOG_KEY: key('wrong') });
  const work = ['worker', 'run', '--once', '--group', 'sealed'];
  const observed = async () => ({
    status: (await statusOf('sealed')).disks,
    points: await operator.json<unknown[]>('point', 'list', 'sealed'),
    seeds: await Promise.all(
      [0, 1].map(async (disk) => (await storage.seed(`sealed/web/disk${disk}`).getProperties()).etag),
    ),
  });

  beforeAll(async () => {
    await protect('sealed');
    await ship(right, 'sealed', FIRST);
    await right.ok(...work);
    await ship(right, 'sealed', age);
  }, 60_000);

  it.each([
    ['no key', 'LOG_KEY_MISSING', operator],
    ['a wrong key', 'LOG_KEY_WRONG', wrong],
  ] as const)('is left alone by a worker with %s', async (_what, code, who) => {
    const before = await observed();
    const { exitCode, stderr } = await who.run(...work);
    expect(exitCode).toBe(3);
    expect(stderr).toMatch(new RegExp(`^group sealed: error\\[${code}\\]: .+\nhint: .+\n$`));
    expect(await observed()).toEqual(before);
    expect((await statusOf('sealed')).state).toBe('protected');
  });

  it('is drained as soon as the right key is there', async () => {
    await right.ok(...work);
    await verify('sealed', POINTS.whole, extent({ quick: { depthOf: newestInStorage }, full: {} }));
    const types = (await messages('--group', 'sealed')).map(({ type }) => type);
    expect(types).not.toContain('Tidemark.ResyncRequired');
  });

  it('is not mixed up with an open one', async () => {
    await protect('open');
    await ship(operator, 'open', FIRST);
    const { exitCode, stderr } = await right.run('worker', 'run', '--once', '--group', 'open');
    expect(exitCode).toBe(3);
    expect(stderr).toContain('error[LOG_NOT_SEALED]');
    await operator.ok('worker', 'run', '--once', '--group', 'open');
    await verify('open', POINTS.before18, {
      untilUs: 18e6,
      ...extent({ quick: { depthOf: newestInStorage }, full: {} }),
    });
  });
});
