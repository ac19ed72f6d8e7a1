/** What the functions of the app do. Triggers only call them; nothing here knows how they are registered. */
import type { HttpRequest, HttpResponseInit, InvocationContext } from '@azure/functions';
import { createApi } from '../../api/app.ts';
import type { Api } from '../../api/context.ts';
import { openVerifiers } from '../../api/verifiers.ts';
import { createJobRunner, type JobRunner } from '../../commands/job-runner.ts';
import type { Configuration } from '../../config.ts';
import { handleMessage } from '../../distribution/listener.ts';
import { isOrder, JOB_SUBJECT, jobOrder } from '../../distribution/orders.ts';
import { Scheduler } from '../../distribution/scheduler.ts';
import { Turns } from '../../distribution/turns.ts';
import { TidemarkError } from '../../errors.ts';
import type { Runtime } from '../../runtime.ts';
import type { Log } from '../../telemetry/log.ts';
import type { WorkerObserver } from '../../telemetry/worker-observer.ts';
import { Worker } from '../../worker/worker.ts';
import { fromHost, type HostMessage } from './host-session.ts';
import { withinLimit, type TimeLimit } from './time-limit.ts';

export interface HandlerOptions {
  readonly configuration: Configuration;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly observer: Pick<WorkerObserver, 'report' | 'onEvents' | 'openSession' | 'watch'>;
}

/** All that is kept from one invocation to the next: connections, and the one worker that shares the limits among them. */
export class Handlers {
  readonly #options: HandlerOptions;
  readonly #worker: Worker;
  readonly #orders: ReturnType<Runtime['openWorkQueue']>;
  readonly #replies: ReturnType<Runtime['openCommandQueue']>;
  readonly #scheduler: Scheduler;
  readonly #closing = new AbortController();
  #api: Api | undefined;

  /** Opens nothing before it is needed. */
  constructor(options: HandlerOptions) {
    const { runtime, observer } = options;
    const { ports, settings, scheduling } = runtime;
    const { report, onEvents, openSession } = observer;
    const { groupsAtOnce, periodMs } = scheduling;
    this.#options = options;
    this.#worker = new Worker({ ports, settings, groups: [], groupsAtOnce, report, onEvents, openSession });
    observer.watch(this.#worker.counters);
    this.#orders = runtime.openWorkQueue();
    this.#replies = runtime.openCommandQueue();
    this.#scheduler = new Scheduler({
      ports,
      queue: this.#orders,
      events: undefined,
      periodMs,
      report: (error) => this.#report(error),
    });
  }

  /** An order for every group. @throws TidemarkError what storage and the queue throw; the next minute does it again */
  async schedule(): Promise<void> {
    await this.#inTime(({ handOver }) => this.#scheduler.tick(handOver));
  }

  /** An order to prune every group. @throws as {@link Handlers.schedule} */
  async prune(): Promise<void> {
    await this.#inTime(({ handOver }) => this.#scheduler.prune(handOver));
  }

  /** @param bodies of a batch of messages of Event Grid @throws as {@link Handlers.schedule}; then the batch comes again */
  async takeCacheEvents(bodies: unknown): Promise<void> {
    const events: readonly unknown[] = Array.isArray(bodies) ? bodies : [bodies];
    await this.#inTime(({ handOver }) => this.#scheduler.tell(events, handOver));
  }

  /**
   * One message of a session: a turn, a command, a job. What does not end in time is handed over: the rest of a turn and of a job by an order
   * of its own, a command by its message. The group is given back in any case, since nobody says when the session is.
   * @throws TidemarkError when the message is to come again
   */
  async takeMessage(body: unknown, context: Pick<InvocationContext, 'triggerMetadata'>): Promise<void> {
    const given = fromHost(body, context.triggerMetadata);
    await this.#inTime(async (limit) => {
      const turns = new Turns({
        worker: this.#worker,
        queue: this.#orders,
        clock: this.#options.runtime.ports.clock,
        report: (error) => this.#report(error),
        draining: limit.handOver,
      });
      try {
        await this.#handle(given, turns, limit);
      } finally {
        await turns.giveBack(given.session.id);
      }
    });
  }

  async #handle({ message, session }: HostMessage, turns: Turns, limit: TimeLimit): Promise<void> {
    const { commands, ports } = this.#options.runtime;
    const { clock, random } = ports;
    const signal = isOrder(message.subject) ? limit.stop : limit.handOver;
    const report = (error: unknown): void => this.#report(error);
    const listening = { queue: this.#replies, commands, runner: this.#runner(signal), clock, random, report, turns };
    try {
      const failure = (await handleMessage(listening, session, message, signal)) ?? session.refusal;
      if (failure !== undefined) throw failure;
    } catch (error) {
      const isJob = message.subject === JOB_SUBJECT && message.correlationId !== undefined;
      if (!isJob || !limit.handOver.aborted) throw error;
      await this.#order(session.id, message.correlationId, limit.stop);
    }
  }

  /** As the HTTP door of any other host, but that jobs are executed by the function that takes sessions. */
  async answer({ url, method, headers, body }: HttpRequest): Promise<HttpResponseInit> {
    const init = { method, headers, ...(body !== null && { body: body as ReadableStream, duplex: 'half' as const }) };
    const response = await (this.#api ??= this.#openApi()).fetch(new Request(url, init));
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      body: await response.arrayBuffer(),
    };
  }

  #openApi(): Api {
    const { configuration, runtime } = this.#options;
    const { ports, commands } = runtime;
    const { signal } = this.#closing;
    return createApi({
      ports,
      commands,
      runner: this.#runner(signal),
      begin: ({ group, job }, until) => this.#order(group, job, until),
      verifiers: openVerifiers(configuration, undefined).verifiers(() => ports.clock.nowMs()),
      report: (error) => this.#report(error),
      signal,
    });
  }

  #order(group: string, job: string, signal: AbortSignal): Promise<void> {
    return this.#orders.send([jobOrder(group, job, this.#options.runtime.ports.clock.nowUs())], signal);
  }

  #runner(signal: AbortSignal): JobRunner {
    const { commands, ports } = this.#options.runtime;
    return createJobRunner({
      commands,
      sleep: (ms, until) => ports.clock.sleep(ms, until),
      random: ports.random,
      signal,
    });
  }

  #inTime(work: (limit: TimeLimit) => Promise<void>): Promise<void> {
    const { configuration, runtime } = this.#options;
    return withinLimit(runtime.ports.clock, configuration.hosting.functionTimeoutMs, work);
  }

  #report(error: unknown): void {
    this.#options.log.error({ err: error }, 'a function could not do all that was asked for');
  }

  /** When the app ends. Bounded in time. */
  async close(): Promise<void> {
    this.#closing.abort(new TidemarkError('INTERRUPTED', 'the app ends'));
    await Promise.all([this.#orders.close(), this.#replies.close()]);
    await this.#worker.close();
  }
}
