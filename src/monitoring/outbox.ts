/**
 * Pure. Events that wait to be sent. The outbox is a part of the group's progress document, so that an event is queued in the same
 * guarded write as the fact that it reports, and sent after it: at least once, with an id that never changes.
 *
 * Sequences are never used twice and entries are never renumbered; what is left out is left out whole. So a progress figure may
 * be superseded at any time, even when it was offered for sending and the answer is still out: whether or not its message
 * arrived, no other message will ever carry its id, and duplicate detection cannot confuse the two. Gaps between ids are normal.
 */
import { z } from 'zod';
import { assert, TidemarkError } from '../errors.ts';
import { fitEventData } from './event-limits.ts';
import { type MonitoringEvent, progressKey, requireEvent, SEVERITIES, severityOf } from './events.ts';

/** About three days of a group's points, prunes and health changes: longer than any outage that nobody should notice. */
export const MAX_OUTBOX = 2000;
/** The progress document is written again with every step, so it must stay small even when events are large. */
export const MAX_OUTBOX_BYTES = 2 * 1024 * 1024;

/** Types and data are not checked on reading: what a newer version has queued is sent on as it is. */
const queuedEventSchema = z.strictObject({
  sequence: z.int().positive(),
  /** When it was queued, microseconds since 1970 on the worker's clock. */
  atUs: z.int().nonnegative(),
  type: z.string().min(1).max(100),
  severity: z.enum(SEVERITIES),
  data: z.record(z.string(), z.unknown()),
});

export const outboxSchema = z
  .strictObject({ nextSequence: z.int().positive(), queued: z.array(queuedEventSchema).max(MAX_OUTBOX).readonly() })
  .refine(
    ({ nextSequence, queued }) =>
      queued.every((event, at) => event.sequence < (queued[at + 1]?.sequence ?? nextSequence)),
    {
      error: 'sequences must ascend and stay below nextSequence',
    },
  );

export type QueuedEvent = Readonly<z.infer<typeof queuedEventSchema>>;

export interface OutboxState {
  readonly nextSequence: number;
  /** Ascending by sequence. */
  readonly queued: readonly QueuedEvent[];
}

/**
 * An empty outbox. It counts on from the time of its making in milliseconds, so that a group that is protected anew under an old name
 * does not repeat ids that duplicate detection still remembers (up to 7 days).
 */
export function newOutbox(createdAtUs: number): OutboxState {
  assert(Number.isSafeInteger(createdAtUs) && createdAtUs >= 1000, 'an outbox is made at a time after 1970');
  return { nextSequence: Math.floor(createdAtUs / 1000), queued: [] };
}

/**
 * Queues events in their order. A progress figure takes the place of the queued one of its key; in a full outbox such figures make room for
 * facts, and new ones are left out. Facts are never left out.
 *
 * @param atUs the time of the events: microseconds since 1970 on the worker's clock
 * @throws TidemarkError ASSERTION when an event does not match its schema; OUTBOX_FULL when facts alone reach a bound: the group's
 * next fact must wait until messages flow again. Either way nothing was queued.
 */
export function enqueue(outbox: OutboxState, events: readonly MonitoringEvent[], atUs: number): OutboxState {
  let { nextSequence, queued } = outbox;
  for (const candidate of events) {
    const event = requireEvent({ ...candidate, data: fitEventData(candidate.data) } as MonitoringEvent);
    const key = progressKey(event);
    if (key !== undefined) queued = queued.filter((other) => progressKey(other) !== key);
    const entry = { sequence: nextSequence, atUs, type: event.type, severity: severityOf(event), data: event.data };
    const room = roomFor(queued, entry, key === undefined);
    if (room === undefined) continue;
    queued = [...room, entry];
    nextSequence++;
  }
  return { nextSequence, queued };
}

/** The queue with room for `entry`, or undefined when a progress figure finds none. */
function roomFor(
  queued: readonly QueuedEvent[],
  entry: QueuedEvent,
  isFact: boolean,
): readonly QueuedEvent[] | undefined {
  const bytes = entryBytes(entry);
  if (fits(queued, bytes)) return queued;
  if (!isFact) return undefined;
  const facts = queued.filter((other) => progressKey(other) === undefined);
  if (fits(facts, bytes)) return facts;
  throw new TidemarkError('OUTBOX_FULL', `${facts.length} messages wait to be sent, and ${entry.type} finds no room`, {
    details: { queued: facts.length },
  });
}

const fits = (queued: readonly QueuedEvent[], bytes: number): boolean =>
  queued.length < MAX_OUTBOX && queued.reduce((sum, event) => sum + entryBytes(event), bytes) <= MAX_OUTBOX_BYTES;

const sizes = new WeakMap<QueuedEvent, number>();

/** Bytes of an entry as JSON; counted once, as entries never change. */
function entryBytes(event: QueuedEvent): number {
  const known = sizes.get(event);
  if (known !== undefined) return known;
  const bytes = Buffer.byteLength(JSON.stringify(event));
  sizes.set(event, bytes);
  return bytes;
}

/**
 * Forgets what was sent: every entry through that sequence. Entries queued since stay. Doing it again changes nothing.
 *
 * @throws TidemarkError ASSERTION when such a sequence was never given out
 */
export function acknowledge(outbox: OutboxState, throughSequence: number): OutboxState {
  assert(throughSequence < outbox.nextSequence, `sequence ${throughSequence} was never queued`);
  return { ...outbox, queued: outbox.queued.filter((event) => event.sequence > throughSequence) };
}
