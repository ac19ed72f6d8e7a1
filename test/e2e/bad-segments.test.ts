/**
 * Damaged segments of the fixtures, met by a real worker on real storage: one of each code, in a full run every one (the decoder meets all
 * of them in test/log). The fixtures are second segments of one stream, so the
 * group's documents are put where they would be after the first.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { encodeSegment } from '../../src/log/encode.ts';
import { DECODED_WITH_KEY } from '../log/bad-segments.ts';
import { diskSizeBytes, mixedEntries, secondExpectation, secondHeader, stream } from '../log/standard.ts';
import { isFullRun } from '../support/extent.ts';
import { Operator } from '../support/cli.ts';
import { useStack } from '../support/stack.ts';
import { download, overwrite, RawStorage, segmentPath } from '../support/storage.ts';

const stack = useStack();
const keyless = new Operator(() => stack.environment);
/** The key of test/log/standard.ts, as an operator gives it. */
const keyed = keyless.with({ TIDEMARK_LOG_KEY: createHash('sha256').update('tidemark test key').digest('hex') });

const folder = fileURLToPath(new URL('../fixtures/log/bad/', import.meta.url));
const codeOf = (fixture: string): string => fixture.split('-')[0] ?? '';
const fixtures = readdirSync(folder)
  .map((file) => file.replace(/\.seg$/, ''))
  .filter((fixture, index, all) => isFullRun || codeOf(fixture) !== codeOf(all[index - 1] ?? ''));
/** Not the log's fault: the operator has to see to the key, and the log goes on afterwards. */
const isForOperator = (code: string): boolean => /_KEY_|NOT_SEALED/.test(code);

const { group, machine, disk, epoch } = stream;
const segment = segmentPath(`${group}/${machine}/${disk}`, 2, epoch);
const PROGRESS = `progress/${group}.json`;
const SENTINEL = 0xa5;
let storage: RawStorage;
let progressBefore: Progress;

interface Status {
  readonly state: string;
  readonly messagesWaiting: number;
  readonly disks: readonly { defect: unknown }[];
}

interface Progress {
  readonly outbox: unknown;
  readonly disks: readonly Record<string, unknown>[];
}

const readJson = async (name: string): Promise<unknown> =>
  JSON.parse((await download(storage.catalog.getBlobClient(name))).toString('utf8'));
const writeJson = (name: string, value: unknown): Promise<void> =>
  overwrite(storage.catalog, name, Buffer.from(JSON.stringify(value)));
const readProgress = async (): Promise<Progress> => (await readJson(PROGRESS)) as Progress;
const seedTag = async () => (await storage.seed(`${group}/${machine}/${disk}`).getProperties()).etag;

/** Puts the group back behind the first segment; message numbers go on, as duplicate detection wants it. */
async function standBehindFirst(): Promise<void> {
  await writeJson(PROGRESS, { ...progressBefore, outbox: (await readProgress()).outbox });
}

const work = (fixture: string) =>
  (DECODED_WITH_KEY.includes(codeOf(fixture)) ? keyed : keyless).run('worker', 'run', '--once');

beforeAll(async () => {
  storage = new RawStorage(stack.environment);
  await storage.logs.createIfNotExists();
  await keyless.ok('policy', 'set', 'p');
  const machineAndDisk = ['--machine', machine, '--disk', `${disk}=${diskSizeBytes}`];
  await keyless.ok('group', 'protect', group, '--policy', 'p', ...machineAndDisk);
  const document = (await readJson(`groups/${group}.json`)) as Record<string, unknown>;
  await writeJson(`groups/${group}.json`, {
    ...document,
    machines: [{ machine, disks: [{ disk, sizeBytes: diskSizeBytes, epoch }] }],
  });
  await keyless.ok('worker', 'run', '--once');
  const { previous } = secondExpectation;
  const place = { sequence: 2, record: 0, previous: { ...previous, digest: previous?.digest.toString('hex') } };
  const fresh = await readProgress();
  progressBefore = { ...fresh, disks: fresh.disks.map((known) => ({ ...known, applied: place, cut: place })) };
  const pages = Buffer.alloc(4 * 1024 * 1024, SENTINEL);
  const seed = storage.seed(`${group}/${machine}/${disk}`);
  for (let at = 0; at < diskSizeBytes; at += pages.length) await seed.uploadPages(pages, at, pages.length);
}, 60_000);

describe('a worker that meets', () => {
  it.each(fixtures)('%s', async (fixture) => {
    const code = codeOf(fixture);
    const bytes = readFileSync(`${folder}${fixture}.seg`);
    await standBehindFirst();
    await overwrite(storage.logs, segment, bytes);
    const before = await seedTag();
    const { exitCode, stderr } = await work(fixture);
    expect(exitCode).toBe(3);
    expect(await seedTag()).toBe(before);
    expect((await download(storage.logs.getBlobClient(segment))).equals(bytes)).toBe(true);
    const { state, messagesWaiting, disks } = await keyless.json<Status>('status', group);
    expect(messagesWaiting).toBe(0);
    if (isForOperator(code)) {
      expect(stderr).toContain(`error[${code}]`);
      expect({ state, defect: disks[0]?.defect }).toEqual({ state: 'initial-replication', defect: null });
    } else {
      expect(state).toBe('resync-required');
      expect(disks[0]?.defect).toMatchObject({ code, blob: `replication-logs/${segment}` });
    }
  });

  it('a sound one in the same place applies it', async () => {
    await standBehindFirst();
    await overwrite(storage.logs, segment, encodeSegment(secondHeader, mixedEntries()).bytes);
    const before = await seedTag();
    expect((await work('sound')).exitCode).toBe(0);
    expect(await seedTag()).not.toBe(before);
    const head = await storage.seed(`${group}/${machine}/${disk}`).downloadToBuffer(0, 512);
    expect(head.toString('latin1')).toMatch(/^boot boot /);
  });
});

it('has sent one alarm per bad segment, with blob, offset and code', async () => {
  type Message = { type: string; data: Record<string, unknown> };
  const messages = await keyless.jsonLines<Message>('monitor', 'tail', '--no-follow');
  const alarms = messages.filter(({ type }) => type === 'Tidemark.ResyncRequired');
  const expected = fixtures.map(codeOf).filter((code) => !isForOperator(code));
  expect(alarms.map(({ data }) => data['code'])).toEqual(expected);
  for (const { data } of alarms) {
    expect(data).toMatchObject({ machine, disk, blob: `replication-logs/${segment}`, offset: expect.any(Number) });
  }
});
