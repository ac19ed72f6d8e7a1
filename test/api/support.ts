/** A real server on a free port, with memory storage and memory Azure behind it. */
import { onTestFinished } from 'vitest';
import { localTokenVerifier, type Verifier } from '../../src/api/auth.ts';
import { startApi } from '../../src/api/server.ts';
import type { CommandService, JobView } from '../../src/commands/commands.ts';
import { createCommandService } from '../../src/failover/service.ts';
import { systemClock } from '../../src/system-clock.ts';
import type { FailoverWorld } from '../failover/support.ts';

export const TOKEN = 'a-local-token-that-no-output-may-show-0123456789';

export interface TestApi {
  readonly url: string;
  /** What was reported to the server's operator. */
  readonly reported: unknown[];
  /** Ends it, as SIGTERM does. */
  stop(): Promise<void>;
  /** With the local token unless the headers say otherwise. */
  get(path: string, headers?: Readonly<Record<string, string>>): Promise<Response>;
  post(path: string, body: unknown, headers?: Readonly<Record<string, string>>): Promise<Response>;
}

export interface ApiOverrides {
  readonly commands?: CommandService;
  readonly verifiers?: readonly Verifier[];
}

/** On the world's storage, with real time: nothing here is to starve the sockets. */
export const serviceOf = (world: FailoverWorld): CommandService =>
  createCommandService({ ...world.failoverPorts, clock: systemClock });

export async function startTestApi(world: FailoverWorld, overrides: ApiOverrides = {}): Promise<TestApi> {
  const stopping = new AbortController();
  const reported: unknown[] = [];
  const { url, ended } = await startApi({
    ports: { ...world.ports, clock: systemClock },
    commands: overrides.commands ?? serviceOf(world),
    verifiers: overrides.verifiers ?? [localTokenVerifier(TOKEN)],
    report: (error) => reported.push(error),
    signal: stopping.signal,
    host: '127.0.0.1',
    port: 0,
    isInsecureAllowed: false,
    random: () => 0.5,
  });
  const stop = async (): Promise<void> => {
    stopping.abort(new Error('SIGTERM'));
    await ended;
  };
  onTestFinished(stop);
  const authorization = `Bearer ${TOKEN}`;
  return {
    url,
    reported,
    stop,
    get: (path, headers) => fetch(`${url}${path}`, { headers: { authorization, ...headers } }),
    post: (path, body, headers) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
  };
}

export const jsonOf = async <T = Record<string, unknown>>(response: Response): Promise<T> =>
  (await response.json()) as T;

/** Gives the command and waits for the end of its job. */
export async function giveByHttp(
  api: Pick<TestApi, 'get' | 'post'>,
  group: string,
  command: Readonly<Record<string, unknown>>,
  key?: string,
): Promise<JobView> {
  const headers: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key };
  const response = await api.post(`/v1/groups/${group}/commands`, command, headers);
  if (response.status !== 202) throw new Error(`${response.status}: ${await response.text()}`);
  const location = response.headers.get('location') ?? '';
  return jsonOf<JobView>(await api.get(`${location}?wait=30`));
}
