/** A group that makes a crash-consistent point every five minutes and an app-consistent one every four hours. */
import { FIVE_MINUTES_US, HOUR_US, stampFromUs, usFromIso } from '../../src/model/time.ts';
import { planPrune, type PointFact, type PrunePlan } from '../../src/retention/plan.ts';
import { parsePolicy, type Policy } from '../../src/retention/policy.ts';

export const START_US = usFromIso('2026-11-01T00:00:00Z');
const APP_OFFSET_US = 150_000_000 + 250_000;

export const fact = (kind: PointFact['kind'], cutUs: number): PointFact => ({
  id: `${stampFromUs(cutUs)}-${kind}`,
  kind,
  cutUs,
});

/** All points that are ever made from the start to `endUs`, in the order of their cuts. */
export function pointsUntil(endUs: number): readonly PointFact[] {
  const points: PointFact[] = [];
  for (let cutUs = START_US; cutUs <= endUs; cutUs += FIVE_MINUTES_US) {
    points.push(fact('crash', cutUs));
    const appUs = cutUs + APP_OFFSET_US;
    if ((cutUs - START_US) % (4 * HOUR_US) === 0 && appUs <= endUs) points.push(fact('app', appUs));
  }
  return points;
}

/** Points that are left when the plan is carried out after every new point, and the plan of the last step. */
export function pruneStepByStep(
  arrivals: readonly PointFact[],
  policy: Policy,
): { readonly left: readonly PointFact[]; readonly last: PrunePlan } {
  let left: readonly PointFact[] = [];
  let last: PrunePlan = { keep: [], remove: [] };
  for (const point of arrivals) {
    const points = [...left, point];
    last = planPrune(points, policy, { holds: [], nowUs: 0 });
    const kept = new Set(last.keep.map(({ id }) => id));
    left = points.filter(({ id }) => kept.has(id));
  }
  return { left, last };
}

export const GOLDEN_DAYS = [1, 3, 7, 15] as const;

export interface GoldenPlan {
  readonly policy: Policy;
  readonly simulation: string;
  readonly newestPoint: string;
  readonly pointsMade: number;
  readonly pointsKept: number;
  /** What a plan of the kept points says, `id: reason`, oldest first. */
  readonly keep: readonly string[];
  /** What the last plan of the step-by-step run removed, `id: reason`. */
  readonly lastRemoved: readonly string[];
}

export const goldenFile = (days: number): URL =>
  new URL(`../fixtures/retention/plan-${String(days).padStart(2, '0')}-days.json`, import.meta.url);

/** The plan two days, ten hours and 25 minutes after the retention has filled up for the first time. */
export function goldenPlan(days: number): GoldenPlan {
  const policy = parsePolicy({ retentionHours: days * 24 });
  const arrivals = pointsUntil(START_US + (days + 2) * 24 * HOUR_US + 10 * HOUR_US + 5 * FIVE_MINUTES_US);
  const { left, last } = pruneStepByStep(arrivals, policy);
  const line = ({ id, reason }: { readonly id: string; readonly reason: string }): string => `${id}: ${reason}`;
  return {
    policy,
    simulation: 'a crash point every 5 minutes, an app point every 4 hours, pruned after every point',
    newestPoint: arrivals.at(-1)?.id ?? '',
    pointsMade: arrivals.length,
    pointsKept: left.length,
    keep: last.keep.map(line),
    lastRemoved: last.remove.map(line),
  };
}
