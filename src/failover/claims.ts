/**
 * A job's claim on its group: the state in the group's document that names the job. One guarded write claims, holds the point, or ends
 * the claim; each may be repeated by the same job.
 */
import type { Catalog } from '../catalog/catalog.ts';
import { updateDocument } from '../catalog/documents.ts';
import { MAX_MADE, type DrillRecord } from '../catalog/group-document.ts';
import { groupDocumentSchema, isGivenUp, livePins, operationStates, type GroupDocument } from '../catalog/groups.ts';
import type { Command } from '../commands/commands.ts';
import { assert, TidemarkError } from '../errors.ts';
import { catalogName } from '../model/names.ts';
import { isoFromUs } from '../model/time.ts';
import { claimed, ENDED_DRILL, ENDED_FAILOVER, refusal, statesText, trackOf } from './states.ts';

export interface Claim {
  readonly job: string;
  readonly command: Command;
  /** Null until it is chosen. Commands that choose none keep the one in use. */
  readonly point: string | null;
  /** Wall clock. */
  readonly nowUs: number;
}

/** What a command has claimed of the group; undefined before the first claim, and for commands that claim nothing. */
export function operationOf(
  group: GroupDocument,
  command: Command['command'],
): NonNullable<GroupDocument['failover'] | GroupDocument['drill']> | undefined {
  const track = trackOf(command);
  return track === undefined ? undefined : group[track];
}

/**
 * Pure. The group with the claim in it; unchanged when it has it already.
 * @throws TidemarkError GROUP_DISABLED; FAILOVER_STATE with what is allowed now; GROUP_PINNED when a commit would delete pinned points
 */
export function claimedGroup(group: GroupDocument, { job, command, point, nowUs }: Claim): GroupDocument {
  const before = operationOf(group, command.command);
  if (before?.job === job) return group;
  if (isGivenUp(group)) {
    throw new TidemarkError('GROUP_DISABLED', `group ${group.group} is disabled and its points are given up`);
  }
  const states = operationStates(group);
  const next = claimed(states, command.command);
  const made = before?.made ?? [];
  if (next === undefined || made.length === MAX_MADE) throw refusal(group.group, states, command.command);
  if (command.command === 'commit') requireUnpinned(group, nowUs);
  const since = isoFromUs(nowUs);
  const claim = { job, point: 'point' in command ? point : (before?.point ?? null), since };
  const nowMade = 'point' in command ? [...made, job] : made;
  if (trackOf(command.command) === 'drill') return { ...group, drill: { ...claim, state: next.drill, made: nowMade } };
  if (trackOf(command.command) === undefined) return group;
  return { ...group, failover: { ...claim, state: next.failover, made: nowMade } };
}

function requireUnpinned(group: GroupDocument, nowUs: number): void {
  const [pin] = livePins(group, nowUs);
  if (pin === undefined) return;
  throw new TidemarkError(
    'GROUP_PINNED',
    `group ${group.group} has pinned points, and a commit deletes all points: ${pin.point} by ${pin.owner}: ${pin.reason}`,
  );
}

/** @throws TidemarkError as {@link claimedGroup} */
export async function claimGroup(catalog: Catalog, claim: Claim, signal: AbortSignal): Promise<GroupDocument> {
  return change(catalog, claim.command.group, (group) => claimedGroup(group, claim), signal);
}

type Owned = Pick<Claim, 'job' | 'command'>;

/** @throws TidemarkError FAILOVER_STATE when another job has taken the claim over */
export function requireClaim(group: GroupDocument, { job, command }: Owned): void {
  const operation = operationOf(group, command.command);
  if (trackOf(command.command) === undefined || operation?.job === job) return;
  const now = statesText(operationStates(group));
  throw new TidemarkError('FAILOVER_STATE', `job ${job} was replaced by job ${operation?.job ?? 'none'}; ${now}`);
}

/** Keeps the point from being pruned while the claim lasts. @throws TidemarkError as {@link requireClaim} */
export async function holdPoint(
  catalog: Catalog,
  { point, ...owned }: Owned & { readonly point: string },
  signal: AbortSignal,
): Promise<void> {
  const hold = (group: GroupDocument): GroupDocument => {
    requireClaim(group, owned);
    const track = trackOf(owned.command.command);
    if (track === 'drill') return group.drill === undefined ? group : { ...group, drill: { ...group.drill, point } };
    return group.failover === undefined ? group : { ...group, failover: { ...group.failover, point } };
  };
  await change(catalog, owned.command.group, hold, signal);
}

export interface End extends Owned {
  /** Of a cleanup: whether the test had made everything. */
  readonly drillSucceeded: boolean;
  readonly nowUs: number;
}

/** Pure. The group after the job's success; unchanged when it is so already. @throws TidemarkError as {@link requireClaim} */
export function endedGroup(group: GroupDocument, end: End): GroupDocument {
  requireClaim(group, end);
  const { job, command, nowUs } = end;
  const since = isoFromUs(nowUs);
  const { failover, drill } = group;
  if (trackOf(command.command) === 'failover' && failover !== undefined) {
    const state = ENDED_FAILOVER[failover.state];
    if (state === undefined) return group;
    if (state === 'none') return { ...group, failover: { ...failover, state, point: null, made: [], since } };
    // What a commit leaves in Azure stays named: it is what replicates back.
    const made = state === 'failed-over' ? [job] : failover.made;
    return { ...group, failover: { ...failover, state, made, since } };
  }
  if (trackOf(command.command) === 'drill' && drill !== undefined) {
    const state = ENDED_DRILL[drill.state];
    if (state === undefined) return group;
    if (state === 'tested') return { ...group, drill: { ...drill, state, since } };
    const lastDrill = drillRecord(end, drill.point);
    return {
      ...group,
      drill: { ...drill, state, point: null, made: [], since },
      lastDrill,
      ...(lastDrill.outcome === 'succeeded' && { lastGoodDrillAt: lastDrill.at }),
    };
  }
  return group;
}

function drillRecord({ job, command, drillSucceeded, nowUs }: End, point: string | null): DrillRecord {
  assert(command.command === 'cleanup-test-failover', `${command.command} ends no drill`);
  const outcome = drillSucceeded ? 'succeeded' : 'failed';
  return { at: isoFromUs(nowUs), job, point, outcome, notes: command.notes ?? null };
}

/** @throws TidemarkError as {@link requireClaim} */
export async function endClaim(catalog: Catalog, end: End, signal: AbortSignal): Promise<void> {
  await change(catalog, end.command.group, (group) => endedGroup(group, end), signal);
}

async function change(
  catalog: Catalog,
  group: string,
  next: (current: GroupDocument) => GroupDocument,
  signal: AbortSignal,
): Promise<GroupDocument> {
  const name = catalogName.group(group);
  const changeOrLeave = (current: GroupDocument): GroupDocument | undefined => {
    const changed = next(current);
    return changed === current ? undefined : changed;
  };
  const document = await updateDocument(catalog, name, groupDocumentSchema, changeOrLeave, signal);
  if (document === undefined) throw new TidemarkError('GROUP_NOT_FOUND', `there is no group ${group}`);
  return document;
}
