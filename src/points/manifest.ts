/** Pure. The manifest of a recovery point: one blob, and its existence is the point. */
import { z } from 'zod';
import { MAX_FINDING_TEXT, VERDICTS } from '../inspect/finding.ts';
import { copyNameSchema, type PointDisk } from '../copies/copy-store.ts';
import { isoFromUs, stampFromUs } from '../model/time.ts';
import type { PointFact } from '../retention/plan.ts';

export const POINT_KINDS = ['crash', 'app', 'latest'] as const;
export type PointKind = (typeof POINT_KINDS)[number];

const bytes = z.number().int().nonnegative();

export const manifestDiskSchema = z.object({
  machine: z.string(),
  disk: z.string(),
  sizeBytes: bytes,
  /** Snapshot of the seed blob or of `copy`; the same as the previous point's when nothing changed in between. */
  snapshot: z.string(),
  /** Where the bytes are when they are not the seed disk's: a copy that was made for this point; see {@link isBuilt}. */
  copy: copyNameSchema.nullable().default(null),
  /** Bytes written or zeroed since the previous point (for the first point: since the disk was empty). */
  changedBytes: bytes,
  /** The place of the cut in the disk's log: before record `record` of segment `sequence`. */
  epoch: z.number().int().positive(),
  sequence: z.number().int().positive(),
  record: bytes,
  /** Digest of the last segment wholly before the cut: names everything in the log up to there. */
  logDigest: z.string(),
});

const inspectedDiskSchema = z.object({
  machine: z.string(),
  disk: z.string(),
  verdict: z.enum(VERDICTS),
  /** What was found, in one line. */
  text: z.string().max(MAX_FINDING_TEXT),
  /** The disk was damaged already when it was first looked at: its source is like that, and it does not count. */
  inherited: z.boolean(),
});

const verifiedSchema = z.object({
  at: z.string(),
  /** Bytes right as far as they were read, and no disk damaged that had been sound before. */
  ok: z.boolean(),
  /** Whether the bytes were read back, or the disks only inspected. Manifests from before inspections: read back. */
  bytes: z.boolean().default(true),
  /** What an operating system would find; absent when nobody has looked. */
  disks: z.array(inspectedDiskSchema).optional(),
});

export const manifestSchema = z.object({
  version: z.literal(1),
  point: z.string(),
  group: z.string(),
  kind: z.enum(POINT_KINDS),
  cutUs: bytes,
  /** The same for people: ISO 8601 with microseconds. */
  cut: z.string(),
  mark: z.string().nullable(),
  created: z.string(),
  previousPoint: z.string().nullable(),
  disks: z.array(manifestDiskSchema).min(1),
  /** SHA-256 of the `.changes` blob; null: it was lost with the catalog, and with it the checksums of the point. */
  changesSha256: z.string().nullable(),
  verified: verifiedSchema.nullable(),
});

export type Manifest = z.infer<typeof manifestSchema>;
export type InspectedDisk = Readonly<z.infer<typeof inspectedDiskSchema>>;
export type Verified = NonNullable<Manifest['verified']>;
export type ManifestDisk = z.infer<typeof manifestDiskSchema>;

/** A cut that is to become a point. */
export interface Cut {
  readonly kind: PointKind;
  readonly cutUs: number;
  /** Id of the mark, for cuts at marks. */
  readonly mark: string | null;
  /** At a moment that somebody asked for, and not one of the cuts that follow from the log. */
  readonly isMoment?: boolean;
}

/**
 * `20261123T043000.000000Z-crash`: points of a group sort by cut. One of a moment ends in `-at`, so that it never has the id of a cut
 * that is still to come.
 */
export const pointId = ({ cutUs, kind, isMoment }: Pick<Cut, 'kind' | 'cutUs' | 'isMoment'>): string =>
  `${stampFromUs(cutUs)}-${isMoment === true ? 'at' : kind}`;

/** Whether a point of this id, made or not, is one of a moment that somebody asked for. */
export const isMomentId = (point: string): boolean => point.endsWith('-at');

/** A point made on copies of an earlier one, beside the chain of points that the seed disks went through. */
export const isBuilt = ({ disks }: Pick<Manifest, 'disks'>): boolean => disks.some(({ copy }) => copy !== null);

export const pointDisk = ({ group }: Pick<Manifest, 'group'>, disk: ManifestDisk): PointDisk => ({
  group,
  machine: disk.machine,
  disk: disk.disk,
  sizeBytes: disk.sizeBytes,
  snapshot: disk.snapshot,
  copy: disk.copy,
});

/** What `point list` shows of a point. */
export interface PointSummary {
  readonly id: string;
  readonly kind: PointKind;
  readonly cut: string;
  readonly created: string;
  readonly disks: readonly { machine: string; disk: string; sizeBytes: number; changedBytes: number }[];
  readonly pinned: boolean;
  readonly verified: { readonly at: string; readonly ok: boolean; readonly bytes: boolean } | null;
}

export function summarize(manifest: Manifest, pinned: boolean): PointSummary {
  return {
    id: manifest.point,
    kind: manifest.kind,
    cut: isoFromUs(manifest.cutUs),
    created: manifest.created,
    disks: manifest.disks.map(({ machine, disk, sizeBytes, changedBytes }) => ({
      machine,
      disk,
      sizeBytes,
      changedBytes,
    })),
    pinned,
    verified:
      manifest.verified === null
        ? null
        : { at: manifest.verified.at, ok: manifest.verified.ok, bytes: manifest.verified.bytes },
  };
}

/** What the retention planner looks at. */
export function pointFact(manifest: Manifest): PointFact {
  return { id: manifest.point, kind: manifest.kind, cutUs: manifest.cutUs, isBuilt: isBuilt(manifest) };
}
