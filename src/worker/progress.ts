/** Pure. The progress document of a group: how far its owner has come. Only the owner writes it, under lease and ETag. */
import { z } from 'zod';
import { STREAM_START, type LogPosition, type SegmentTail } from '../drain/log-reader.ts';
import { healthMemorySchema, NEW_HEALTH } from '../monitoring/health.ts';
import { newOutbox, outboxSchema } from '../monitoring/outbox.ts';

const count = z.number().int().nonnegative();
const timeUs = count.nullable();

const positionSchema = z.object({
  sequence: z.number().int().positive(),
  record: count,
  previous: z
    .object({ digest: z.string().length(64), endTimeUs: count, recordsThrough: count, streamStartUs: count })
    .nullable(),
});

export const DISK_STATES = ['initial-replication', 'protected', 'resync-required'] as const;
export type DiskState = (typeof DISK_STATES)[number];

const diskProgressSchema = z.object({
  machine: z.string(),
  disk: z.string(),
  epoch: z.number().int().positive(),
  state: z.enum(DISK_STATES),
  /** Everything before it is on the seed. */
  applied: positionSchema,
  /** The place of the newest point's cut: what changed since then belongs to the next point. */
  cut: positionSchema,
  baseCompleteUs: timeUs,
  /** End time of the last segment wholly applied. */
  watermarkUs: timeUs,
  /** Payload bytes applied before the initial copy was complete. */
  baseAppliedBytes: count,
  /** The newest point's snapshot. */
  snapshot: z.string().nullable(),
  /** Segments through this sequence are deleted from the cache. */
  trimmedThrough: count,
  defect: z.object({ code: z.string(), blob: z.string(), offset: count.nullable(), reason: z.string() }).nullable(),
});

export type DiskProgress = z.infer<typeof diskProgressSchema>;

const buildingSchema = z.object({
  point: z.string(),
  /** The point whose copies it is built on. */
  base: z.string(),
  /** Wall-clock time from which on nothing is kept for it any more. */
  expiresAtUs: count,
});

export type Building = z.infer<typeof buildingSchema>;

export const progressSchema = z.object({
  version: z.literal(1),
  group: z.string(),
  /** The next five-minute boundary; null until every disk's initial copy is complete, and in groups without boundaries. */
  boundaryUs: timeUs,
  newestPoint: z.object({ id: z.string(), cutUs: count }).nullable(),
  /** A point of kind `latest` is due at this time: all seeds stand at it, and nothing is applied until it is made; null: none is. */
  latestUs: timeUs.default(null),
  /** A point that somebody builds on copies: its base, the log from there on and its copies stay; null: none is. */
  building: buildingSchema.nullable().default(null),
  /**
   * Whether app marks stop the disks. An owner that applies without stopping at them says so here first: what lies between a mark and
   * what it has applied nobody knows afterwards, so marks count again only behind it.
   */
  appMarks: z.boolean().default(true),
  newestAppCutUs: timeUs,
  /** From when the interval without an app-consistent point counts. */
  appIntervalFromUs: timeUs,
  /** Points that a prune has decided to remove and may not have finished with. */
  pruning: z.object({ remove: z.array(z.object({ id: z.string(), reason: z.string() })), kept: count }).nullable(),
  /** The point whose damage was told last without being asked for; null before the first. */
  damageTold: z.string().nullable().default(null),
  health: healthMemorySchema,
  lagReportedUs: count,
  /** Epochs before it are reported as disabled; 1: none. It and the next one never go down. */
  disabledBeforeEpoch: z.number().int().positive().default(1),
  /** Nothing is left of epochs before it; 1: nothing was ever discarded. */
  discardedBeforeEpoch: z.number().int().positive().default(1),
  /** Pace of the last drain that had something to do, in bytes of log; null before the first. */
  bytesPerSecond: z.number().nonnegative().nullable(),
  disks: z.array(diskProgressSchema),
  outbox: outboxSchema,
});

export type ProgressDocument = z.infer<typeof progressSchema>;
type StoredPosition = z.infer<typeof positionSchema>;

export function storedPosition({ sequence, record, previous }: LogPosition): StoredPosition {
  return {
    sequence,
    record,
    previous: previous === null ? null : { ...previous, digest: previous.digest.toString('hex') },
  };
}

export function logPosition({ sequence, record, previous }: StoredPosition): LogPosition {
  const tail: SegmentTail | null =
    previous === null ? null : { ...previous, digest: Buffer.from(previous.digest, 'hex') };
  return { sequence, record, previous: tail };
}

export function newDiskProgress({
  machine,
  disk,
  epoch,
}: {
  readonly machine: string;
  readonly disk: string;
  readonly epoch: number;
}): DiskProgress {
  return {
    machine,
    disk,
    epoch,
    state: 'initial-replication',
    applied: storedPosition(STREAM_START),
    cut: storedPosition(STREAM_START),
    baseCompleteUs: null,
    watermarkUs: null,
    baseAppliedBytes: 0,
    snapshot: null,
    trimmedThrough: 0,
    defect: null,
  };
}

export function newProgress(group: string, disks: readonly DiskProgress[], createdAtUs: number): ProgressDocument {
  return {
    version: 1,
    group,
    boundaryUs: null,
    newestPoint: null,
    latestUs: null,
    building: null,
    appMarks: true,
    newestAppCutUs: null,
    appIntervalFromUs: null,
    pruning: null,
    damageTold: null,
    health: NEW_HEALTH,
    lagReportedUs: 0,
    disabledBeforeEpoch: 1,
    discardedBeforeEpoch: 1,
    bytesPerSecond: null,
    disks: [...disks],
    outbox: newOutbox(createdAtUs),
  };
}

/** Whether exactly this is being built. */
export const isBuilding = (
  { building }: Pick<ProgressDocument, 'building'>,
  { point, base, expiresAtUs }: Building,
): boolean => building?.point === point && building.base === base && building.expiresAtUs === expiresAtUs;

/** What is being built, unless its time is over. */
export const liveBuilding = ({ building }: Pick<ProgressDocument, 'building'>, nowUs: number): Building | null =>
  building === null || building.expiresAtUs <= nowUs ? null : building;
