import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HOUR_US, usFromIso } from '../../src/model/time.ts';
import { byCut, planPrune, type Hold, type PointFact, type PruneOptions } from '../../src/retention/plan.ts';
import { parsePolicy } from '../../src/retention/policy.ts';
import { fact, pointsUntil, START_US } from './simulation.ts';

const NOON_US = usFromIso('2026-11-23T12:00:00Z');
const policyOf = (retentionHours: number) => parsePolicy({ retentionHours });
const unheld: PruneOptions = { holds: [], nowUs: 0 };

const at = (time: string, kind: PointFact['kind'] = 'crash'): PointFact => fact(kind, usFromIso(`2026-11-${time}Z`));
const ids = (items: readonly { readonly id: string }[]): readonly string[] => items.map(({ id }) => id);
const reasonsOf = (points: readonly PointFact[], retentionHours: number, options = unheld) => {
  const plan = planPrune(points, policyOf(retentionHours), options);
  return new Map([
    ...plan.keep.map(({ id, reason }) => [id, `+ ${reason}`] as const),
    ...plan.remove.map(({ id, reason }) => [id, `- ${reason}`] as const),
  ]);
};

describe('planPrune', () => {
  it('says nothing about no points', () => {
    expect(planPrune([], policyOf(24), unheld)).toEqual({ keep: [], remove: [] });
  });

  it('keeps the window to its last microsecond, then one point per hour', () => {
    const edge = fact('crash', NOON_US - 2 * HOUR_US);
    const beyond = fact('crash', NOON_US - 2 * HOUR_US - 1);
    const rival = at('23T09:55:00');
    const reasons = reasonsOf([rival, beyond, edge, fact('crash', NOON_US)], 24);
    expect([...reasons.values()]).toEqual([
      '+ newest of hour 2026-11-23T09',
      '+ within the last 2 h',
      '+ newest point',
      `- another point keeps hour 2026-11-23T09: ${beyond.id}`,
    ]);
  });

  it('keeps a point exactly as old as the retention and removes an older one', () => {
    const points = [
      fact('crash', NOON_US - 24 * HOUR_US - 1),
      fact('crash', NOON_US - 24 * HOUR_US),
      fact('crash', NOON_US),
    ];
    expect([...reasonsOf(points, 24).values()]).toEqual([
      '+ newest of hour 2026-11-22T12',
      '+ newest point',
      '- older than the retention of 24 h',
    ]);
  });

  it('lets an app-consistent point win its bucket, and the newest of two', () => {
    const points = [
      at('23T04:10:00', 'app'),
      at('23T04:20:00', 'app'),
      at('23T04:55:00'),
      at('23T11:00:00', 'app'),
      at('23T12:00:00'),
    ];
    const reasons = reasonsOf(points, 24);
    expect(reasons.get(points[1]?.id ?? '')).toBe('+ app-consistent point of hour 2026-11-23T04');
    expect(reasons.get(points[0]?.id ?? '')).toBe(`- another point keeps hour 2026-11-23T04: ${points[1]?.id}`);
    expect(reasons.get(points[2]?.id ?? '')).toBe(`- another point keeps hour 2026-11-23T04: ${points[1]?.id}`);
  });

  it('at one cut the app-consistent point is the newer one', () => {
    const [crash, app] = [at('23T12:00:00'), at('23T12:00:00', 'app')];
    expect([...reasonsOf([app, crash], 24).entries()]).toEqual([
      [crash.id, '+ within the last 2 h'],
      [app.id, '+ newest point'],
    ]);
  });

  it('a keeper that has passed the retention leaves no place to points that it kept out', () => {
    const [keeper, rival] = [at('22T11:30:00', 'app'), at('22T12:30:00')];
    const reasons = reasonsOf([keeper, rival, at('24T11:00:00', 'app'), at('24T12:00:00')], 48);
    expect(reasons.get(keeper.id)).toBe('- older than the retention of 2 days');
    expect(reasons.get(rival.id)).toBe('+ newest of the 2 hours from 2026-11-22T12');
    const sameBucket = at('22T13:40:00', 'app');
    const later = reasonsOf([sameBucket, at('22T13:55:00'), at('24T13:45:00', 'app')], 48);
    expect([...later.values()]).toEqual([
      '+ newest point',
      '- older than the retention of 2 days',
      `- ${sameBucket.id} kept the 2 hours from 2026-11-22T12 until it passed the retention`,
    ]);
  });

  it('treats a point made on demand like a crash-consistent one', () => {
    const points = [at('23T04:55:00'), at('23T04:58:00', 'latest'), at('23T12:00:00')];
    expect([...reasonsOf(points, 24).values()]).toEqual([
      '+ newest of hour 2026-11-23T04',
      '+ newest point',
      expect.stringContaining('another point keeps'),
    ]);
  });

  it('keeps only the newest points when the retention is 0', () => {
    const points = [at('23T10:00:00'), at('23T10:30:00', 'app'), at('23T11:55:00'), at('23T12:00:00')];
    expect([...reasonsOf(points, 0).entries()]).toEqual([
      [points[1]?.id, '+ newest app-consistent point'],
      [points[3]?.id, '+ newest point'],
      [points[0]?.id, '- the policy keeps no older points (retention 0)'],
      [points[2]?.id, '- the policy keeps no older points (retention 0)'],
    ]);
  });

  it('ends the window where a shorter retention ends', () => {
    const points = [at('23T10:55:00'), at('23T11:00:00'), at('23T12:00:00')];
    expect([...reasonsOf(points, 1).values()]).toEqual([
      '+ within the last 2 h',
      '+ newest point',
      '- older than the retention of 1 h',
    ]);
  });

  it.each([
    [24, 1],
    [47, 1],
    [48, 2],
    [191, 2],
    [192, 4],
    [360, 4],
  ])('with a retention of %d h the oldest points are one per %d h', (retentionHours, bucketHours) => {
    const points = pointsUntil(START_US + 17 * 24 * HOUR_US);
    const cuts = new Map(points.map((point) => [point.id, point.cutUs]));
    const [first, second, third] = planPrune(points, policyOf(retentionHours), unheld).keep.map(({ id }) =>
      Math.floor((cuts.get(id) ?? 0) / HOUR_US / bucketHours),
    );
    expect([second, third]).toEqual([(first ?? 0) + 1, (first ?? 0) + 2]);
  });

  it('refuses two points with one id', () => {
    expect(() => planPrune([at('23T10:00:00'), at('23T10:00:00')], policyOf(24), unheld)).toThrow('same id');
  });
});

describe('holds', () => {
  const old = fact('crash', NOON_US - 100 * HOUR_US);
  const points = [old, fact('crash', NOON_US)];
  const pin: Hold = { point: old.id, kind: 'pin', owner: 'ada', reason: 'before the upgrade', expiresAtUs: NOON_US };

  it('keep a point until their wall-clock end', () => {
    expect(reasonsOf(points, 24, { holds: [pin], nowUs: NOON_US - 1 }).get(old.id)).toBe(
      '+ pinned by ada until 2026-11-23T12:00Z: before the upgrade',
    );
    expect(reasonsOf(points, 24, { holds: [pin], nowUs: NOON_US }).get(old.id)).toBe(
      '- older than the retention of 24 h',
    );
  });

  it('name the one that lasts longest', () => {
    const job: Hold = { ...pin, kind: 'job', owner: 'job-7', reason: 'test failover', expiresAtUs: null };
    for (const holds of [
      [pin, job],
      [job, pin],
    ]) {
      expect(planPrune(points, policyOf(24), { holds, nowUs: 0 }).keep[0]?.reason).toBe(
        'in use by job-7: test failover',
      );
    }
  });

  it('on a missing point change nothing', () => {
    const gone = { ...pin, point: 'gone' };
    expect(planPrune(points, policyOf(24), { holds: [gone], nowUs: 0 })).toEqual(
      planPrune(points, policyOf(24), unheld),
    );
  });
});

describe('properties', () => {
  const kind = fc.constantFrom('crash' as const, 'app' as const, 'latest' as const);
  const retentionHours = fc.oneof(
    fc.constantFrom(0, 1, 2, 3, 24, 25, 47, 48, 167, 168, 169, 171, 191, 192, 195, 360),
    fc.integer({ min: 0, max: 360 }),
  );
  const TEN_MINUTES_US = HOUR_US / 6;
  /** Ages around one edge, in steps of ten minutes, so that buckets fill up there. */
  const around = (edgeHours: number) =>
    fc.integer({ min: -24, max: 24 }).map((steps) => Math.max(0, edgeHours * HOUR_US + steps * TEN_MINUTES_US));
  /** Points around the newest one, the window's edge, day 7 and the retention, and some anywhere. */
  const historyFor = (hours: number) =>
    fc
      .uniqueArray(
        fc.tuple(
          kind,
          fc.oneof(around(2), around(7 * 24), around(hours), fc.integer({ min: 0, max: 20 * 24 * HOUR_US })),
        ),
        { maxLength: 80, selector: ([kind, ageUs]) => `${ageUs}-${kind}` },
      )
      .map((made) => made.map(([kind, ageUs]) => fact(kind, NOON_US - ageUs)).toSorted(byCut));
  const scene = retentionHours.chain((hours) => fc.tuple(historyFor(hours), fc.constant(hours)));
  const holds = (points: readonly PointFact[]): fc.Arbitrary<readonly Hold[]> =>
    fc.subarray([...points]).map((chosen) =>
      chosen.map((point, index) => ({
        point: point.id,
        kind: index % 2 === 0 ? 'pin' : 'job',
        owner: `owner-${index}`,
        reason: 'reason',
        expiresAtUs: index % 3 === 0 ? null : NOON_US + (index % 3 === 1 ? 1 : 0),
      })),
    );
  const heldScene = scene.chain(([points, hours]) => fc.tuple(fc.constant(points), fc.constant(hours), holds(points)));

  it('keep and remove partition the points, in the order of their cuts', () => {
    fc.assert(
      fc.property(heldScene, ([points, hours, holds]) => {
        const plan = planPrune(points.toReversed(), policyOf(hours), { holds, nowUs: NOON_US });
        const kept = new Set(ids(plan.keep));
        expect(ids(plan.keep)).toEqual(ids(points.filter(({ id }) => kept.has(id))));
        expect(ids(plan.remove)).toEqual(ids(points.filter(({ id }) => !kept.has(id))));
      }),
    );
  });

  it('the newest point, the newest app-consistent one and held points stay', () => {
    fc.assert(
      fc.property(heldScene, ([points, hours, holds]) => {
        const removed = new Set(ids(planPrune(points, policyOf(hours), { holds, nowUs: NOON_US }).remove));
        const live = holds.filter(({ expiresAtUs }) => expiresAtUs === null || expiresAtUs > NOON_US);
        const safe = [
          points.at(-1)?.id,
          points.findLast((point) => point.kind === 'app')?.id,
          ...live.map(({ point }) => point),
        ];
        expect(safe.filter((id) => id !== undefined && removed.has(id))).toEqual([]);
      }),
    );
  });

  it('without holds, nothing but the newest points outlives the retention, and a bucket keeps one point', () => {
    fc.assert(
      fc.property(scene, ([points, hours]) => {
        const newestUs = points.at(-1)?.cutUs ?? 0;
        const kept = new Set(ids(planPrune(points, policyOf(hours), unheld).keep));
        const newestApp = points.findLast((point) => point.kind === 'app');
        const ordinary = points.filter((point) => kept.has(point.id) && point !== points.at(-1) && point !== newestApp);
        expect(ordinary.filter((point) => newestUs - point.cutUs > hours * HOUR_US)).toEqual([]);
        const thinned = ordinary.filter((point) => newestUs - point.cutUs > 2 * HOUR_US);
        const bucketHours = hours < 48 ? 1 : 2;
        const buckets = thinned.map((point) => Math.floor(point.cutUs / (bucketHours * HOUR_US)));
        expect(new Set(buckets).size).toBe(buckets.length);
      }),
    );
  });

  it('all points within the window and the retention stay', () => {
    fc.assert(
      fc.property(scene, ([points, hours]) => {
        const newestUs = points.at(-1)?.cutUs ?? 0;
        const removed = new Set(ids(planPrune(points, policyOf(hours), unheld).remove));
        const windowUs = Math.min(hours, 2) * HOUR_US;
        const young = points.filter((point) => hours > 0 && newestUs - point.cutUs <= windowUs);
        expect(young.filter(({ id }) => removed.has(id))).toEqual([]);
      }),
    );
  });

  it('a plan of what was kept removes nothing, whatever the clock says', () => {
    fc.assert(
      fc.property(scene, fc.maxSafeNat(), ([points, hours], nowUs) => {
        const kept = new Set(ids(planPrune(points, policyOf(hours), unheld).keep));
        const left = points.filter(({ id }) => kept.has(id));
        expect(planPrune(left, policyOf(hours), { holds: [], nowUs }).remove).toEqual([]);
      }),
    );
  });

  it('pruning at any moments while points arrive leaves what pruning once at the end leaves', () => {
    const moments = fc.array(fc.boolean(), { maxLength: 120 });
    fc.assert(
      fc.property(scene, moments, ([points, hours], prunesAfter) => {
        let left: readonly PointFact[] = [];
        for (const [index, point] of points.entries()) {
          left = [...left, point];
          if (prunesAfter[index] === false) continue;
          const kept = new Set(ids(planPrune(left, policyOf(hours), unheld).keep));
          left = left.filter(({ id }) => kept.has(id));
        }
        const steps = ids(planPrune(left, policyOf(hours), unheld).keep);
        expect(steps).toEqual(ids(planPrune(points, policyOf(hours), unheld).keep));
      }),
      { numRuns: 1000 },
    );
  });

  it('a longer retention on the same grid keeps everything that a shorter one keeps', () => {
    const rows = [
      fc.integer({ min: 0, max: 47 }),
      fc.integer({ min: 48, max: 191 }),
      fc.integer({ min: 192, max: 360 }),
    ];
    const pair = fc
      .oneof(...rows.map((hours) => fc.tuple(hours, hours)))
      .chain(([a, b]) => fc.tuple(historyFor(Math.min(a, b)), fc.constant(a), fc.constant(b)));
    fc.assert(
      fc.property(pair, ([points, a, b]) => {
        const longer = new Set(ids(planPrune(points, policyOf(Math.max(a, b)), unheld).keep));
        const shorter = ids(planPrune(points, policyOf(Math.min(a, b)), unheld).keep);
        expect(shorter.filter((id) => !longer.has(id))).toEqual([]);
      }),
    );
  });
});
