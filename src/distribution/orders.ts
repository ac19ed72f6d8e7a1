/**
 * Pure. Orders to work on a group: messages of the queue that commands come by, in the session of the group. Their ids are fixed by what
 * they are for, so that the queue's duplicate detection makes one of what several schedulers, or one twice, ask for.
 */
import { CONTAINERS, streamOfPrefix } from '../model/names.ts';

/** Subjects of the messages. A command has none. */
export const SUBJECTS = ['cycle', 'prune'] as const;
export type OrderSubject = (typeof SUBJECTS)[number];

/** Of an order to go on with a job, which takes no turn of the worker. */
export const JOB_SUBJECT = 'job';

export interface Order {
  /** Session. */
  readonly group: string;
  readonly subject: OrderSubject | typeof JOB_SUBJECT;
  /** With {@link JOB_SUBJECT}: its id. */
  readonly job?: string;
  readonly messageId: string;
  /** The queue keeps it back until then. */
  readonly notBeforeMs?: number;
}

/**
 * Cache events within one such span give one order at its end: whatever comes while it is kept back is contained. It is long enough that a
 * busy source costs few turns, and short against the five minutes between two points.
 */
export const EVENT_SPAN_MS = 15_000;
/** Between two slices of one group: time enough for another group's turn to come first. */
export const MORE_DELAY_MS = 1000;

export const isOrder = (subject: string | undefined): subject is OrderSubject =>
  SUBJECTS.some((known) => known === subject);

/** The order of the period that `nowMs` lies in. */
export function cycleOrder(group: string, periodMs: number, nowMs: number): Order {
  return { group, subject: 'cycle', messageId: `cycle.${group}.${periodMs}.${Math.floor(nowMs / periodMs)}` };
}

export function pruneOrder(group: string, periodMs: number, nowMs: number): Order {
  return { group, subject: 'prune', messageId: `prune.${group}.${periodMs}.${Math.floor(nowMs / periodMs)}` };
}

/** What a cache event asks for. */
export function eventOrder(group: string, nowMs: number): Order {
  const span = Math.floor(nowMs / EVENT_SPAN_MS);
  const messageId = `event.${group}.${span}`;
  return { group, subject: 'cycle', messageId, notBeforeMs: (span + 1) * EVENT_SPAN_MS };
}

/** The rest of a turn that ended before its work did; `sequence` of the message that the turn was for. */
export function moreOrder(group: string, sequence: string, nowMs: number): Order {
  return { group, subject: 'cycle', messageId: `more.${group}.${sequence}`, notBeforeMs: nowMs + MORE_DELAY_MS };
}

/** To execute a job that a host does not execute itself, or has begun and hands over. */
export function jobOrder(group: string, job: string, nowMs: number): Order {
  return { group, subject: JOB_SUBJECT, job, messageId: `job.${group}.${job}.${nowMs}` };
}

const SUBJECT_PREFIX = `/blobServices/default/containers/${CONTAINERS.logs}/blobs/`;

/**
 * The group that a `BlobCreated` event is about, in Event Grid's schema or that of CloudEvents.
 * @returns undefined when it is no such event, or not of a replication log
 */
export function groupOfEvent(body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const { subject, eventType, type } = body as Record<string, unknown>;
  if ((eventType ?? type) !== 'Microsoft.Storage.BlobCreated' || typeof subject !== 'string') return undefined;
  if (!subject.startsWith(SUBJECT_PREFIX)) return undefined;
  const name = subject.slice(SUBJECT_PREFIX.length);
  return streamOfPrefix(name.slice(0, name.lastIndexOf('/') + 1))?.group;
}
