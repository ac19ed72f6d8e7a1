/**
 * The places where the broker needs more of rhea than its public interface offers; nothing else may touch rhea's insides.
 * Written against the rhea release that package.json pins.
 */
/* oxlint-disable no-underscore-dangle -- rhea's own names */
import type { Socket } from 'node:net';
import type { Connection, Sender } from 'rhea';

interface LinkInsides {
  local: { attach: Record<string, unknown> };
  state: { local_open: boolean; open_requests: number };
}

interface SenderInsides extends LinkInsides {
  credit: number;
  delivery_count: number;
  _draining: boolean;
  _get_drain: () => boolean;
  session: { outgoing: { process(): void } };
}

interface ConnectionInsides {
  socket: Socket;
  _process: () => void;
  _write_frame: () => void;
}

/** Fields of the attach frame that answers the peer's. Undefined removes a field. */
export function setAttach(link: object, fields: Readonly<Record<string, unknown>>): void {
  Object.assign((link as LinkInsides).local.attach, fields);
}

/** Holds the answer to the peer's attach back until `link.open()` is called. */
export function holdAttach(link: object): void {
  const { state } = link as LinkInsides;
  state.local_open = false;
  state.open_requests = 0;
}

/** Answers every drain, also when the last credit was just used; rhea would stay silent then, and the SDK waits. */
export function answerEveryDrain(sender: Sender): void {
  const insides = sender as unknown as SenderInsides;
  insides._get_drain = () => {
    if (!insides._draining) return false;
    insides.delivery_count += insides.credit;
    insides.credit = 0;
    return true;
  };
}

/** Writes what the link has queued. @returns whether that used up credit. */
export function sendQueued(sender: Sender, queue: () => void): boolean {
  const insides = sender as unknown as SenderInsides;
  const creditBefore = insides.credit;
  queue();
  insides.session.outgoing.process();
  return insides.credit < creditBefore;
}

/** Marks a delivery as settled by the peer: the SDK never settles last, and rhea would keep the delivery for ever. */
export function forgetDelivery(delivery: object): void {
  (delivery as { remote_settled: boolean }).remote_settled = true;
}

/** The socket under a connection. */
export const socketOf = (connection: Connection): Socket => (connection as unknown as ConnectionInsides).socket;

/**
 * Two measures for speed. Attach and first credit leave in one packet: the SDK sleeps for a second when it sees a link without
 * credit. And an empty frame answers input that causes no output: the SDK leaves Nagle on, so its next small write would wait for
 * the kernel's delayed acknowledgement (40 ms).
 */
export function tuneConnection(connection: Connection): void {
  const insides = connection as unknown as ConnectionInsides;
  const { socket } = insides;
  const process = insides._process.bind(connection);
  insides._process = () => {
    socket.cork();
    try {
      process();
    } finally {
      socket.uncork();
    }
  };
  socket.on('data', () => {
    const written = socket.bytesWritten;
    setImmediate(() => {
      if (socket.bytesWritten === written && socket.writable) insides._write_frame();
    });
  });
}
