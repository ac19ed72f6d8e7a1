/** Pure. Monitoring events as CloudEvents 1.0 (https://github.com/cloudevents/spec, structured JSON). */
import { z } from 'zod';
import { isoFromUs } from '../model/time.ts';
import { EVENT_SCHEMA_VERSION, type MonitoringEvent, parseEvent, SEVERITIES } from './events.ts';
import type { OutgoingMessage } from './message-topic.ts';
import type { OutboxState, QueuedEvent } from './outbox.ts';

const TYPE_PREFIX = 'Tidemark.';
const SOURCE_PREFIX = '/tidemark/groups/';
const PLAN_SOURCE_PREFIX = '/tidemark/plans/';

/** What a reader may count on; further attributes are kept. `severity` is an extension attribute. */
const cloudEventSchema = z.looseObject({
  specversion: z.literal('1.0'),
  id: z.string().min(1),
  source: z.string().min(1),
  type: z.string().min(1),
  subject: z.string().min(1).optional(),
  time: z.iso.datetime({ offset: true }).regex(/T\d{2}:\d{2}:\d{2}/, 'with seconds'),
  datacontenttype: z.literal('application/json').optional(),
  dataschema: z.string().optional(),
  severity: z.enum(SEVERITIES).optional(),
  data: z.unknown().optional(),
});

export type CloudEvent = Readonly<z.infer<typeof cloudEventSchema>>;

/**
 * The message of a queued event. The same event always gives the same message.
 * @param job of an event in a job's own outbox, whose sequences are its own
 */
export function toMessage(queued: QueuedEvent, group: string, job?: string): OutgoingMessage {
  const id = job === undefined ? `${group}:${queued.sequence}` : `${group}:${job}:${queued.sequence}`;
  return messageOf(queued, {
    id,
    source: `${SOURCE_PREFIX}${group}`,
    subject: subjectOf(queued, group),
    about: { group },
  });
}

/** The message of an event in the outbox of a run of a recovery plan. A slash keeps its id apart from those of groups. */
export function planMessage(
  queued: QueuedEvent,
  { run, plan }: { readonly run: string; readonly plan: string },
): OutgoingMessage {
  const id = `runs/${run}:${queued.sequence}`;
  return messageOf(queued, {
    id,
    source: `${PLAN_SOURCE_PREFIX}${plan}`,
    subject: `runs/${run}`,
    about: { plan, run },
  });
}

interface Envelope {
  readonly id: string;
  readonly source: string;
  readonly subject: string;
  /** Application properties, beside type and severity, that subscriptions may filter by. */
  readonly about: Readonly<Record<string, string>>;
}

function messageOf(queued: QueuedEvent, { id, source, subject, about }: Envelope): OutgoingMessage {
  const body: CloudEvent = {
    specversion: '1.0',
    id,
    source,
    type: `${TYPE_PREFIX}${queued.type}`,
    subject,
    time: isoFromUs(queued.atUs),
    datacontenttype: 'application/json',
    dataschema: `tidemark:events/${queued.type}/v${EVENT_SCHEMA_VERSION}`,
    severity: queued.severity,
    data: queued.data,
  };
  return {
    messageId: id,
    subject,
    body,
    applicationProperties: { type: queued.type, ...about, severity: queued.severity },
  };
}

export interface OutboxBatch {
  /** In the order of their sequences. */
  readonly messages: readonly OutgoingMessage[];
  /** To acknowledge once all of them are sent. */
  readonly throughSequence: number;
}

/** The oldest `limit` messages of an outbox, or undefined when it is empty. */
export function nextBatch(outbox: OutboxState, group: string, limit: number): OutboxBatch | undefined {
  const events = outbox.queued.slice(0, limit);
  const last = events.at(-1);
  if (last === undefined) return undefined;
  return { messages: events.map((event) => toMessage(event, group)), throughSequence: last.sequence };
}

/** What the event is about within its source: a point, a job, a disk, or the group itself. */
function subjectOf({ data }: QueuedEvent, group: string): string {
  const { point, job, machine, disk } = data;
  if (typeof job === 'string') return `jobs/${job}`;
  if (typeof point === 'string') return `points/${point}`;
  if (typeof machine !== 'string') return `groups/${group}`;
  return typeof disk === 'string' ? `disks/${machine}/${disk}` : `machines/${machine}`;
}

/** The body of a message of the topic, or undefined when it is no CloudEvent: others may send there too. */
export function readCloudEvent(body: unknown): CloudEvent | undefined {
  const parsed = cloudEventSchema.safeParse(body);
  return parsed.success ? parsed.data : undefined;
}

/** The event inside, or undefined when it is none of ours or of a version that this one does not know. */
export function eventOf(cloudEvent: CloudEvent): MonitoringEvent | undefined {
  if (!cloudEvent.type.startsWith(TYPE_PREFIX)) return undefined;
  return parseEvent(cloudEvent.type.slice(TYPE_PREFIX.length), cloudEvent.data);
}

/** The group that a CloudEvent is about, or undefined when it is none of ours. */
export function groupOf(cloudEvent: CloudEvent): string | undefined {
  return cloudEvent.source.startsWith(SOURCE_PREFIX) ? cloudEvent.source.slice(SOURCE_PREFIX.length) : undefined;
}
