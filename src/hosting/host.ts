/** One process that does everything, or some of it: takes sessions, gives orders, answers HTTP. */
import { serveHttp, type Fetch } from '../api/http-server.ts';
import { problemHeaders, problemOf } from '../api/problem.ts';
import { openDoor, type HttpDoor } from '../api/server.ts';
import { openVerifiers } from '../api/verifiers.ts';
import type { Configuration } from '../config.ts';
import { Work, withScheduler } from '../distribution/work.ts';
import { TidemarkError } from '../errors.ts';
import type { Runtime } from '../runtime.ts';
import type { Log } from '../telemetry/log.ts';
import type { WorkerObserver } from '../telemetry/worker-observer.ts';
import { untilAborted } from '../until-aborted.ts';
import { answerProbe } from './health.ts';
import { Heartbeats } from './heartbeats.ts';
import { openDependencies, Readiness } from './readiness.ts';

export interface HostOptions {
  readonly configuration: Configuration;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly observer: Pick<WorkerObserver, 'report' | 'onEvents' | 'openSession' | 'watch'>;
  /** Address to listen on. */
  readonly host: string;
  /** For what probes tell; may only grow. */
  readonly nowMs: () => number;
  /** Aborts when nothing more is to be taken on, and what is in hand is to end at its next stop. */
  readonly draining: AbortSignal;
  /** Aborts, after `draining`, when what is still in hand is to be left where it is. */
  readonly signal: AbortSignal;
  /** Told once requests are answered. */
  readonly onListening?: (url: string) => void;
}

/** Resolves after `draining` has aborted and everything is given back. @throws TidemarkError API_PORT_TAKEN, CONFIG_MISSING, CONFIG_INVALID */
export async function runHost(options: HostOptions): Promise<void> {
  const { configuration, runtime, log, nowMs, draining, signal } = options;
  const { roles, httpPort } = configuration.hosting;
  const heartbeats = new Heartbeats(nowMs);
  const depending = openDependencies(runtime);
  const readiness = new Readiness(depending.dependencies, nowMs);
  const door = roles.includes('api') ? doorOf(options) : undefined;
  try {
    const service = await serveHttp({
      host: options.host,
      port: httpPort,
      fetch: async (request, bindings) =>
        (await answerProbe({ heartbeats, readiness, draining }, request)) ??
        (await answerRequest(door, draining, request, bindings)),
    });
    log.info({ url: service.url, roles }, 'listening');
    options.onListening?.(service.url);
    door?.takeUpJobs();
    try {
      await Promise.all([...loopsOf(options, heartbeats), untilAborted(draining)]);
      await door?.settled();
    } finally {
      await service.close(async () => undefined);
    }
    if (signal.aborted) log.warn('some work was left where it is; whoever takes its session goes on with it');
  } finally {
    await depending.close();
  }
}

function doorOf({ configuration, runtime, log, draining, signal }: HostOptions): HttpDoor {
  const { ports, commands } = runtime;
  const { verifiers } = openVerifiers(configuration, undefined);
  return openDoor({
    ports,
    commands,
    verifiers: verifiers(() => ports.clock.nowMs()),
    report: (error) => log.error({ err: error }, 'a request or its job failed'),
    random: ports.random,
    draining,
    signal,
  });
}

/** The loops of the roles, each with its heartbeat. */
function loopsOf(options: HostOptions, heartbeats: Heartbeats): Promise<void>[] {
  const { configuration, runtime, log, observer, draining, signal } = options;
  const { roles } = configuration.hosting;
  const loops: Promise<void>[] = [];
  if (roles.includes('worker')) {
    const reportError = (error: unknown): void => log.warn({ err: error }, 'the queue of sessions');
    const { report, onEvents, openSession } = observer;
    const beat = (): void => heartbeats.beat('sessions');
    const work = new Work({ ...runtime, report, onEvents, openSession, reportError, draining, beat });
    observer.watch(work.worker.counters);
    loops.push(work.run(signal));
  }
  if (roles.includes('scheduler')) {
    const reportError = (error: unknown): void => log.warn({ err: error }, 'orders');
    const giving = { ...runtime, reportError, beat: (loop: string) => heartbeats.beat(loop) };
    // Orders cost nothing to leave: the next scheduler gives the same ones.
    loops.push(withScheduler(giving, (scheduler) => scheduler.run(AbortSignal.any([draining, signal]))));
  }
  return loops;
}

async function answerRequest(
  door: HttpDoor | undefined,
  draining: AbortSignal,
  ...[request, bindings]: Parameters<Fetch>
): Promise<Response> {
  if (door === undefined) return problem(new TidemarkError('ROUTE_NOT_FOUND', 'this process answers probes only'));
  if (draining.aborted) return problem(new TidemarkError('INTERRUPTED', 'the process ends'));
  return door.fetch(request, bindings);
}

function problem(error: TidemarkError): Response {
  const body = problemOf(error);
  return new Response(JSON.stringify(body), {
    status: body.status,
    headers: { ...problemHeaders(body), connection: 'close' },
  });
}
