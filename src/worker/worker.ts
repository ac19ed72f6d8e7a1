/** Drains groups: all that are due once, or round and round until it is told to stop. */
import PQueue from 'p-queue';
import { FairSlots } from '../apply/fair-slots.ts';
import { getGroup, isFailedOver, listGroups, operationStates, type GroupDocument } from '../catalog/groups.ts';
import { getPolicy } from '../catalog/policies.ts';
import { createPoint } from './create-point.ts';
import { newCounters, type DrainCounters } from './disk-drain.ts';
import { TidemarkError } from '../errors.ts';
import { refusal } from '../failover/states.ts';
import type { MonitoringEvent } from '../monitoring/events.ts';
import { backoffMs, LOOP_PAUSE } from '../retry.ts';
import type { Verification } from '../points/verify-point.ts';
import type { PrunePlan } from '../retention/plan.ts';
import type { Policy } from '../retention/policy.ts';
import { endGroup, finishDiscard } from './discard.ts';
import { isCycleDue } from './glance.ts';
import { GroupSession } from './group-session.ts';
import type { CreatedPoint, Moment } from './on-demand.ts';
import { GROUPS_AT_ONCE, type WorkerPorts, type WorkerSettings } from './ports.ts';
import { verifyPoints } from './verify-points.ts';

/** Pause between two looks at a group that is up to date. */
const POLL_MS = 2000;
/** After this long a group with a backlog lets others have its place; a cut or a window is always finished first. */
const SLICE_MS = 30_000;
/** Storage that asks for more patience than this is asked again all the same. */
const MAX_RETRY_AFTER_MS = 300_000;
/**
 * A group that stays open this long is opened anew. An opening looks at everything: so what a request that had been given up left
 * behind (a manifest that arrives after its point was pruned) is not listed for longer.
 */
const SESSION_MS = 3_600_000;
/** Attempts of `runOnce` at a group whose errors may pass. */
const TRIES_OF_ONE_RUN = 3;

/** What storage asked for (Retry-After), 0 when it did not. */
function retryAfterMs(error: unknown): number {
  const asked = error instanceof TidemarkError ? error.details['retryAfterMs'] : undefined;
  return typeof asked === 'number' ? Math.min(asked, MAX_RETRY_AFTER_MS) : 0;
}

const PASSING: ReadonlySet<string> = new Set(['STORAGE_UNAVAILABLE', 'STORAGE_TIMEOUT', 'IDENTITY_UNAVAILABLE']);

/** Another owner, or a topic that does not answer, is no reason to do the group's work again. */
const mayPass = (error: unknown): boolean => error instanceof TidemarkError && PASSING.has(error.code);

export interface GroupOutcome {
  /** `*`: all of them, when the list could not be read. */
  readonly group: string;
  /** Replication of the group has stopped until a resync. */
  readonly needsResync: boolean;
  /** What ended the cycle early; what was due is still due. */
  readonly error?: unknown;
}

/** A cycle of a group that somebody else decides the turns of. */
export interface TurnOutcome {
  readonly outcome: GroupOutcome;
  /** Whether another turn has something to do at once. */
  readonly hasMore: boolean;
}

export interface WorkerOptions {
  readonly ports: WorkerPorts;
  readonly settings: WorkerSettings;
  /** Only these groups; all when it is empty. */
  readonly groups: readonly string[];
  readonly groupsAtOnce?: number;
  /** Told of each cycle that ended with an error or a group in need of attention. */
  readonly report: (outcome: GroupOutcome) => void;
  /** Told of each group's events once they are queued durably; they are sent to the topic whoever listens here. */
  readonly onEvents?: (group: string, events: readonly MonitoringEvent[]) => void;
  /** Instead of `GroupSession.open`: one that measures what it opens. */
  readonly openSession?: typeof GroupSession.open;
}

interface Cycle {
  /** Asked between two cuts. */
  readonly goOn: () => boolean;
  readonly glances?: true;
}

export class Worker {
  readonly #options: WorkerOptions;
  readonly #groupsAtOnce: number;
  readonly #sessions = new Map<string, { session: GroupSession; seenAs: string; openedAtMs: number }>();
  readonly #account: FairSlots;
  /** Disabled groups whose end is done, each with the document that asked for it. */
  readonly #ended = new Map<string, string>();
  /** What this worker has done since it was made. */
  readonly counters: DrainCounters = newCounters();

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#groupsAtOnce = options.groups.length === 1 ? 1 : (options.groupsAtOnce ?? GROUPS_AT_ONCE);
    this.#account = new FairSlots({
      concurrency: options.settings.requestsPerAccount,
      sharers: this.#groupsAtOnce,
    });
  }

  /**
   * Everything that is due now, of every group. Errors that may pass are tried again a few times; errors of one group do not touch the
   * others.
   */
  async runOnce(signal: AbortSignal): Promise<GroupOutcome[]> {
    const names = await this.#groupNames(signal);
    const queue = new PQueue({ concurrency: this.#groupsAtOnce });
    try {
      return await queue.addAll(names.map((group) => () => this.#cycleWithRetries(group, signal)));
    } finally {
      await this.close();
    }
  }

  async #cycleWithRetries(group: string, signal: AbortSignal): Promise<GroupOutcome> {
    for (let attempt = 1; ; attempt++) {
      const { outcome } = await this.#cycle(group, { goOn: () => true }, signal);
      if (!mayPass(outcome.error) || attempt === TRIES_OF_ONE_RUN || signal.aborted) return outcome;
      await this.#options.ports.clock.sleep(this.#pauseMs(outcome.error, attempt), signal).catch(() => undefined);
    }
  }

  /** Before the next attempt at a group whose last `failures` attempts failed. */
  #pauseMs(error: unknown, failures: number): number {
    return Math.max(backoffMs({ ...LOOP_PAUSE, random: this.#options.ports.random }, failures), retryAfterMs(error));
  }

  /**
   * Cycle after cycle until `signal` aborts; then everything in hand is finished or dropped, and the leases are given back. Each group
   * has its own rhythm: one with a long backlog works in slices, one with an error waits longer each time, and neither holds up others.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options.ports;
    const queue = new PQueue({ concurrency: this.#groupsAtOnce });
    const busy = new Set<string>();
    const failures = new Map<string, { count: number; dueAtMs: number }>();
    const cycle = async (group: string): Promise<void> => {
      const { error } = (await this.#cycle(group, { goOn: this.#slice() }, signal)).outcome;
      const count = error === undefined ? 0 : (failures.get(group)?.count ?? 0) + 1;
      failures.set(group, { count, dueAtMs: clock.nowMs() + (count === 0 ? 0 : this.#pauseMs(error, count)) });
      busy.delete(group);
    };
    try {
      while (!signal.aborted) {
        for (const group of await this.#groupNamesWhenever(signal)) {
          if (busy.has(group) || (failures.get(group)?.dueAtMs ?? 0) > clock.nowMs()) continue;
          busy.add(group);
          void queue.add(() => cycle(group));
        }
        await clock.sleep(POLL_MS, signal).catch(() => undefined);
      }
      await queue.onIdle();
    } finally {
      await this.close();
    }
  }

  /**
   * What is due of one group, or as much as fits into a slice; the group stays owned until it is given back. One that is not owned yet is
   * first glanced at, and left alone when nothing is due. Never throws.
   * @param draining stops the turn at the next cut or window
   */
  async turn(group: string, draining: AbortSignal, signal: AbortSignal): Promise<TurnOutcome> {
    const isInTime = this.#slice();
    return this.#cycle(group, { goOn: () => isInTime() && !draining.aborted, glances: true }, signal);
  }

  /** Ends what {@link Worker.turn} has begun. */
  giveBack(group: string): Promise<void> {
    return this.#drop(group);
  }

  #slice(): () => boolean {
    const { clock } = this.#options.ports;
    const endMs = clock.nowMs() + SLICE_MS;
    return () => clock.nowMs() < endMs;
  }

  /** No groups while storage does not answer: the next look is as good as a retry. */
  async #groupNamesWhenever(signal: AbortSignal): Promise<readonly string[]> {
    try {
      return await this.#groupNames(signal);
    } catch (error) {
      if (!signal.aborted) this.#options.report({ group: '*', needsResync: false, error });
      return [];
    }
  }

  /**
   * Prunes one group, a paused one too; takes it over from its owner for the time.
   * @throws TidemarkError GROUP_DISABLED: the points of a disabled group are kept or given up, all of them; FAILOVER_STATE: those of a
   * failover stay as they are
   */
  async prune(group: string, signal: AbortSignal): Promise<PrunePlan> {
    const document = await getGroup(this.#options.ports.catalog, group, signal);
    if (isFailedOver(document)) throw refusal(group, operationStates(document), 'prune');
    return this.#owning(group, signal, (session) => session.prune());
  }

  /**
   * A point of everything that was received (`latest`), or of all writes before a time in microseconds of source time. Takes the
   * group over from its owner for the time; building on copies is done without owning it.
   * @throws TidemarkError POINT_UNREACHABLE, GROUP_DISABLED
   */
  async createPoint(group: string, at: Moment, signal: AbortSignal): Promise<CreatedPoint> {
    const { ports, settings } = this.#options;
    return createPoint({
      group,
      at,
      ports,
      settings,
      account: this.#account,
      own: (work) => this.#owning(group, signal, work),
      signal,
    });
  }

  async #owning<T>(group: string, signal: AbortSignal, work: (session: GroupSession) => Promise<T>): Promise<T> {
    try {
      const document = await getGroup(this.#options.ports.catalog, group, signal);
      if (document.wanted === 'disabled') throw new TidemarkError('GROUP_DISABLED', `group ${group} is disabled`);
      const policy = await getPolicy(this.#options.ports.catalog, document.policy, signal);
      return await work(await this.#open(document, policy, signal));
    } finally {
      await this.#drop(group);
    }
  }

  /**
   * Verifies points of one group, the named ones or all. Reading needs no ownership; only to report damage as an event is the group
   * taken over from its owner, for that moment.
   * @throws TidemarkError POINT_NOT_FOUND; GROUP_DISABLED when there is damage to report
   */
  async verify(group: string, points: readonly string[], signal: AbortSignal): Promise<readonly Verification[]> {
    const results = await verifyPoints(this.#options.ports, { group, points }, signal);
    if (results.some(({ ok }) => !ok)) await this.#owning(group, signal, (session) => session.reportDamage(results));
    return results;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions.keys()].map((group) => this.#drop(group)));
  }

  async #groupNames(signal: AbortSignal): Promise<readonly string[]> {
    const { groups, ports } = this.#options;
    return groups.length > 0 ? groups : listGroups(ports.catalog, signal);
  }

  /** Never throws. */
  async #cycle(group: string, how: Cycle, signal: AbortSignal): Promise<TurnOutcome> {
    const { ports, report } = this.#options;
    let outcome: GroupOutcome = { group, needsResync: false };
    let hasMore = false;
    try {
      const document = await getGroup(ports.catalog, group, signal);
      if (document.wanted === 'active' && !isFailedOver(document)) {
        const session = await this.#session(document, how, signal);
        if (session === undefined) return { outcome, hasMore };
        outcome = { ...outcome, needsResync: session.needsResync };
        const { deferred, ...result } = await session.cycle(how.goOn);
        const { needsResync } = session;
        ({ hasMore } = result);
        outcome = { group, needsResync, ...(deferred !== undefined && { error: deferred }) };
      } else {
        await this.#drop(group);
        if (document.wanted === 'disabled') await this.#end(document, signal);
      }
    } catch (error) {
      await this.#drop(group);
      if (signal.aborted) return { outcome, hasMore: false };
      outcome = { ...outcome, error };
    }
    if (outcome.error !== undefined || outcome.needsResync) report(outcome);
    return { outcome, hasMore };
  }

  /** What the end of a disabled group asks for, once: it is looked at again when its document changes. */
  async #end(document: GroupDocument, signal: AbortSignal): Promise<void> {
    const seenAs = JSON.stringify(document);
    if (this.#ended.get(document.group) === seenAs) return;
    const { ports, onEvents } = this.#options;
    await endGroup({ document, ports, onEvents, signal });
    this.#ended.set(document.group, seenAs);
  }

  /** The open session, or a new one when the group or its policy was changed; undefined when a glance says that nothing is due. */
  async #session(document: GroupDocument, how: Cycle, signal: AbortSignal): Promise<GroupSession | undefined> {
    const policy = await getPolicy(this.#options.ports.catalog, document.policy, signal);
    const isOpen = this.#sessions.has(document.group);
    if (how.glances === true && !isOpen) {
      const { ports } = this.#options;
      if (!(await isCycleDue({ document, policy, ports, signal }))) return undefined;
    }
    return this.#open(document, policy, signal);
  }

  async #open(document: GroupDocument, policy: Policy, signal: AbortSignal): Promise<GroupSession> {
    const { ports, settings } = this.#options;
    const seenAs = JSON.stringify([document.machines, policy]);
    const open = this.#sessions.get(document.group);
    const nowMs = ports.clock.nowMs();
    if (open?.seenAs === seenAs && nowMs - open.openedAtMs < SESSION_MS) return open.session;
    await this.#drop(document.group);
    await finishDiscard({ document, ports, onEvents: this.#options.onEvents, signal }); // nothing of an earlier epoch may be left where a new one begins
    const { openSession = (...given) => GroupSession.open(...given) } = this.#options;
    const session = await openSession({
      document,
      policy,
      ports,
      settings,
      account: this.#account,
      payloadBudgetBytes: settings.payloadBudgetBytes / this.#groupsAtOnce,
      counters: this.counters,
      onEvents: this.#options.onEvents,
      signal,
    });
    this.#sessions.set(document.group, { session, seenAs, openedAtMs: nowMs });
    return session;
  }

  async #drop(group: string): Promise<void> {
    const open = this.#sessions.get(group);
    this.#sessions.delete(group);
    await open?.session.close();
  }
}
