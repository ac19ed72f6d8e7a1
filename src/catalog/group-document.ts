/** Pure. What is wanted of a consistency group: its document, and the rules for its machines, disks and pins. */
import { z } from 'zod';
import { assert, TidemarkError } from '../errors.ts';
import { DRILL_STATES, FAILOVER_STATES, statesText, type OperationStates } from '../failover/states.ts';
import { machineTargetSchema } from '../failover/target.ts';
import { MAX_EPOCH, requireName } from '../model/names.ts';
import { MAX_DISK_BYTES, MIB, requireDiskSize } from '../model/sizes.ts';
import { isoFromUs, usFromIso } from '../model/time.ts';
import type { Hold } from '../retention/plan.ts';

/** ASR: at most 16 machines share recovery points. */
export const MAX_MACHINES = 16;
/** Our choice: the largest Azure virtual machines take 64 data disks. */
export const MAX_DISKS_PER_MACHINE = 64;
/** Our choice: the document stays small, and whoever needs more pins needs a longer retention. */
export const MAX_PINS = 1000;
/** Our choice: changes of point in a row that did not succeed; each leaves resources that the next one has to delete. */
export const MAX_MADE = 32;
/** Our choice: a pin's owner and reason are each one line. */
export const MAX_PIN_TEXT_CHARS = 200;

const name = z.string().min(1).max(63);
const epoch = z.number().int().min(1).max(MAX_EPOCH);
const line = z.string().min(1).max(MAX_PIN_TEXT_CHARS);
const time = z.iso.datetime();

const diskSchema = z.strictObject({
  disk: name,
  sizeBytes: z.number().int().min(MIB).max(MAX_DISK_BYTES).multipleOf(MIB),
  /** New at each initial replication and resync. */
  epoch,
});

const pinSchema = z.strictObject({
  point: z.string().min(1),
  owner: line,
  reason: line,
  /** Wall-clock time from which on it holds no longer; null: until it is unpinned. */
  expiresAt: time.nullable(),
  createdAt: time,
});

const drillRecordSchema = z.strictObject({
  /** When it was cleaned up. */
  at: time,
  /** The job of the cleanup. */
  job: name,
  point: name.nullable(),
  /** `succeeded`: everything was made, and deleted again. */
  outcome: z.enum(['succeeded', 'failed']),
  notes: line.nullable(),
});

/** What the failover and the drill of a group have in common. */
const operation = {
  /** The job that the state comes from, under way or ended. */
  job: name,
  /** The point in use; null until it is chosen, and when there is none any more. */
  point: name.nullable(),
  /** Jobs whose disks and machines may exist in Azure, oldest first. */
  made: z.array(name).max(MAX_MADE),
  since: time,
};

export const groupDocumentSchema = z.strictObject({
  version: z.literal(1),
  group: name,
  policy: name,
  wanted: z.enum(['active', 'paused', 'disabled']),
  machines: z
    .array(
      z.strictObject({
        machine: name,
        disks: z.array(diskSchema).min(1).max(MAX_DISKS_PER_MACHINE),
        /** What the machine becomes in Azure; absent: managed disks with the defaults. */
        target: machineTargetSchema.optional(),
      }),
    )
    .min(1)
    .max(MAX_MACHINES),
  pins: z.array(pinSchema).max(MAX_PINS),
  createdAt: time,
  /**
   * All points, seed disks, logs and progress of epochs before this one are to be deleted by the group's owner; absent: nothing is.
   * It stays when the group is protected again, with epochs from here on, so that a deletion under way never meets new data.
   */
  discardBeforeEpoch: epoch.optional(),
  /** Absent: never was one. While its state is not `none`, the worker leaves the group alone. */
  failover: z.strictObject({ state: z.enum(FAILOVER_STATES), ...operation }).optional(),
  /** The test failover; replication goes on beside it. */
  drill: z.strictObject({ state: z.enum(DRILL_STATES), ...operation }).optional(),
  /** The last test failover that was cleaned up. */
  lastDrill: drillRecordSchema.optional(),
  /** When the last test failover that was carried out to its end was cleaned up. */
  lastGoodDrillAt: time.optional(),
});

export type GroupDocument = Readonly<z.infer<typeof groupDocumentSchema>>;
export type GroupMachine = GroupDocument['machines'][number];
export type Pin = GroupDocument['pins'][number];
export type DrillRecord = Readonly<z.infer<typeof drillRecordSchema>>;

export const operationStates = ({ failover, drill }: Pick<GroupDocument, 'failover' | 'drill'>): OperationStates => ({
  failover: failover?.state ?? 'none',
  drill: drill?.state ?? 'none',
});

/** Whether the worker must leave the group alone: what it would apply, cut or prune is what a failover stands on. */
export const isFailedOver = (group: Pick<GroupDocument, 'failover'>): boolean =>
  (group.failover?.state ?? 'none') !== 'none';

export interface ProtectRequest {
  readonly group: string;
  readonly policy: string;
  readonly machines: readonly {
    readonly machine: string;
    readonly disks: readonly { readonly disk: string; readonly sizeBytes: number }[];
  }[];
  /** Wall clock. */
  readonly nowUs: number;
}

/**
 * The document of a newly protected group. One that was disabled before goes on with the next epoch, and with its pins.
 *
 * @throws TidemarkError NAME_INVALID; GROUP_INVALID for numbers, sizes and doubled names, and for a kept disk that changed its
 * size; GROUP_EXISTS unless `previous` is disabled; FAILOVER_STATE while a failover that is not committed, or a test failover, stands on it.
 */
export function protectedGroup(request: ProtectRequest, previous: GroupDocument | undefined): GroupDocument {
  checkRequest(request);
  if (previous !== undefined) {
    if (previous.wanted !== 'disabled') {
      throw new TidemarkError('GROUP_EXISTS', `group ${request.group} is protected already (${previous.wanted})`);
    }
    requireNoOperation(previous, 'protected again');
    checkKeptSizes(request, previous);
  }
  const targets = new Map(previous?.machines.map(({ machine, target }) => [machine, target]));
  const epoch = previous === undefined ? 1 : lastEpoch(previous) + 1;
  assert(epoch <= MAX_EPOCH, `group ${request.group} has used up its epochs`);
  const discard = previous?.discardBeforeEpoch;
  return {
    version: 1,
    group: request.group,
    policy: request.policy,
    wanted: 'active',
    machines: request.machines.map(({ machine, disks }) => {
      const target = targets.get(machine);
      return {
        machine,
        disks: disks.map(({ disk, sizeBytes }) => ({ disk, sizeBytes, epoch })),
        ...(target === undefined ? {} : { target }),
      };
    }),
    pins: previous?.pins ?? [],
    createdAt: isoFromUs(request.nowUs),
    ...(discard === undefined ? {} : { discardBeforeEpoch: discard }),
    ...(previous?.lastDrill === undefined ? {} : { lastDrill: previous.lastDrill }),
    ...(previous?.lastGoodDrillAt === undefined ? {} : { lastGoodDrillAt: previous.lastGoodDrillAt }),
  };
}

/** The highest epoch that any disk of the group has had. */
export const lastEpoch = (group: GroupDocument): number =>
  Math.max(...group.machines.flatMap(({ disks }) => disks.map(({ epoch }) => epoch)));

/** Whether the points of a disabled group are being deleted, or are. */
export const isGivenUp = (group: GroupDocument): boolean =>
  group.wanted === 'disabled' && (group.discardBeforeEpoch ?? 0) > lastEpoch(group);

/**
 * @param what would be done to the group
 * @throws TidemarkError FAILOVER_STATE while its disks in Azure would be forgotten by that
 */
export function requireNoOperation(group: GroupDocument, what: string): void {
  const states = operationStates(group);
  if (['none', 'committed'].includes(states.failover) && states.drill === 'none') return;
  const todo = `commit or cancel the failover, and clean up the test failover, before it is ${what}`;
  throw new TidemarkError('FAILOVER_STATE', `group ${group.group} has ${statesText(states)}; ${todo}`);
}

function checkRequest({ group, policy, machines }: ProtectRequest): void {
  requireName('group', group);
  requireName('policy', policy);
  requireCount(`group ${group}`, 'machines', machines.length, MAX_MACHINES);
  requireUnique(
    `group ${group}`,
    'machine',
    machines.map(({ machine }) => requireName('machine', machine)),
  );
  for (const { machine, disks } of machines) {
    requireCount(`machine ${machine}`, 'disks', disks.length, MAX_DISKS_PER_MACHINE);
    requireUnique(
      `machine ${machine}`,
      'disk',
      disks.map(({ disk }) => requireName('disk', disk)),
    );
    for (const { disk, sizeBytes } of disks) requireDiskSize(`${machine}/${disk}`, sizeBytes);
  }
}

function requireCount(where: string, what: string, count: number, max: number): void {
  if (count >= 1 && count <= max) return;
  throw new TidemarkError('GROUP_INVALID', `${where} has ${count} ${what}, but must have 1 to ${max}`);
}

function requireUnique(where: string, what: string, names: readonly string[]): void {
  const doubled = names.find((name, index) => names.indexOf(name) !== index);
  if (doubled !== undefined) throw new TidemarkError('GROUP_INVALID', `${where} names ${what} ${doubled} twice`);
}

/** A seed disk with points keeps its size. */
function checkKeptSizes(request: ProtectRequest, previous: GroupDocument): void {
  for (const { machine, disks } of request.machines) {
    const before = previous.machines.find((known) => known.machine === machine)?.disks ?? [];
    for (const { disk, sizeBytes } of disks) {
      const kept = before.find((known) => known.disk === disk && known.epoch >= (previous.discardBeforeEpoch ?? 1));
      if (kept === undefined || kept.sizeBytes === sizeBytes) continue;
      throw new TidemarkError(
        'GROUP_INVALID',
        `disk ${machine}/${disk} has kept points with ${kept.sizeBytes} bytes and cannot have ${sizeBytes}; give it a new name`,
      );
    }
  }
}

/** Pins that still hold at `nowUs` (wall clock). */
export const livePins = (group: GroupDocument, nowUs: number): readonly Pin[] =>
  group.pins.filter(({ expiresAt }) => expiresAt === null || usFromIso(expiresAt) > nowUs);

/** A group's pins, and what its jobs use, as the retention planner takes them. */
export function holdsOf(group: GroupDocument): readonly Hold[] {
  const pins = group.pins.map(({ point, owner, reason, expiresAt }): Hold => ({
    point,
    kind: 'pin',
    owner,
    reason,
    expiresAtUs: expiresAt === null ? null : usFromIso(expiresAt),
  }));
  return [...pins, ...jobHolds(group)];
}

/** A point in use is held by the claim itself, so that claim and hold come and go in one write, and no unpinning removes it. */
export function jobHolds({ failover, drill }: Pick<GroupDocument, 'failover' | 'drill'>): readonly Hold[] {
  const holds: Hold[] = [];
  const add = (operation: typeof failover | typeof drill, reason: string): void => {
    if (operation === undefined || operation.state === 'none' || operation.point === null) return;
    const owner = `job:${operation.made.at(-1) ?? operation.job}`;
    holds.push({ point: operation.point, kind: 'job', owner, reason, expiresAtUs: null });
  };
  add(failover, 'failover');
  add(drill, 'test failover');
  return holds;
}

export interface PinRequest {
  readonly group: string;
  /** Id of a point that exists; the caller has looked. */
  readonly point: string;
  readonly owner: string;
  readonly reason: string;
  /** Wall clock; null: until it is unpinned. */
  readonly expiresAtUs: number | null;
  /** Wall clock. */
  readonly nowUs: number;
}

/**
 * The group with one pin more. An owner has one pin per point: pinning again replaces it. Pins that have expired are dropped.
 *
 * @throws TidemarkError NAME_INVALID, PIN_INVALID; GROUP_DISABLED, FAILOVER_STATE when the group's points are being deleted.
 */
export function withPin(group: GroupDocument, request: PinRequest): GroupDocument {
  const { point, owner, reason, expiresAtUs, nowUs } = request;
  requireName('point', point);
  requireLine('owner', owner);
  requireLine('reason', reason);
  if (expiresAtUs !== null && expiresAtUs <= nowUs) {
    throw new TidemarkError('PIN_INVALID', `the pin would end at ${isoFromUs(expiresAtUs)}, which is over`);
  }
  if (isGivenUp(group)) {
    throw new TidemarkError('GROUP_DISABLED', `group ${group.group} is disabled and its points are being deleted`);
  }
  const { failover } = operationStates(group);
  if (failover === 'committing' || failover === 'committed') {
    const what = `the failover of group ${group.group} is ${failover}, and its points are deleted`;
    throw new TidemarkError('FAILOVER_STATE', what);
  }
  const others = livePins(group, nowUs).filter((pin) => pin.point !== point || pin.owner !== owner);
  if (others.length >= MAX_PINS) {
    throw new TidemarkError(
      'PIN_INVALID',
      `group ${group.group} has ${others.length} pins, and ${MAX_PINS} is the limit`,
    );
  }
  const expiresAt = expiresAtUs === null ? null : isoFromUs(expiresAtUs);
  return { ...group, pins: [...others, { point, owner, reason, expiresAt, createdAt: isoFromUs(nowUs) }] };
}

function requireLine(what: string, text: string): void {
  if (text.length <= MAX_PIN_TEXT_CHARS && /\S/.test(text) && !/\p{Cc}/u.test(text)) return;
  throw new TidemarkError(
    'PIN_INVALID',
    `the ${what} of a pin is one line of 1 to ${MAX_PIN_TEXT_CHARS} characters without control characters`,
  );
}
