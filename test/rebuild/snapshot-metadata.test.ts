import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { pointId } from '../../src/points/manifest.ts';
import {
  isSameSnapshot,
  membersDigest,
  readSnapshotMetadata,
  snapshotMetadata,
  type WholeFacts,
} from '../../src/points/snapshot-metadata.ts';
import { assertMetadata } from '../../src/seed/seed-guards.ts';

const nameArb = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,30}[A-Za-z0-9]$/);
const digestArb = fc.stringMatching(/^[0-9a-f]{64}$/);
const policyArb = fc.record({
  policy: nameArb,
  retentionHours: fc.integer({ min: 13, max: 360 }),
  appConsistentHours: fc.nat(12),
  rpoThresholdMinutes: fc.integer({ min: 1, max: 1440 }),
  logRetentionHours: fc.nat(72),
});
const factsArb: fc.Arbitrary<WholeFacts> = fc
  .record({
    kind: fc.constantFrom('crash' as const, 'app' as const, 'latest' as const),
    isMoment: fc.boolean(),
    cutUs: fc.nat(Number.MAX_SAFE_INTEGER),
    group: nameArb,
    machine: nameArb,
    disk: nameArb,
    epoch: fc.integer({ min: 1, max: 99_999_999 }),
    sequence: fc.integer({ min: 1, max: 999_999_999_999 }),
    record: fc.nat(65_536),
    logDigest: digestArb,
    mark: fc.option(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 100 })),
    previousPoint: fc.option(nameArb),
    sizeBytes: fc.nat(2 ** 40),
    changedBytes: fc.nat(2 ** 40),
    members: digestArb,
    places: fc.tuple(fc.nat(1023), fc.nat(1023)),
    policy: fc.option(policyArb, { nil: undefined }),
  })
  .map(({ isMoment, places, policy, ...facts }) => ({
    ...facts,
    point: pointId({ ...facts, isMoment }),
    place: Math.min(...places),
    diskCount: Math.max(...places) + 1,
    ...(policy === undefined ? {} : { policy }),
  }));

it('is read as it was written, and storage takes it', () => {
  fc.assert(
    fc.property(factsArb, (facts) => {
      const metadata = snapshotMetadata(facts);
      assertMetadata(metadata);
      expect(readSnapshotMetadata(metadata)).toEqual({ form: 'whole', facts });
      expect(isSameSnapshot(metadata, metadata)).toBe(true);
    }),
  );
});

it('is not that of another place in the log, and may have other notes', () => {
  fc.assert(
    fc.property(factsArb, (facts) => {
      const metadata = snapshotMetadata(facts);
      expect(isSameSnapshot(metadata, snapshotMetadata({ ...facts, record: facts.record + 1 }))).toBe(false);
      expect(isSameSnapshot(metadata, snapshotMetadata({ ...facts, changedBytes: facts.changedBytes + 1 }))).toBe(true);
    }),
  );
});

it('of anybody never throws', () => {
  const keys = fc.constantFrom(
    'point',
    'cut',
    'kind',
    'position',
    'digest',
    'size',
    'place',
    'members',
    'mark',
    'policy',
  );
  fc.assert(
    fc.property(factsArb, fc.dictionary(keys, fc.string()), fc.boolean(), (facts, noise, isOurs) => {
      const reading = readSnapshotMetadata(isOurs ? { ...snapshotMetadata(facts), ...noise } : noise);
      expect(['whole', 'old', 'malformed', 'foreign']).toContain(reading.form);
    }),
  );
});

it('names the disks of a point whatever their order, and each of them by size, epoch and snapshot', () => {
  const a = { machine: 'm', disk: 'a', sizeBytes: 1024, epoch: 1, snapshot: null };
  const b = { ...a, disk: 'b', snapshot: '2026' };
  const digest = membersDigest([a, b]);
  expect(membersDigest([b, a])).toBe(digest);
  const others = [[a], [b], [a, { ...b, sizeBytes: 2048 }], [a, { ...b, epoch: 2 }], [a, { ...b, snapshot: null }]];
  for (const other of others) expect(membersDigest(other)).not.toBe(digest);
});
