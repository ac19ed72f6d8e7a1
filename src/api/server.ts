/** The HTTP door: requests, the jobs that came by it, and its socket. */
import { listGroups } from '../catalog/groups.ts';
import { createJobRunner } from '../commands/job-runner.ts';
import { hasEnded } from '../commands/job-view.ts';
import { TidemarkError } from '../errors.ts';
import { withRetries } from '../retry.ts';
import { untilAborted } from '../until-aborted.ts';
import { createApi } from './app.ts';
import type { ApiOptions } from './context.ts';
import { DOOR, executeBehind } from './handlers.ts';
import { serveHttp, type Fetch } from './http-server.ts';

/** About two minutes of patience with storage when a server starts. */
const TAKE_UP_RETRY = { attempts: 8, firstDelayMs: 1000, maxDelayMs: 30_000 } as const;

export interface DoorOptions extends Omit<ApiOptions, 'runner'> {
  /** Aborts when no more jobs are to be taken up. */
  readonly draining?: AbortSignal;
  /** In [0, 1). */
  readonly random: () => number;
}

export interface ServerOptions extends DoorOptions {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Listen where others reach it, though tokens are sent in the clear. */
  readonly isInsecureAllowed: boolean;
}

export interface RunningApi {
  /** `http://127.0.0.1:10103`. */
  readonly url: string;
  /** Resolves when it has ended, after the signal has aborted: within about ten seconds. */
  readonly ended: Promise<void>;
}

/** The door without a socket. */
export interface HttpDoor {
  readonly fetch: Fetch;
  /** Executes jobs of this door that are not over, in the background. */
  takeUpJobs(): void;
  /** After the signal has aborted: resolves when nothing that came by this door is executed any more. Never throws. */
  settled(): Promise<void>;
}

/** When the signal aborts, requests end with an error, and jobs stay where they are. */
export function openDoor(options: DoorOptions): HttpDoor {
  const { commands, ports, random, draining, signal, report } = options;
  const sleep = (ms: number, until: AbortSignal): Promise<void> => ports.clock.sleep(ms, until);
  const runner = createJobRunner({ commands, sleep, random, signal });
  const api = createApi({ ...options, runner });
  let taking: Promise<void> | undefined;
  return {
    fetch: (request, env) => api.fetch(request, env),
    takeUpJobs: () => {
      const policy = { ...TAKE_UP_RETRY, sleep, random };
      const until = draining === undefined ? signal : AbortSignal.any([signal, draining]);
      taking ??= withRetries(policy, until, () => takeUp({ ...options, runner, signal: until })).catch(
        (error: unknown) => {
          if (!until.aborted) report(error);
        },
      );
    },
    settled: async () => {
      await Promise.all([taking, runner.idle()]);
    },
  };
}

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/.test(host);

/** Listens, and takes up jobs of this door that are not over. @throws TidemarkError API_HOST_INSECURE, API_PORT_TAKEN */
export async function startApi(options: ServerOptions): Promise<RunningApi> {
  const { host, port, signal } = options;
  if (!isLoopback(host) && !options.isInsecureAllowed) {
    throw new TidemarkError(
      'API_HOST_INSECURE',
      `${host} is no loopback address, and tokens would go there in the clear`,
    );
  }
  const stop = new AbortController(); // of jobs and requests, a moment after the socket is closed
  const door = openDoor({ ...options, signal: stop.signal });
  const service = await serveHttp({ host, port, fetch: door.fetch });
  door.takeUpJobs();
  const end = async (): Promise<void> => {
    await untilAborted(signal);
    await service.close(() => {
      stop.abort(new TidemarkError('INTERRUPTED', 'the server ends'));
      return door.settled();
    });
  };
  return { url: service.url, ended: end() };
}

/** Jobs that came by this door before, and that nobody has ended: one group after the other, no faster than they are executed. */
async function takeUp(options: ApiOptions): Promise<void> {
  const { ports, commands, runner, report, signal } = options;
  for (const group of await listGroups(ports.catalog, signal)) {
    const jobs = await commands.jobs(group, signal);
    for (const job of jobs.toReversed()) {
      if (hasEnded(job) || !job.requestedBy.endsWith(DOOR)) continue;
      await runner.untilRoom();
      signal.throwIfAborted();
      executeBehind({ runner, report, signal }, job);
    }
  }
}
