import { describe, expect, it } from 'vitest';
import { demoJson, demoLines } from '../../src/demo/report.ts';
import { type DemoResult, prunePlans } from '../../src/demo/scenario.ts';
import type { VerifiedPoint } from '../../src/demo/verify.ts';
import { usFromIso } from '../../src/model/time.ts';
import { pointId } from '../../src/points/manifest.ts';
import { POLICY_DEFAULTS } from '../../src/retention/policy.ts';

const HASH = 'ab'.repeat(32);

function point(iso: string, kind: 'crash' | 'app', changes: Partial<VerifiedPoint> = {}): VerifiedPoint {
  return {
    point: pointId({ kind, cutUs: usFromIso(iso) }),
    kind,
    cut: iso,
    changedBytes: 1_048_576,
    sha256: HASH,
    expectedSha256: HASH,
    recordedSha256: null,
    firstDifferenceBytes: null,
    verified: true,
    ...changes,
  };
}

const POINTS = [
  point('2026-11-23T04:50:00.000000Z', 'crash'),
  point('2026-11-23T04:52:30.000000Z', 'app', { recordedSha256: HASH }),
  point('2026-11-23T04:55:00.000000Z', 'crash', { changedBytes: 123_456_789 }),
  point('2026-11-23T05:00:00.000000Z', 'crash'),
];
const facts = POINTS.map(({ point: id, kind, cut }) => ({ id, kind, cutUs: usFromIso(cut) }));

const RESULT: DemoResult = {
  group: 'demo',
  policy: POLICY_DEFAULTS,
  startUs: usFromIso('2026-11-23T04:46:00Z'),
  finalUs: usFromIso('2026-11-23T05:03:00Z'),
  stretch: 70,
  points: POINTS,
  prune: prunePlans(facts, POLICY_DEFAULTS, 0),
  messages: { StateChanged: 1, PointCreated: 14 },
  shipped: { segments: 12, records: 3456 },
  worker: {
    counters: {
      segments: 12,
      logBytes: 10 * 1_048_576,
      payloadBytes: 100 * 1_048_576,
      liveBytes: 60 * 1_048_576,
      changes: 3400,
      putRequests: 900,
      putBytes: 60 * 1_048_576,
      clearRequests: 100,
      clearBytes: 65_536,
    },
    drainMs: 2000,
    peakMemoryBytes: 200 * 1_048_576,
  },
  verifyMs: 1234.5,
};

describe('the report', () => {
  it('reads so', () => {
    expect(demoLines(RESULT).join('\n')).toBe(`\
Recovery points: 4, all verified byte by byte
  kind   cut                          changed  sha-256       verified by
  crash  2026-11-23T04:50:00.000000Z  1.0 MiB  abababababab  replay
  app    2026-11-23T04:52:30.000000Z  1.0 MiB  abababababab  replay, hash of the recording
  crash  2026-11-23T04:55:00.000000Z  118 MiB  abababababab  replay
  crash  2026-11-23T05:00:00.000000Z  1.0 MiB  abababababab  replay

Pruning: retention 24 h, app-consistent points every 4 h
  now     keep    2  within the last 2 h
          keep    1  newest app-consistent point
          keep    1  newest point
  3 h on  keep    1  newest app-consistent point
          remove  2  another point keeps hour 2026-11-23T04: 20261123T045230.000000Z-app
          remove  1  another point keeps hour 2026-11-23T05: 20261123T055500.000000Z-crash

Monitoring messages: 15
   1  StateChanged
  14  PointCreated

Figures
  source          17 min of source time (the trace's, times 70)
  log shipped     12 segments, 3,456 records
  log drained     10.0 MiB in 2.0 s, 5.0 MiB/s
  writes in it    100 MiB, 50.0 MiB/s
  live of those   60.0 MiB, 60 %
  Put Page        900 requests, 60.0 MiB
  Clear Pages     100 requests, 64.0 KiB
  avoided         2,400 of 3,400 requests (one per write or discard)
  worker memory   200 MiB at the most`);
  });

  it('shows a wrong point as what it is', () => {
    const wrong = { verified: false, expectedSha256: 'cd'.repeat(32) };
    const lines = demoLines({
      ...RESULT,
      points: [
        point('2026-11-23T04:50:00.000000Z', 'crash', { ...wrong, firstDifferenceBytes: 4096 }),
        point('2026-11-23T04:52:30.000000Z', 'app', { ...wrong, recordedSha256: 'cd'.repeat(32) }),
      ],
    });
    expect(lines[0]).toBe('Recovery points: 2, 2 WRONG');
    expect(lines[2]).toContain('NOT VERIFIED: differs from the replay at byte 4096');
    expect(lines[3]).toContain('NOT VERIFIED: not the hash of the recording');
  });

  it('has the same in its JSON document', () => {
    expect(JSON.parse(JSON.stringify(demoJson(RESULT)))).toMatchObject({
      group: 'demo',
      start: '2026-11-23T04:46:00.000000Z',
      points: [{ id: '20261123T045000.000000Z-crash', kind: 'crash', verified: true, sha256: HASH }, {}, {}, {}],
      prune: { now: { remove: [] }, later: { afterHours: 3, keep: [{ id: '20261123T045230.000000Z-app' }] } },
      messages: { PointCreated: 14 },
      figures: {
        requests: 1000,
        avoidedRequests: 2400,
        logMibPerSecond: 5,
        liveShare: 0.6,
        peakMemoryBytes: 209_715_200,
      },
    });
  });
});

describe('the pruning plans', () => {
  it('speak of every point of the group, and of no other', () => {
    for (const { keep, remove } of Object.values(prunePlans(facts, POLICY_DEFAULTS, 0))) {
      expect([...keep, ...remove].map(({ id }) => id).toSorted()).toEqual(POINTS.map(({ point: id }) => id).toSorted());
    }
  });
});
