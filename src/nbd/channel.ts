/** One client's socket as a stream of whole messages, with back-pressure in both directions. */
import type { Socket } from 'node:net';

/** At most that much is taken from the socket at once: its own buffer, which a larger wish would make it grow. */
const PIECE_BYTES = 64 * 1024;
/** How long a client may go on sending after its end: a socket closed over unread bytes would take the last reply away from it. */
const LINGER_MS = 500;

export interface Channel {
  /** Aborts when the connection is gone. */
  readonly gone: AbortSignal;
  /**
   * Exactly `lengthBytes` bytes; undefined when the client ended the stream before the last of them. Nothing is taken from the socket
   * between two calls, so that a client which is not waited for is stopped by its own socket. After `withinMs` the connection is ended.
   */
  read(lengthBytes: number, withinMs?: number): Promise<Buffer | undefined>;
  /** Reads as {@link read} and keeps nothing. */
  skip(lengthBytes: number, withinMs: number): Promise<'done' | 'ended'>;
  /** One message in parts, never mixed with another one. Ends when the kernel has taken it, or the connection is gone. */
  send(...parts: readonly Buffer[]): Promise<void>;
  /** Says that nothing more follows, drops what the client still sends, and ends when it leaves, soon in any case. */
  end(): Promise<void>;
  /** Ends the connection at once. */
  destroy(): void;
}

/** `stallMs`: a client that takes nothing of a reply for so long is ended. */
export function openChannel(socket: Socket, stallMs: number): Channel {
  const gone = new AbortController();
  let ended = false;
  let wake = (): void => undefined;
  const onReadable = (): void => wake();
  socket.on('readable', onReadable);
  socket.on('end', () => {
    ended = true;
    wake();
  });
  socket.on('close', () => {
    ended = true;
    gone.abort(new Error('the client is gone'));
    wake();
  });
  // What went wrong is of no use to anybody: the peer is gone. `close` follows.
  socket.on('error', () => undefined);
  socket.setTimeout(stallMs, () => {
    if (socket.writableLength > 0) socket.destroy();
  });

  const take = async (lengthBytes: number, keep: (piece: Buffer, at: number) => void): Promise<boolean> => {
    for (let done = 0; done < lengthBytes;) {
      const piece = socket.read(Math.min(socket.readableLength, lengthBytes - done, PIECE_BYTES)) as Buffer | null;
      if (piece !== null) {
        keep(piece, done);
        done += piece.length;
      } else if (ended) return false;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
    return true;
  };
  const within = async <T>(limitMs: number | undefined, work: Promise<T>): Promise<T> => {
    const timer = limitMs === undefined ? undefined : setTimeout(() => socket.destroy(), limitMs);
    return work.finally(() => clearTimeout(timer));
  };

  return {
    gone: gone.signal,
    async read(lengthBytes, withinMs) {
      const target = Buffer.allocUnsafe(lengthBytes);
      const whole = take(lengthBytes, (piece, at) => void piece.copy(target, at));
      return (await within(withinMs, whole)) ? target : undefined;
    },
    async skip(lengthBytes, withinMs) {
      return (await within(
        withinMs,
        take(lengthBytes, () => undefined),
      ))
        ? 'done'
        : 'ended';
    },
    async send(...parts) {
      if (!socket.writable) return;
      await new Promise<void>((resolve) => {
        socket.cork();
        // A write that fails ends the connection, which its reader sees.
        for (const [index, part] of parts.entries()) {
          socket.write(part, index === parts.length - 1 ? () => resolve() : undefined);
        }
        socket.uncork();
      });
    },
    async end() {
      if (gone.signal.aborted) return;
      const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()));
      socket.end();
      socket.off('readable', onReadable).resume();
      await within(LINGER_MS, closed);
    },
    destroy: () => void socket.destroy(),
  };
}
