/**
 * Pure. The steps of a run. They form a graph: a step begins when all that it comes after are over. Actions follow each other, the
 * failovers of a plan group are beside each other. The same plan and options always give the same steps with the same ids.
 */
import type { PointSelector } from '../commands/commands.ts';
import { NO_COMMON_LATEST, planInvalid, type Action, type PlanFile, type PlanPoint } from './plan-file.ts';

export const PLAN_STEP_KINDS = [
  'choose-points',
  'webhook',
  'script',
  'manual',
  'failover',
  'shared',
  'release-points',
  'cleanup',
] as const;
export type PlanStepKind = (typeof PLAN_STEP_KINDS)[number];

export interface PlannedRunStep {
  /** Such as `group-2/post/approve-db`; unique within a run. */
  readonly id: string;
  readonly kind: PlanStepKind;
  /** Name of the plan group; null for steps of the whole run. */
  readonly planGroup: string | null;
  readonly phase: 'points' | 'pre' | 'failover' | 'post' | 'cleanup';
  /** The consistency group that is failed over. */
  readonly group: string | null;
  /** Null where the run chooses common points, and where there is none. */
  readonly point: PointSelector | null;
  /** Of a shared group: the step that fails it over. */
  readonly sharedWith: string | null;
  readonly action: Action | null;
  readonly after: readonly string[];
  readonly onFailure: 'stop' | 'continue';
  /** Null: it may take for ever. */
  readonly timeoutMs: number | null;
  /** Whether this run leaves it out. */
  readonly isSkipped: boolean;
}

export interface RunOptions {
  /** Failovers become test failovers. */
  readonly test: boolean;
  /** In the place of all points that the plan names. */
  readonly point?: PlanPoint;
}

const MINUTE_MS = 60_000;

/** @throws TidemarkError PLAN_INVALID when the options do not go with the plan */
export function planRun(plan: PlanFile, options: RunOptions): readonly PlannedRunStep[] {
  if (plan.common && options.point === 'latest') throw planInvalid([`--point: ${NO_COMMON_LATEST}`]);
  const steps: PlannedRunStep[] = plan.common ? [pointsStep('choose-points', [])] : [];
  let barrier = steps.map(({ id }) => id);
  const add = (planned: readonly PlannedRunStep[]): void => {
    steps.push(...planned);
    if (planned.length > 0) barrier = planned.map(({ id }) => id);
  };
  const firstPlaces = new Map<string, string>();
  for (const [index, group] of plan.groups.entries()) {
    const at = { plan, options, planGroup: group.name, prefix: `group-${index + 1}` };
    for (const action of group.pre) add([actionStep(at, 'pre', action, barrier)]);
    add(group.failover.map((member) => memberStep(at, member, firstPlaces, barrier)));
    for (const action of group.post) add([actionStep(at, 'post', action, barrier)]);
  }
  if (plan.common) steps.push(pointsStep('release-points', barrier));
  return steps;
}

const pointsStep = (kind: 'choose-points' | 'release-points', after: readonly string[]): PlannedRunStep => ({
  id: kind === 'choose-points' ? 'points/choose' : 'points/release',
  kind,
  planGroup: null,
  phase: 'points',
  group: null,
  point: null,
  sharedWith: null,
  action: null,
  after,
  onFailure: 'stop',
  timeoutMs: null,
  isSkipped: false,
});

interface Place {
  readonly plan: PlanFile;
  readonly options: RunOptions;
  readonly planGroup: string;
  readonly prefix: string;
}

const timeoutOf = (minutes: number): number => Math.round(minutes * MINUTE_MS);

function actionStep(place: Place, phase: 'pre' | 'post', action: Action, after: readonly string[]): PlannedRunStep {
  const { plan, options, planGroup, prefix } = place;
  const minutes = action.timeoutMinutes ?? (action.type === 'manual' ? null : plan.timeoutMinutes);
  return {
    id: `${prefix}/${phase}/${action.name}`,
    kind: action.type,
    planGroup,
    phase,
    group: null,
    point: null,
    sharedWith: null,
    action,
    after,
    onFailure: action.onFailure ?? plan.onFailure,
    timeoutMs: minutes === null ? null : timeoutOf(minutes),
    isSkipped: options.test ? action.skipInTest : action.testOnly,
  };
}

/** A group that an earlier place has named is failed over there, once. */
function memberStep(
  { plan, options, planGroup, prefix }: Place,
  member: PlanFile['groups'][number]['failover'][number],
  firstPlaces: Map<string, string>,
  after: readonly string[],
): PlannedRunStep {
  const id = `${prefix}/failover/${member.group}`;
  const first = firstPlaces.get(member.group);
  if (first === undefined) firstPlaces.set(member.group, id);
  return {
    id,
    kind: first === undefined ? 'failover' : 'shared',
    planGroup,
    phase: 'failover',
    group: member.group,
    point: plan.common || first !== undefined ? null : (options.point ?? member.point ?? plan.point),
    sharedWith: first ?? null,
    action: null,
    after,
    onFailure: member.onFailure ?? plan.onFailure,
    timeoutMs: first === undefined ? timeoutOf(member.timeoutMinutes ?? plan.timeoutMinutes) : null,
    isSkipped: false,
  };
}

/** Consistency groups that a plan fails over, each once, in the order of their first places. */
export const groupsOf = ({ groups }: PlanFile): readonly string[] => [
  ...new Set(groups.flatMap(({ failover }) => failover.map(({ group }) => group))),
];

/** Deletes what a test run has made: all groups beside each other. */
export const cleanupSteps = (groups: readonly string[]): readonly PlannedRunStep[] =>
  groups.map((group) => ({
    id: `cleanup/${group}`,
    kind: 'cleanup',
    planGroup: null,
    phase: 'cleanup',
    group,
    point: null,
    sharedWith: null,
    action: null,
    after: [],
    onFailure: 'stop',
    timeoutMs: null,
    isSkipped: false,
  }));
