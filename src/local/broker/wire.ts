/** Between the broker's records and the AMQP messages that the SDK expects. */
import rhea, { type Message } from 'rhea';
import { type MessageRecord } from './entity.ts';

const { types, message: codec } = rhea;

/** Ticks of 100 ns from the year 1 to 1970, as .NET counts them. */
const UNIX_EPOCH_TICKS = 621_355_968_000_000_000n;

/** Type codes of AMQP arrays' elements. */
const LONG_CODE = 0x81;
const TIMESTAMP_CODE = 0x83;

/** A moment as the link property `com.microsoft:locked-until-utc` carries it. */
export function ticks(timeMs: number): unknown {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(timeMs) * 10_000n + UNIX_EPOCH_TICKS);
  return types.wrap_long(bytes);
}

/** A .NET GUID on the wire: its first three fields are little-endian. Its own inverse. */
export function swapGuid(id: Buffer): Buffer {
  const swapped = Buffer.from(id);
  swapped.subarray(0, 4).reverse();
  swapped.subarray(4, 6).reverse();
  swapped.subarray(6, 8).reverse();
  return swapped;
}

/** An AMQP long as rhea hands it out: a number, or 8 bytes when it is beyond 2^53. */
export function toNumber(value: unknown): number {
  return Buffer.isBuffer(value) ? Number(value.readBigInt64BE()) : Number(value);
}

/** Leaves out what is null, which the SDK sends for options that were not given. */
export function withoutNulls(properties: unknown): Record<string, unknown> {
  if (typeof properties !== 'object' || properties === null) return {};
  return Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== null && value !== undefined));
}

export const longArray = (values: readonly number[]): unknown => types.wrap_array([...values], LONG_CODE, undefined);
export const timestampArray = (values: readonly number[]): unknown =>
  types.wrap_array([...values], TIMESTAMP_CODE, undefined);
export const timestamp = (timeMs: number): unknown => types.wrap_timestamp(timeMs);
export const uuid = (id: Buffer): unknown => types.wrap_uuid(id);
export const map = (fields: Record<string, unknown>): unknown => types.wrap_map(fields);
export const int = (value: number): unknown => types.wrap_int(value);
export const symbol = (value: string): unknown => types.wrap_symbol(value);

/** The message as a receiver sees it: with its sequence, times, lock and delivery count. */
export function wireMessage(record: MessageRecord): Message {
  const { message, lock } = record;
  const annotations: Record<string, unknown> = {
    ...message.message_annotations,
    'x-opt-sequence-number': types.wrap_long(record.sequence),
    'x-opt-enqueue-sequence-number': types.wrap_long(record.sequence),
    'x-opt-enqueued-time': types.wrap_timestamp(record.enqueuedAtMs),
  };
  const scheduled = annotations['x-opt-scheduled-enqueue-time'];
  if (scheduled !== undefined && scheduled !== null) {
    const timeMs = scheduled instanceof Date ? scheduled.getTime() : Number(scheduled);
    annotations['x-opt-scheduled-enqueue-time'] = types.wrap_timestamp(timeMs);
  }
  if (lock !== undefined) annotations['x-opt-locked-until'] = types.wrap_timestamp(lock.untilMs);
  if (record.wasDeferred) annotations['x-opt-message-state'] = types.wrap_int(1);
  else if (record.state === 'scheduled') annotations['x-opt-message-state'] = types.wrap_int(2);
  return {
    ...message,
    delivery_count: record.deliveries,
    message_annotations: annotations,
    ...(record.expiresAtMs === Infinity ? {} : { ttl: record.expiresAtMs - record.enqueuedAtMs }),
  };
}

export const encodeMessage = (message: Message): Buffer => codec.encode(message);
export const decodeMessage = (bytes: Buffer): Message => codec.decode(bytes) as unknown as Message;

/** The messages of a batch: one data section each. */
export function decodeBatch(bytes: Buffer): Message[] {
  const content: unknown = (decodeMessage(bytes).body as { content?: unknown }).content;
  const sections = Array.isArray(content) ? (content as Buffer[]) : [content as Buffer];
  return sections.map(decodeMessage);
}

/** Bytes of a message's data sections; 0 for other kinds of body, whose size only encoding would tell. */
export function bodyBytes(message: Message): number {
  const content: unknown = (message.body as { content?: unknown } | null | undefined)?.content;
  const sections: unknown[] = Array.isArray(content) ? content : [content];
  return sections.reduce<number>((sum, section) => sum + (Buffer.isBuffer(section) ? section.length : 0), 0);
}

export const acceptedOutcome = (): unknown => describe(codec, 'accepted', undefined);
export const rejectedOutcome = (error: { condition: string; description: string }): unknown =>
  describe(codec, 'rejected', { error });

/** rhea makes outcomes, but its typings do not say so. */
function describe(from: unknown, outcome: 'accepted' | 'rejected', fields: unknown): unknown {
  const makers = from as Record<typeof outcome, (fields: unknown) => { described(): unknown }>;
  return makers[outcome](fields).described();
}
