/** The handshake with one client: "fixed newstyle" with options, until it chooses the export or leaves. */
import type { Channel } from './channel.ts';
import {
  CLIENT_FLAGS_BYTES,
  decodeClientFlags,
  decodeInfoOption,
  decodeMetaContextOption,
  decodeOptionHeader,
  decodeText,
  encodeBlockSizeInfo,
  encodeExportInfo,
  encodeExportNameReply,
  encodeGreeting,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerName,
  OPTION_HEADER_BYTES,
  transmissionFlags,
} from './handshake-codec.ts';
import {
  ALLOCATION_CONTEXT,
  ALLOCATION_CONTEXT_ID,
  MAX_OPTION_BYTES,
  MAX_OPTIONS,
  OPTION,
  OPTION_REPLY,
  type OptionReplyType,
} from './protocol.ts';

/** What a client may choose: one export, which the empty name means too. */
export interface Served {
  readonly name: string;
  readonly sizeBytes: number;
  readonly writable: boolean;
}

/** What client and server have agreed on. */
export interface Agreement {
  readonly structured: boolean;
  readonly allocation: boolean;
}

interface Handshake {
  readonly channel: Channel;
  readonly served: Served;
  readonly noZeroes: boolean;
  structured: boolean;
  allocation: boolean;
}

/** @returns undefined when the client left, or said what cannot be answered; the connection is to be ended then */
export async function shakeHands(channel: Channel, served: Served): Promise<Agreement | undefined> {
  await channel.send(encodeGreeting());
  const flagBytes = await channel.read(CLIENT_FLAGS_BYTES);
  const flags = flagBytes === undefined ? undefined : decodeClientFlags(flagBytes);
  if (flags === undefined) return undefined;
  const handshake: Handshake = { channel, served, ...flags, structured: false, allocation: false };
  for (let options = 0; options < MAX_OPTIONS; options++) {
    const outcome = await answerOption(handshake);
    if (outcome === 'left') return undefined;
    if (outcome === 'chosen') return { structured: handshake.structured, allocation: handshake.allocation };
  }
  return undefined;
}

type Outcome = 'next' | 'chosen' | 'left';

async function answerOption(handshake: Handshake): Promise<Outcome> {
  const { channel } = handshake;
  const headerBytes = await channel.read(OPTION_HEADER_BYTES);
  const header = headerBytes === undefined ? undefined : decodeOptionHeader(headerBytes);
  if (header === undefined) return 'left';
  const { option, lengthBytes } = header;
  if (lengthBytes > MAX_OPTION_BYTES) {
    // The oldest option has no replies.
    if (option !== OPTION.exportName) await reply(handshake, option, OPTION_REPLY.tooBig);
    return 'left';
  }
  const payload = await channel.read(lengthBytes);
  return payload === undefined ? 'left' : await carryOut(handshake, option, payload);
}

async function carryOut(handshake: Handshake, option: number, payload: Buffer): Promise<Outcome> {
  switch (option) {
    case OPTION.exportName:
      return chooseByName(handshake, payload);
    case OPTION.abort:
      await reply(handshake, option, OPTION_REPLY.ack);
      return 'left';
    case OPTION.list:
      return list(handshake, payload);
    case OPTION.info:
    case OPTION.go:
      return describe(handshake, option, payload);
    case OPTION.structuredReply:
      if (payload.length > 0) return reply(handshake, option, OPTION_REPLY.invalid);
      handshake.structured = true;
      return reply(handshake, option, OPTION_REPLY.ack);
    case OPTION.listMetaContext:
    case OPTION.setMetaContext:
      return metaContext(handshake, option, payload);
    case OPTION.startTls:
      return reply(handshake, option, OPTION_REPLY.policy);
    default:
      return reply(handshake, option, OPTION_REPLY.unsupported);
  }
}

async function reply({ channel }: Handshake, option: number, type: OptionReplyType, data?: Buffer): Promise<'next'> {
  await channel.send(encodeOptionReply(option, type, data));
  return 'next';
}

const isServed = ({ served }: Handshake, name: string): boolean => name === served.name || name === '';

/** The oldest way to choose: without replies, so that a wrong name can only end the connection. */
async function chooseByName(handshake: Handshake, payload: Buffer): Promise<Outcome> {
  const { channel, served, noZeroes, structured } = handshake;
  const name = decodeText(payload);
  if (name === undefined || !isServed(handshake, name)) return 'left';
  const flags = transmissionFlags(served.writable, structured);
  await channel.send(encodeExportNameReply(served.sizeBytes, flags, noZeroes));
  return 'chosen';
}

async function list(handshake: Handshake, payload: Buffer): Promise<Outcome> {
  if (payload.length > 0) return reply(handshake, OPTION.list, OPTION_REPLY.invalid);
  await reply(handshake, OPTION.list, OPTION_REPLY.server, encodeServerName(handshake.served.name));
  return reply(handshake, OPTION.list, OPTION_REPLY.ack);
}

async function describe(handshake: Handshake, option: number, payload: Buffer): Promise<Outcome> {
  const wanted = decodeInfoOption(payload);
  if (wanted === undefined) return reply(handshake, option, OPTION_REPLY.invalid);
  if (!isServed(handshake, wanted.exportName)) return reply(handshake, option, OPTION_REPLY.unknown);
  const { served, structured } = handshake;
  const flags = transmissionFlags(served.writable, structured);
  await reply(handshake, option, OPTION_REPLY.info, encodeExportInfo(served.sizeBytes, flags));
  await reply(handshake, option, OPTION_REPLY.info, encodeBlockSizeInfo());
  await reply(handshake, option, OPTION_REPLY.ack);
  return option === OPTION.go ? 'chosen' : 'next';
}

/** A list may ask for everything, by no query or by the namespace; a selection names exactly what it wants, and replaces the last one. */
async function metaContext(handshake: Handshake, option: number, payload: Buffer): Promise<Outcome> {
  const wanted = decodeMetaContextOption(payload);
  const selects = option === OPTION.setMetaContext;
  if (selects) handshake.allocation = false;
  if (wanted === undefined || !handshake.structured) return reply(handshake, option, OPTION_REPLY.invalid);
  if (!isServed(handshake, wanted.exportName)) return reply(handshake, option, OPTION_REPLY.unknown);
  const { queries } = wanted;
  const matches =
    queries.includes(ALLOCATION_CONTEXT) || (!selects && (queries.length === 0 || queries.includes('base:')));
  if (matches) {
    if (selects) handshake.allocation = true;
    const context = encodeMetaContext(selects ? ALLOCATION_CONTEXT_ID : 0, ALLOCATION_CONTEXT);
    await reply(handshake, option, OPTION_REPLY.metaContext, context);
  }
  return reply(handshake, option, OPTION_REPLY.ack);
}
