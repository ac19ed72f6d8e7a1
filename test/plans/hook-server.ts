/** A webhook's receiver on this machine that keeps what it gets, and answers as it is told. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll } from 'vitest';

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export type Answer = (response: ServerResponse, nth: number) => void;

export interface HookServer {
  readonly url: string;
  readonly received: Received[];
  /** How the next requests are answered; 204 unless set. */
  answer: Answer;
}

export const noContent: Answer = (response) => void response.writeHead(204).end();

export function useHookServer(): HookServer {
  const state: { url: string; received: Received[]; answer: Answer } = { url: '', received: [], answer: noContent };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      state.received.push({ path: request.url ?? '', headers: request.headers, body });
      state.answer(response, state.received.length);
    });
  });
  beforeAll(async () => {
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    state.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
  });
  return state;
}
