/**
 * Consistency groups in the catalog: what operators want. The group's owner reads it, does it, and keeps what it has done elsewhere
 * (progress, manifests); nothing here touches data.
 */
import { TidemarkError } from '../errors.ts';
import { catalogName, requireName } from '../model/names.ts';
import type { Catalog } from './catalog.ts';
import { documentNames, readDocument, readDocuments, updateDocument, upsertDocument } from './documents.ts';
import {
  groupDocumentSchema,
  lastEpoch,
  livePins,
  protectedGroup,
  requireNoOperation,
  withPin,
  type GroupDocument,
  type PinRequest,
  type ProtectRequest,
} from './group-document.ts';
import { policyNotFound, getPolicy, touchPolicy } from './policies.ts';

export {
  groupDocumentSchema,
  holdsOf,
  isFailedOver,
  isGivenUp,
  jobHolds,
  lastEpoch,
  livePins,
  operationStates,
} from './group-document.ts';
export type { GroupDocument, GroupMachine, Pin, PinRequest, ProtectRequest } from './group-document.ts';

/**
 * Wants a group protected, each disk from a new initial replication on.
 *
 * @throws TidemarkError NAME_INVALID, GROUP_INVALID, POLICY_NOT_FOUND, DOCUMENT_INVALID, CONFLICT; GROUP_EXISTS unless it is disabled.
 */
export async function protectGroup(
  catalog: Catalog,
  request: ProtectRequest,
  signal: AbortSignal,
): Promise<GroupDocument> {
  protectedGroup(request, undefined); // bad input is refused before anything is read
  await getPolicy(catalog, request.policy, signal);
  let previous: GroupDocument | undefined;
  let written: GroupDocument | undefined;
  const change = (current: GroupDocument | undefined): GroupDocument => {
    if (written !== undefined && isSame(current, written)) return written;
    previous = current;
    written = protectedGroup(request, current);
    return written;
  };
  const group = await upsertDocument(catalog, catalogName.group(request.group), groupDocumentSchema, change, signal);
  if (!(await touchPolicy(catalog, request.policy, signal))) {
    await undoWrite(catalog, group, previous, signal);
    throw policyNotFound(request.policy);
  }
  return group;
}

/** Takes back a group whose policy vanished meanwhile, unless somebody else has changed the group since. */
async function undoWrite(
  catalog: Catalog,
  written: GroupDocument,
  previous: GroupDocument | undefined,
  signal: AbortSignal,
): Promise<void> {
  const name = catalogName.group(written.group);
  if (previous !== undefined) {
    const undo = (current: GroupDocument) => (isSame(current, written) ? previous : undefined);
    await updateDocument(catalog, name, groupDocumentSchema, undo, signal);
    return;
  }
  const stored = await readDocument(catalog, name, groupDocumentSchema, signal);
  if (stored !== undefined && isSame(stored.value, written)) await catalog.delete(name, stored.etag, signal);
}

const isSame = (a: GroupDocument | undefined, b: GroupDocument): boolean => JSON.stringify(a) === JSON.stringify(b);

/** @throws TidemarkError NAME_INVALID, DOCUMENT_INVALID */
export async function findGroup(
  catalog: Catalog,
  group: string,
  signal: AbortSignal,
): Promise<GroupDocument | undefined> {
  const name = catalogName.group(requireName('group', group));
  const stored = await readDocument(catalog, name, groupDocumentSchema, signal);
  if (stored !== undefined && stored.value.group !== group) {
    throw new TidemarkError('DOCUMENT_INVALID', `${name}: group: is the document of ${stored.value.group}`);
  }
  return stored?.value;
}

/** @throws TidemarkError NAME_INVALID, GROUP_NOT_FOUND, DOCUMENT_INVALID */
export async function getGroup(catalog: Catalog, group: string, signal: AbortSignal): Promise<GroupDocument> {
  const document = await findGroup(catalog, group, signal);
  if (document === undefined) throw groupNotFound(group);
  return document;
}

/** Names of all groups in rising order, disabled ones too. Reads no document, so that a damaged one stops only its own group. */
export async function listGroups(catalog: Catalog, signal: AbortSignal): Promise<readonly string[]> {
  return documentNames(catalog, catalogName.groups, signal);
}

/** Documents of all groups, by name. @throws TidemarkError DOCUMENT_INVALID */
export async function listGroupDocuments(catalog: Catalog, signal: AbortSignal): Promise<readonly GroupDocument[]> {
  return readDocuments(catalog, catalogName.groups, groupDocumentSchema, signal);
}

/** Replication stops where it is; logs go on to arrive. Done already counts as done. @throws as {@link resumeGroup} */
export async function pauseGroup(catalog: Catalog, group: string, signal: AbortSignal): Promise<GroupDocument> {
  return changeGroup(catalog, group, (current) => ({ ...requireEnabled(current), wanted: 'paused' }), signal);
}

/** Done already counts as done. @throws TidemarkError NAME_INVALID, GROUP_NOT_FOUND, GROUP_DISABLED, DOCUMENT_INVALID, CONFLICT */
export async function resumeGroup(catalog: Catalog, group: string, signal: AbortSignal): Promise<GroupDocument> {
  return changeGroup(catalog, group, (current) => ({ ...requireEnabled(current), wanted: 'active' }), signal);
}

/**
 * Another policy for a group that replicates already.
 *
 * @throws TidemarkError POLICY_NOT_FOUND, and as {@link resumeGroup}
 */
export async function setGroupPolicy(
  catalog: Catalog,
  group: string,
  policy: string,
  signal: AbortSignal,
): Promise<GroupDocument> {
  await getPolicy(catalog, policy, signal);
  let previous = policy;
  const change = (current: GroupDocument): GroupDocument => {
    if (current.policy !== policy) previous = current.policy;
    return { ...requireEnabled(current), policy };
  };
  const changed = await changeGroup(catalog, group, change, signal);
  if (!(await touchPolicy(catalog, policy, signal))) {
    const undo = (current: GroupDocument) => (current.policy === policy ? { ...current, policy: previous } : current);
    await changeGroup(catalog, group, undo, signal);
    throw policyNotFound(policy);
  }
  return changed;
}

export interface DisableOptions {
  /** False: everything made so far is marked for deletion, which is the group's owner's to do. */
  readonly keepPoints: boolean;
  /** Wall clock, for the expiry of pins. */
  readonly nowUs: number;
}

/**
 * The document that {@link disableGroup} would write.
 * @throws TidemarkError GROUP_PINNED when points to delete are pinned; FAILOVER_STATE while a failover that is not committed, or a test
 * failover, stands on the group: its disks in Azure would be forgotten.
 */
export function disabledGroup(current: GroupDocument, { keepPoints, nowUs }: DisableOptions): GroupDocument {
  requireNoOperation(current, 'disabled');
  if (keepPoints) return { ...current, wanted: 'disabled' };
  const [pin] = livePins(current, nowUs);
  if (pin !== undefined) {
    const message = `group ${current.group} has pinned points: ${pin.point} by ${pin.owner}: ${pin.reason}`;
    throw new TidemarkError('GROUP_PINNED', message);
  }
  return { ...current, wanted: 'disabled', pins: [], discardBeforeEpoch: lastEpoch(current) + 1 };
}

/**
 * Wants the group's replication to end. Done already counts as done; points that were kept may be given up later, not the other
 * way round.
 *
 * @throws TidemarkError NAME_INVALID, GROUP_NOT_FOUND, GROUP_PINNED, FAILOVER_STATE, DOCUMENT_INVALID, CONFLICT
 */
export async function disableGroup(
  catalog: Catalog,
  group: string,
  options: DisableOptions,
  signal: AbortSignal,
): Promise<GroupDocument> {
  return changeGroup(catalog, group, (current) => disabledGroup(current, options), signal);
}

/**
 * Keeps a point from being pruned. The caller has checked that the point exists.
 *
 * @throws TidemarkError NAME_INVALID, GROUP_NOT_FOUND, GROUP_DISABLED, PIN_INVALID, DOCUMENT_INVALID, CONFLICT
 */
export async function pinPoint(catalog: Catalog, request: PinRequest, signal: AbortSignal): Promise<GroupDocument> {
  return changeGroup(catalog, request.group, (current) => withPin(current, request), signal);
}

/** Takes all pins off a point, whoever set them; done already counts as done. @throws as {@link pinPoint} */
export async function unpinPoint(
  catalog: Catalog,
  group: string,
  point: string,
  signal: AbortSignal,
): Promise<GroupDocument> {
  requireName('point', point);
  const unpinned = (current: GroupDocument): GroupDocument => ({
    ...current,
    pins: current.pins.filter((pin) => pin.point !== point),
  });
  return changeGroup(catalog, group, unpinned, signal);
}

/** Takes one owner's pin off a point, and no other; done already counts as done. @throws as {@link pinPoint} */
export async function releasePin(
  catalog: Catalog,
  { group, point, owner }: Pick<PinRequest, 'group' | 'point' | 'owner'>,
  signal: AbortSignal,
): Promise<GroupDocument> {
  requireName('point', point);
  const released = (current: GroupDocument): GroupDocument => ({
    ...current,
    pins: current.pins.filter((pin) => pin.point !== point || pin.owner !== owner),
  });
  return changeGroup(catalog, group, released, signal);
}

async function changeGroup(
  catalog: Catalog,
  group: string,
  change: (current: GroupDocument) => GroupDocument,
  signal: AbortSignal,
): Promise<GroupDocument> {
  const name = catalogName.group(requireName('group', group));
  const changeOrLeave = (current: GroupDocument): GroupDocument | undefined => {
    const next = change(current);
    return isSame(current, next) ? undefined : next;
  };
  const document = await updateDocument(catalog, name, groupDocumentSchema, changeOrLeave, signal);
  if (document === undefined) throw groupNotFound(group);
  return document;
}

function requireEnabled(group: GroupDocument): GroupDocument {
  if (group.wanted !== 'disabled') return group;
  throw new TidemarkError('GROUP_DISABLED', `group ${group.group} is disabled`);
}

const groupNotFound = (group: string): TidemarkError =>
  new TidemarkError('GROUP_NOT_FOUND', `there is no group ${group}`);
