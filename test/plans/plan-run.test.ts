import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commonPoints, eligible } from '../../src/plans/common-points.ts';
import { parsePlan } from '../../src/plans/plan-file.ts';
import { groupsOf, planRun, type PlannedRunStep } from '../../src/plans/plan-run.ts';
import type { Manifest } from '../../src/points/manifest.ts';
import { arbitraryPlan, planText } from './arbitrary-plan.ts';

/** All steps that one comes after, however far back; fails on a cycle or an unknown step. */
function ancestors(steps: readonly PlannedRunStep[]): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, ReadonlySet<string>>();
  for (const { id, after } of steps) {
    const before = new Set<string>();
    for (const other of after) {
      const known = found.get(other);
      if (known === undefined) throw new Error(`${id} comes after ${other}, which does not come before it`);
      before.add(other);
      for (const further of known) before.add(further);
    }
    found.set(id, before);
  }
  return found;
}

const groupNumber = (id: string): number => Number(/^group-(\d+)\//.exec(id)?.[1]);

describe('the steps of a run', () => {
  it('keep the order of groups and actions, and fail over beside each other, each group once', () => {
    fc.assert(
      fc.property(arbitraryPlan, fc.boolean(), (source, test) => {
        const plan = parsePlan(planText(source));
        const steps = planRun(plan, { test });
        expect(planRun(plan, { test })).toEqual(steps);
        expect(new Set(steps.map(({ id }) => id)).size).toBe(steps.length);
        const before = ancestors(steps);
        const phases = ['points', 'pre', 'failover', 'post'];
        for (const [at, step] of steps.entries()) {
          for (const later of steps.slice(at + 1)) {
            const beside =
              step.phase === 'failover' && later.phase === 'failover' && groupNumber(step.id) === groupNumber(later.id);
            expect(before.get(later.id)?.has(step.id), `${step.id}, ${later.id}`).toBe(!beside);
            if (groupNumber(step.id) === groupNumber(later.id)) {
              expect(phases.indexOf(step.phase)).toBeLessThanOrEqual(phases.indexOf(later.phase));
            } else if (step.phase !== 'points' && later.phase !== 'points') {
              expect(groupNumber(step.id)).toBeLessThan(groupNumber(later.id));
            }
          }
        }
        const failedOver = steps.filter(({ kind }) => kind === 'failover').map(({ group }) => group);
        expect(failedOver).toEqual(groupsOf(plan));
        for (const { kind, sharedWith, group, id } of steps) {
          if (kind !== 'shared') continue;
          expect(steps.find((step) => step.id === sharedWith)).toMatchObject({ kind: 'failover', group });
          expect(before.get(id)?.has(sharedWith ?? '')).toBe(true);
        }
        const places = plan.groups.flatMap(({ pre, failover, post }) => [...pre, ...failover, ...post]);
        expect(steps).toHaveLength(places.length + (plan.common ? 2 : 0));
      }),
      { numRuns: 200 },
    );
  });

  const plan = parsePlan(
    JSON.stringify({
      version: 1,
      name: 'office',
      groups: [
        { name: 'base', failover: ['identity', { group: 'dns', point: 'latest-app', onFailure: 'continue' }] },
        {
          name: 'shop',
          pre: [{ type: 'manual', name: 'look', instructions: 'look', timeoutMinutes: 5, skipInTest: true }],
          failover: ['identity', { group: 'shop', timeoutMinutes: 0.5 }],
          post: [{ type: 'script', name: 'check', command: ['check'], testOnly: true }],
        },
      ],
    }),
  );

  it('have ids that people can name', () => {
    const steps = planRun(plan, { test: true });
    expect(steps.map(({ id, kind, after }) => [id, kind, after])).toEqual([
      ['group-1/failover/identity', 'failover', []],
      ['group-1/failover/dns', 'failover', []],
      ['group-2/pre/look', 'manual', ['group-1/failover/identity', 'group-1/failover/dns']],
      ['group-2/failover/identity', 'shared', ['group-2/pre/look']],
      ['group-2/failover/shop', 'failover', ['group-2/pre/look']],
      ['group-2/post/check', 'script', ['group-2/failover/identity', 'group-2/failover/shop']],
    ]);
    expect(steps.map(({ isSkipped }) => isSkipped)).toEqual([false, false, true, false, false, false]);
    expect(
      planRun(plan, { test: false })
        .map(({ isSkipped }) => isSkipped)
        .at(-1),
    ).toBe(true);
    expect(steps.map(({ timeoutMs }) => timeoutMs)).toEqual([
      14_400_000,
      14_400_000,
      300_000,
      null,
      30_000,
      14_400_000,
    ]);
    expect(steps[1]?.onFailure).toBe('continue');
  });

  it('take the point of the option, else of the group, else of the plan', () => {
    const points = (option: Parameters<typeof planRun>[1]) => planRun(plan, option).map(({ point }) => point);
    expect(points({ test: true })).toEqual(['latest-processed', 'latest-app', null, null, 'latest-processed', null]);
    expect(points({ test: true, point: 'latest' })).toEqual(['latest', 'latest', null, null, 'latest', null]);
    const common = parsePlan(
      JSON.stringify({ version: 1, name: 'c', common: true, groups: [{ name: 'g', failover: ['a'] }] }),
    );
    expect(planRun(common, { test: false }).map(({ id }) => id)).toEqual([
      'points/choose',
      'group-1/failover/a',
      'points/release',
    ]);
    expect(() => planRun(common, { test: false, point: 'latest' })).toThrow(
      expect.objectContaining({ code: 'PLAN_INVALID' }),
    );
  });
});

const history = fc
  .uniqueArray(fc.nat(50), { maxLength: 8 })
  .map((cuts) => cuts.toSorted((a, b) => a - b).map((cutUs) => ({ cutUs })));

describe('common points', () => {
  it('are the newest at or before the oldest of the newest', () => {
    fc.assert(
      fc.property(fc.array(history, { minLength: 1, maxLength: 5 }), (histories) => {
        const groups = histories.map((points, at) => ({ group: `g${at}`, points }));
        const found = commonPoints(groups);
        const cuts = histories.map((points) => points.map(({ cutUs }) => cutUs));
        const moment = Math.min(...cuts.filter((list) => list.length > 0).map((list) => Math.max(...list)));
        const reached = cuts.map((list) => list.filter((cut) => cut <= moment));
        if (!('points' in found)) {
          expect(found.without.toSorted()).toEqual(
            groups.filter((_, at) => reached[at]?.length === 0).map(({ group }) => group),
          );
          expect(found.without.length).toBeGreaterThan(0);
          return;
        }
        expect(found.momentUs).toBe(moment);
        for (const [at, { group }] of groups.entries()) {
          expect(found.points.get(group)?.cutUs).toBe(Math.max(...(reached[at] ?? [])));
        }
        // No later moment would do: one group has nothing newer.
        expect(cuts.some((list) => Math.max(...list) === moment)).toBe(true);
      }),
    );
  });

  it('are sound, stay, and are of the kind asked for', () => {
    const point = (kind: 'app' | 'crash', name: string, ok: boolean | null) =>
      ({ point: name, kind, verified: ok === null ? null : { at: '', ok } }) as Manifest;
    const points = [
      point('app', '1', null),
      point('crash', '2', true),
      point('app', '3', false),
      point('crash', '4', null),
    ];
    const names = (wanted: Parameters<typeof eligible>[1]) =>
      eligible(points, wanted, new Set(['4'])).map(({ point }) => point);
    expect(names('latest-processed')).toEqual(['1', '2']);
    expect(names('latest-app')).toEqual(['1']);
    expect(names('latest-crash')).toEqual(['2']);
  });
});
