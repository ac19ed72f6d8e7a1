/**
 * Pure. The metadata of a point's snapshots: enough to write the manifest again when the catalog is lost, and to prove that it is the
 * same one. docs/points.md lists the keys.
 *
 * A disk that did not change has no snapshot of the point. Which older ones the point uses cannot stand in 8 KiB for a thousand disks, so
 * each snapshot carries a digest over all disks of its point; whoever rebuilds finds the older ones and compares.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { assert } from '../errors.ts';
import { diskLabel, MAX_EPOCH, MAX_SEQUENCE } from '../model/names.ts';
import { policyFields, withPolicyRules, type Policy } from '../retention/policy.ts';
import type { SnapshotMetadata } from '../seed/seed-store.ts';
import { POINT_KINDS, pointId, type PointKind } from './manifest.ts';

/** A policy as the group's owner had it when the snapshot was taken. */
export interface PolicyNote extends Policy {
  readonly policy: string;
}

/** What every snapshot has said from the beginning. */
export interface SnapshotFacts {
  readonly point: string;
  readonly kind: PointKind;
  readonly cutUs: number;
  readonly group: string;
  readonly machine: string;
  readonly disk: string;
  readonly epoch: number;
  readonly sequence: number;
  readonly record: number;
  readonly logDigest: string;
}

/** What it says besides, so that its point can be rebuilt. */
export interface PointFacts {
  readonly mark: string | null;
  readonly previousPoint: string | null;
  readonly sizeBytes: number;
  /** Bytes written or zeroed since the previous point. */
  readonly changedBytes: number;
  /** The disk's place among those of the point, from 0, and their number. */
  readonly place: number;
  readonly diskCount: number;
  /** {@link membersDigest} of the point. */
  readonly members: string;
  /** Absent for points that are built on copies. */
  readonly policy?: PolicyNote;
}

export type WholeFacts = SnapshotFacts & PointFacts;

/** A disk of a point, for {@link membersDigest}. */
export interface Member {
  readonly machine: string;
  readonly disk: string;
  readonly sizeBytes: number;
  readonly epoch: number;
  /** The older snapshot that the point uses; null: the one that was taken for it. */
  readonly snapshot: string | null;
}

/** SHA-256 over the disks of a point and where their bytes are; their order does not matter. */
export function membersDigest(members: readonly Member[]): string {
  const lines = members.map((member) => {
    const { sizeBytes, epoch, snapshot } = member;
    return `${diskLabel(member)} ${sizeBytes} ${epoch} ${snapshot ?? '+'}\n`;
  });
  return createHash('sha256').update(lines.toSorted().join('')).digest('hex');
}

/** Keys that may differ between two attempts at the same snapshot. */
const NOTES: ReadonlySet<string> = new Set(['changed', 'policy']);

/** Whether a snapshot with `found` is one of the point, disk and place in the log that `wanted` names. */
export const isSameSnapshot = (found: SnapshotMetadata, wanted: SnapshotMetadata): boolean =>
  Object.entries(wanted).every(([key, value]) => NOTES.has(key) || found[key] === value);

export function snapshotMetadata(facts: WholeFacts): SnapshotMetadata {
  const { mark, previousPoint, policy } = facts;
  return {
    point: facts.point,
    kind: facts.kind,
    cut: String(facts.cutUs),
    group: facts.group,
    machine: facts.machine,
    disk: facts.disk,
    position: `${facts.epoch}.${facts.sequence}.${facts.record}`,
    digest: facts.logDigest,
    size: String(facts.sizeBytes),
    changed: String(facts.changedBytes),
    place: `${facts.place + 1}/${facts.diskCount}`,
    members: facts.members,
    ...(mark === null ? {} : { mark: encodeURIComponent(mark) }),
    ...(previousPoint === null ? {} : { previous: previousPoint }),
    ...(policy === undefined ? {} : { policy: policyText(policy) }),
  };
}

/**
 * - `foreign`: none of Tidemark's.
 * - `old`: from before points could be rebuilt: it does not say which disks its point has.
 * - `malformed`: what Tidemark never writes.
 */
export type SnapshotReading =
  | { readonly form: 'whole'; readonly facts: WholeFacts }
  | { readonly form: 'old'; readonly facts: SnapshotFacts }
  | { readonly form: 'malformed'; readonly reason: string }
  | { readonly form: 'foreign' };

const MAX_TEXT = 64;
const digits = z.string().regex(/^(?:0|[1-9]\d{0,15})$/);
const count = digits.transform(Number).pipe(z.number().int().nonnegative());
const name = z.string().min(1).max(MAX_TEXT);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const position = z
  .string()
  .regex(/^[1-9]\d{0,7}\.[1-9]\d{0,11}\.\d{1,9}$/)
  .transform((text) => text.split('.').map(Number) as [number, number, number])
  .refine(([epoch, sequence]) => epoch <= MAX_EPOCH && sequence <= MAX_SEQUENCE);

const oldSchema = z.object({
  point: name,
  kind: z.enum(POINT_KINDS),
  cut: count,
  group: name,
  machine: name,
  disk: name,
  position,
  digest: sha256,
});

const place = z
  .string()
  .regex(/^[1-9]\d{0,3}\/[1-9]\d{0,3}$/)
  .transform((text) => text.split('/').map(Number) as [number, number])
  .refine(([nth, all]) => nth <= all);

const addedSchema = z.object({
  size: count,
  changed: count,
  place,
  members: sha256,
  mark: z
    .string()
    .transform((text, context) => {
      try {
        return decodeURIComponent(text);
      } catch {
        context.addIssue({ code: 'custom', message: 'is no encoded text' });
        return z.NEVER;
      }
    })
    .optional(),
  previous: name.optional(),
  policy: z.string().optional(),
});

/** @param metadata as storage gives it, whoever wrote it */
export function readSnapshotMetadata(metadata: SnapshotMetadata): SnapshotReading {
  if (metadata['point'] === undefined) return { form: 'foreign' };
  const old = oldSchema.safeParse(metadata);
  if (!old.success) return malformed(old.error);
  const { cut: cutUs, digest: logDigest, position: places, ...names } = old.data;
  if (!hasId({ ...names, cutUs })) {
    return { form: 'malformed', reason: `point: ${names.point} is not the id of its cut and kind` };
  }
  const [epoch, sequence, record] = places;
  const facts = { ...names, cutUs, epoch, sequence, record, logDigest };
  if (metadata['members'] === undefined) return { form: 'old', facts };
  const added = addedSchema.safeParse(metadata);
  if (!added.success) return malformed(added.error);
  const { mark = null, previous = null, size, changed, members, policy } = added.data;
  const [nth, diskCount] = added.data.place;
  const note = policy === undefined ? undefined : readPolicy(policy);
  return {
    form: 'whole',
    facts: {
      ...facts,
      mark,
      previousPoint: previous,
      sizeBytes: size,
      changedBytes: changed,
      place: nth - 1,
      diskCount,
      members,
      ...(note === undefined ? {} : { policy: note }),
    },
  };
}

function malformed({ issues: [issue] }: z.ZodError): SnapshotReading {
  return { form: 'malformed', reason: `${String(issue?.path[0] ?? 'metadata')}: ${issue?.message ?? 'is wrong'}` };
}

const hasId = ({ point, kind, cutUs }: Pick<SnapshotFacts, 'point' | 'kind' | 'cutUs'>): boolean =>
  Number.isSafeInteger(cutUs) && [false, true].some((isMoment) => pointId({ kind, cutUs, isMoment }) === point);

/** `gold 72/4/15/0`: name, then hours of retention, hours between app-consistent points, RPO threshold in minutes, hours of log. */
function policyText(note: PolicyNote): string {
  assert(!note.policy.includes(' '), 'a policy name has no spaces');
  const { retentionHours, appConsistentHours, rpoThresholdMinutes, logRetentionHours } = note;
  return `${note.policy} ${retentionHours}/${appConsistentHours}/${rpoThresholdMinutes}/${logRetentionHours}`;
}

const noteSchema = withPolicyRules(z.object({ policy: name, ...policyFields }));

/** Undefined when it is none: a policy that cannot be read is no reason to lose a point. */
function readPolicy(text: string): PolicyNote | undefined {
  const [, policy, ...numbers] = /^(\S+) (\d{1,6})\/(\d{1,6})\/(\d{1,6})\/(\d{1,6})$/.exec(text) ?? [];
  const [retentionHours, appConsistentHours, rpoThresholdMinutes, logRetentionHours] = numbers.map(Number);
  const note = { policy, retentionHours, appConsistentHours, rpoThresholdMinutes, logRetentionHours };
  const read = noteSchema.safeParse(note);
  return read.success ? read.data : undefined;
}
