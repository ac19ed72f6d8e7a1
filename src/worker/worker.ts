/** Drains groups: all that are due once, or round and round until it is told to stop. */
import PQueue from 'p-queue';
import { getGroup, listGroups, type GroupDocument } from '../catalog/groups.ts';
import { getPolicy } from '../catalog/policies.ts';
import type { DrainCounters } from './disk-drain.ts';
import { TidemarkError } from '../errors.ts';
import type { PrunePlan } from '../retention/plan.ts';
import { endGroup, finishDiscard } from './discard.ts';
import { GroupSession } from './group-session.ts';
import type { WorkerPorts, WorkerSettings } from './ports.ts';

/** Groups drained at the same time; the payload budget is shared among them. */
const GROUPS_AT_ONCE = 4;
/** Pause between two looks at a group that is up to date. */
const POLL_MS = 2000;
/** Pause after an error that may pass, doubled each time up to the second figure. */
const RETRY_MS = { first: 1000, most: 30_000 } as const;

export interface GroupOutcome {
  readonly group: string;
  /** Replication of the group has stopped until a resync. */
  readonly needsResync: boolean;
  /** What ended the cycle early; what was due is still due. */
  readonly error?: unknown;
}

export interface WorkerOptions {
  readonly ports: WorkerPorts;
  readonly settings: WorkerSettings;
  /** Only these groups; all when it is empty. */
  readonly groups: readonly string[];
  /** Told of each cycle that ended with an error or a group in need of attention. */
  readonly report: (outcome: GroupOutcome) => void;
}

export class Worker {
  readonly #options: WorkerOptions;
  readonly #sessions = new Map<string, { session: GroupSession; seenAs: string }>();
  /** Disabled groups whose end is done, each with the document that asked for it. */
  readonly #ended = new Map<string, string>();
  /** What this worker has done since it was made. */
  readonly counters: DrainCounters = {
    segments: 0,
    logBytes: 0,
    payloadBytes: 0,
    liveBytes: 0,
    changes: 0,
    putRequests: 0,
    putBytes: 0,
    clearRequests: 0,
    clearBytes: 0,
  };

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  /** One cycle of every group. Errors of one group do not touch the others. */
  async runOnce(signal: AbortSignal): Promise<GroupOutcome[]> {
    const names = await this.#groupNames(signal);
    const queue = new PQueue({ concurrency: GROUPS_AT_ONCE });
    try {
      return await queue.addAll(names.map((group) => () => this.#cycle(group, names.length, signal)));
    } finally {
      await this.close();
    }
  }

  /** Cycle after cycle until `signal` aborts; then everything in hand is finished or dropped, and the leases are given back. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options.ports;
    const queue = new PQueue({ concurrency: GROUPS_AT_ONCE });
    const retryMs = new Map<string, number>();
    const dueAtMs = new Map<string, number>();
    try {
      while (!signal.aborted) {
        const names = await this.#groupNames(signal);
        const due = names.filter((group) => (dueAtMs.get(group) ?? 0) <= clock.nowMs());
        const outcomes = await queue.addAll(due.map((group) => () => this.#cycle(group, names.length, signal)));
        for (const { group, error } of outcomes) {
          const wait =
            error === undefined ? 0 : Math.min((retryMs.get(group) ?? RETRY_MS.first / 2) * 2, RETRY_MS.most);
          retryMs.set(group, wait === 0 ? RETRY_MS.first / 2 : wait);
          dueAtMs.set(group, clock.nowMs() + wait);
        }
        await clock.sleep(POLL_MS, signal).catch(() => undefined);
      }
    } finally {
      await this.close();
    }
  }

  /**
   * Prunes one group, a paused one too; takes it over from its owner for the time.
   * @throws TidemarkError GROUP_DISABLED: the points of a disabled group are kept or given up, all of them
   */
  async prune(group: string, signal: AbortSignal): Promise<PrunePlan> {
    try {
      const document = await getGroup(this.#options.ports.catalog, group, signal);
      if (document.wanted === 'disabled') throw new TidemarkError('GROUP_DISABLED', `group ${group} is disabled`);
      const session = await this.#session(document, 1, signal);
      return await session.prune();
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions.keys()].map((group) => this.#drop(group)));
  }

  async #groupNames(signal: AbortSignal): Promise<readonly string[]> {
    const { groups, ports } = this.#options;
    return groups.length > 0 ? groups : listGroups(ports.catalog, signal);
  }

  async #cycle(group: string, groupCount: number, signal: AbortSignal): Promise<GroupOutcome> {
    const { ports, report } = this.#options;
    let outcome: GroupOutcome = { group, needsResync: false };
    try {
      const document = await getGroup(ports.catalog, group, signal);
      if (document.wanted === 'active') {
        const session = await this.#session(document, groupCount, signal);
        outcome = { group, needsResync: session.needsResync };
        await session.cycle();
        outcome = { group, needsResync: session.needsResync };
      } else {
        await this.#drop(group);
        if (document.wanted === 'disabled') await this.#end(document, signal);
      }
    } catch (error) {
      await this.#drop(group);
      if (signal.aborted) return outcome;
      outcome = { ...outcome, error };
    }
    if (outcome.error !== undefined || outcome.needsResync) report(outcome);
    return outcome;
  }

  /** What the end of a disabled group asks for, once: it is looked at again when its document changes. */
  async #end(document: GroupDocument, signal: AbortSignal): Promise<void> {
    const seenAs = JSON.stringify(document);
    if (this.#ended.get(document.group) === seenAs) return;
    await endGroup({ document, ports: this.#options.ports, signal });
    this.#ended.set(document.group, seenAs);
  }

  /** The open session, or a new one when the group or its policy was changed. */
  async #session(document: GroupDocument, groupCount: number, signal: AbortSignal): Promise<GroupSession> {
    const { ports, settings } = this.#options;
    const policy = await getPolicy(ports.catalog, document.policy, signal);
    const seenAs = JSON.stringify([document.machines, policy]);
    const open = this.#sessions.get(document.group);
    if (open?.seenAs === seenAs) return open.session;
    await this.#drop(document.group);
    await finishDiscard({ document, ports, signal }); // nothing of an earlier epoch may be left where a new one begins
    const session = await GroupSession.open({
      document,
      policy,
      ports,
      settings,
      payloadBudgetBytes: settings.payloadBudgetBytes / Math.min(GROUPS_AT_ONCE, groupCount),
      counters: this.counters,
      signal,
    });
    this.#sessions.set(document.group, { session, seenAs });
    return session;
  }

  async #drop(group: string): Promise<void> {
    const open = this.#sessions.get(group);
    this.#sessions.delete(group);
    await open?.session.close();
  }
}
