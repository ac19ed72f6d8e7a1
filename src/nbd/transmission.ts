/** The transmission phase of one connection: requests are read in order, carried out side by side, and answered as they end. */
import { TidemarkError } from '../errors.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { Channel } from './channel.ts';
import type { NbdExport } from './export.ts';
import type { Agreement } from './handshake.ts';
import {
  COMMAND,
  COMMAND_FLAG,
  MAX_PAYLOAD_BYTES,
  MAX_STATUS_EXTENTS,
  MIN_HOLE_CHUNK_BYTES,
  type NbdErrorName,
} from './protocol.ts';
import {
  decodeRequest,
  encodeDataChunk,
  encodeErrorChunk,
  encodeHoleChunk,
  encodeSimpleReply,
  encodeStatusChunk,
  mergeExtents,
  type NbdRequest,
  refusal,
  REQUEST_BYTES,
} from './transmission-codec.ts';

export interface TransmissionOptions {
  readonly channel: Channel;
  readonly disk: NbdExport;
  readonly agreement: Agreement;
  /** Shared by all connections. */
  readonly budget: ByteBudget;
  readonly requestsInFlight: number;
  /** The bytes of a write must be there within that time: they wait in shared memory. */
  readonly payloadTimeoutMs: number;
  /** Told what the export threw; the client gets a number only. */
  readonly onFailure: (error: unknown) => void;
  /** Ends all work of this connection. */
  readonly signal: AbortSignal;
}

/** Ends when the client has left, or broken the protocol; everything that it had asked for has ended then. */
export async function serveRequests(options: TransmissionOptions): Promise<void> {
  const running = new Set<Promise<void>>();
  try {
    for (;;) {
      while (running.size >= options.requestsInFlight) await Promise.race(running);
      const accepted = await acceptRequest(options);
      if (accepted === 'end') return;
      if (accepted === 'next') continue;
      const work = answer(options, accepted).finally(() => {
        accepted.release();
        running.delete(work);
      });
      running.add(work);
    }
  } finally {
    await Promise.all(running);
  }
}

interface Accepted {
  readonly request: NbdRequest;
  readonly payload: Buffer | undefined;
  /** Gives its memory back. */
  readonly release: () => void;
}

/** Reads one request and, for a write, its data. A refused one is answered here; its data is read all the same, and dropped. */
async function acceptRequest(options: TransmissionOptions): Promise<Accepted | 'next' | 'end'> {
  const { channel, disk, agreement, budget, signal } = options;
  const header = await channel.read(REQUEST_BYTES);
  const request = header === undefined ? undefined : decodeRequest(header);
  if (request === undefined || request.command === COMMAND.disconnect) return 'end';
  const writes = request.command === COMMAND.write;
  const refused = refusal(request, { sizeBytes: disk.sizeBytes, writable: disk.write !== undefined, ...agreement });
  if (refused !== undefined) {
    await sendError(options, request, refused);
    if (!writes) return 'next';
    if (request.lengthBytes > MAX_PAYLOAD_BYTES) return 'end';
    return (await channel.skip(request.lengthBytes, options.payloadTimeoutMs)) === 'done' ? 'next' : 'end';
  }
  const release = await budget.take(memoryBytes(request), signal);
  if (!writes) return { request, payload: undefined, release };
  const payload = await channel.read(request.lengthBytes, options.payloadTimeoutMs);
  if (payload !== undefined) return { request, payload, release };
  release();
  return 'end';
}

/** What a request keeps in memory until it is answered. */
function memoryBytes({ command, lengthBytes }: NbdRequest): number {
  if (command === COMMAND.read || command === COMMAND.write) return lengthBytes;
  return command === COMMAND.cache ? Math.min(lengthBytes, MAX_PAYLOAD_BYTES) : 0;
}

async function answer(options: TransmissionOptions, accepted: Accepted): Promise<void> {
  const { request } = accepted;
  const { channel, disk, onFailure, signal } = options;
  let reply: readonly Buffer[];
  try {
    reply = await carryOut(disk, accepted, options);
  } catch (error) {
    if (!signal.aborted) onFailure(error);
    await sendError(options, request, signal.aborted ? 'ESHUTDOWN' : errorName(error));
    return;
  }
  await channel.send(...reply);
}

async function carryOut(
  disk: NbdExport,
  { request, payload }: Accepted,
  { agreement, signal }: TransmissionOptions,
): Promise<readonly Buffer[]> {
  const { command, flags, cookie, lengthBytes } = request;
  const offsetBytes = Number(request.offset);
  if (command === COMMAND.read) {
    const data = await disk.read(offsetBytes, lengthBytes, signal);
    return agreement.structured ? readChunks(disk, request, data) : [encodeSimpleReply(cookie, undefined), data];
  }
  if (command === COMMAND.blockStatus) {
    const limit = (flags & COMMAND_FLAG.reqOne) === 0 ? MAX_STATUS_EXTENTS : 1;
    return [encodeStatusChunk(cookie, mergeExtents(disk.ranges(offsetBytes, lengthBytes), 0, limit))];
  }
  if (command === COMMAND.cache) {
    // What is read lands in the export's cache, if it has one; more than a payload at once would push itself out again.
    await disk.read(offsetBytes, memoryBytes(request), signal);
  }
  const { write } = disk;
  if (write !== undefined) {
    if (payload !== undefined) await write.write(offsetBytes, payload, signal);
    if (command === COMMAND.trim) await write.trim(offsetBytes, lengthBytes, signal);
    if (command === COMMAND.writeZeroes) {
      await write.zero(offsetBytes, lengthBytes, (flags & COMMAND_FLAG.noHole) !== 0, signal);
    }
    if (command === COMMAND.flush || (flags & COMMAND_FLAG.fua) !== 0) await write.flush(signal);
  }
  return [encodeSimpleReply(cookie, undefined)];
}

/** The data of a read with its holes left out, in one chunk where the client wants no pieces. */
function readChunks(disk: NbdExport, request: NbdRequest, data: Buffer): Buffer[] {
  const { cookie, flags, lengthBytes } = request;
  const offsetBytes = Number(request.offset);
  if ((flags & COMMAND_FLAG.df) !== 0) return [encodeDataChunk(cookie, offsetBytes, lengthBytes, true), data];
  const extents = mergeExtents(disk.ranges(offsetBytes, lengthBytes), MIN_HOLE_CHUNK_BYTES, Infinity);
  return extents.flatMap(({ offsetBytes: at, lengthBytes: bytes, kind }, index) => {
    const done = index === extents.length - 1;
    if (kind === 'hole') return [encodeHoleChunk(cookie, at, bytes, done)];
    return [encodeDataChunk(cookie, at, bytes, done), data.subarray(at - offsetBytes, at - offsetBytes + bytes)];
  });
}

async function sendError({ channel, agreement }: TransmissionOptions, request: NbdRequest, error: NbdErrorName) {
  const structured =
    agreement.structured && (request.command === COMMAND.read || request.command === COMMAND.blockStatus);
  await channel.send(structured ? encodeErrorChunk(request.cookie, error) : encodeSimpleReply(request.cookie, error));
}

/** What a client can make of a failure: that there is no space, or that something is broken. */
function errorName(error: unknown): NbdErrorName {
  const causes = [error, error instanceof TidemarkError ? error.cause : undefined];
  return causes.some((one) => one instanceof Error && 'code' in one && one.code === 'ENOSPC') ? 'ENOSPC' : 'EIO';
}
